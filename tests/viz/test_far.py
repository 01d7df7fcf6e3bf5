"""Arrows that reach far are drawn beside the picture, so that what is laid out grows with the number of boxes."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qfx
from qfx.viz.dot import Style, write_dot
from qfx.viz.far import FAR, _lanes, _Place, far_arrows, split_far
from qfx.viz.render import render
from qfx.viz.scene import Arrow, Box, Scene, Value
from tests.viz.models import quantized
from tests.viz.test_page import browser, opened, shown  # noqa: F401

_ROWS_OF_ONE, _ROWS_OF_SMALL, _ROWS_A_BOX = 30, 600, 3


class Wired:
    """A scene that is written box by box, each with the frame that it is in and the boxes that it reads."""

    def __init__(self) -> None:
        self.boxes: list[Box] = []
        self.arrows: list[Arrow] = []

    def add(self, frame: str, *read: str) -> str:
        name, path = f"n{len(self.boxes)}", frame.split(".") if frame else []
        group = tuple(".".join(path[: i + 1]) for i in range(len(path)))
        self.boxes.append(Box(name, "conv", "int8", "conv", frame, group=group))
        self.arrows += [Arrow(source, name, Value("quint8")) for source in read]
        return name

    @property
    def scene(self) -> Scene:
        return Scene("int8", tuple(self.boxes), tuple(self.arrows))


def masked(count: int) -> Scene:
    """Layers that all read one mask."""
    wired = Wired()
    x, mask = wired.add(""), wired.add("")
    for i in range(count // 5):
        q, k = (wired.add(f"layers.{i}.attention", x) for _ in range(2))
        y = wired.add(f"layers.{i}.attention", q, k, mask)
        x = wired.add(f"layers.{i}", wired.add(f"layers.{i}.output", y, x), y)
    return wired.scene


def skipping(count: int) -> Scene:
    """A U-Net: what is made first is read last."""
    wired = Wired()
    x, kept = wired.add(""), []
    for i in range(count // 4):
        x = wired.add(f"down.{i}", wired.add(f"down.{i}", x))
        kept.append(x)
    for i in range(count // 4):
        x = wired.add(f"up.{i}", wired.add(f"up.{i}", x, kept.pop()))
    return wired.scene


def dense(count: int) -> Scene:
    """Each layer of a block reads all before it."""
    wired = Wired()
    made = [wired.add("")]
    for i in range(count):
        made = [*(made if i % 8 else made[-1:]), wired.add(f"blocks.{i // 8}", *made)]
    return wired.scene


def residual(count: int) -> Scene:
    """Blocks of three in stages, each with a skip."""
    wired = Wired()
    x = wired.add("")
    for i in range(count // 3):
        frame = f"stages.{i // 30}.{i % 30}"
        x = wired.add(frame, wired.add(frame, wired.add(frame, x)), x)
    return wired.scene


KINDS = (masked, skipping, dense, residual)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [24, 300, 2800])
def test_the_rows_that_arrows_pass_grow_with_the_boxes(kind: Callable[[int], Scene], count: int) -> None:
    """What takes Graphviz long is bounded in the source that it is given, and no arrow is lost on the way there."""
    scene = kind(count)
    near, far = split_far(write_dot(scene, Style(columns=False)))
    number = {name: int(name[1:]) for name in scene.by_name}
    arrows = [(int(a), int(b)) for a, b in re.findall(r'^"n(\d+)" -> "n(\d+)"', near, re.MULTILINE)]
    beside = [(int(a), int(b)) for line in far for a, b in re.findall(r'^"n(\d+)" -> "n(\d+)"', line)]
    assert sorted(arrows + beside) == sorted((number[a.source], number[a.target]) for a in scene.arrows)
    rows = [scene.rows[f"n{b}"] - scene.rows[f"n{a}"] for a, b in arrows]
    assert sum(rows) <= max(_ROWS_OF_SMALL, _ROWS_A_BOX * len(scene.boxes))
    assert max(rows) <= _ROWS_OF_ONE or not far
    assert bool(far) == (kind is not residual and count > 24)


@pytest.mark.parametrize("kind", [masked, skipping, dense])
def test_a_far_arrow_leads_from_its_box_to_its_box(kind: Callable[[int], Scene]) -> None:
    scene = kind(200)
    svg = render(write_dot(scene, Style(legend=False, columns=False)), "svg").decode()
    boxes = {box.name: _box(svg, box.name) for box in scene.boxes}
    far = far_arrows(scene)
    assert far
    assert svg.count('class="edge') == len(scene.arrows)
    assert 'class="cluster"' in svg
    for index in far:
        arrow, group = scene.arrows[index], _group(svg, f"arrow-{index}")
        points = [tuple(map(float, p)) for p in re.findall(r"(-?[\d.]+),(-?[\d.]+)", _attribute(group, "path", "d"))]
        (left, _, right, bottom), (begin, top, end, _) = boxes[arrow.source], boxes[arrow.target]
        assert points[0] == pytest.approx(((left + right) / 2, bottom), abs=0.1)
        assert points[-1] == pytest.approx(((begin + end) / 2, top - 6), abs=0.1)
        assert min(x for x, _ in points) < min(box[0] for box in boxes.values())


def _group(svg: str, name: str) -> str:
    found = re.search(rf'<g id="{re.escape(name)}" .*?(?=<g id="(?!a_)|</svg>)', svg, re.DOTALL)
    assert found is not None, name
    return found[0]


def _attribute(group: str, element: str, name: str) -> str:
    found = re.search(rf'<{element} [^>]*?{name}="([^"]*)"', group)
    assert found is not None
    return found[1]


def _box(svg: str, name: str) -> tuple[float, float, float, float]:
    points = re.findall(r"(-?[\d.]+),(-?[\d.]+)", _attribute(_group(svg, f"box&#45;{name}"), "path", "d"))
    xs, ys = [float(x) for x, _ in points], [float(y) for _, y in points]
    return min(xs), min(ys), max(xs), max(ys)


@pytest.mark.parametrize("seed", range(20))
def test_arrows_of_two_boxes_share_no_piece_of_a_lane(seed: int) -> None:
    rng = random.Random(seed)
    at = [_Place(0.0, y - 10.0, y + 10.0, y - 10.0, y + 10.0) for y in rng.sample(range(0, 9000, 30), 40)]
    ends = [(min(pair, key=lambda p: p.top), max(pair, key=lambda p: p.top)) for pair in zip(at[::2], at[1::2])]  # noqa: B905
    lanes = _lanes(ends)
    for i, (source, target) in enumerate(ends):
        for other, end in ends[:i]:
            apart = target.row_top <= other.row_bottom or end.row_top <= source.row_bottom
            assert apart or lanes[source] != lanes[other]


def test_a_name_can_not_pass_for_a_far_arrow() -> None:
    wired = Wired()
    wired.add(f"a{FAR}", wired.add(f"b -> {FAR}"))
    near, far = split_far(write_dot(wired.scene, Style()))
    assert far == []
    assert near == write_dot(wired.scene, Style())


class Reading(nn.Module):
    """Blocks in stages that all read what the stem made, and a residual each."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.back = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor, first: Tensor) -> Tensor:
            return torch.relu(self.back(torch.relu(self.conv(x)) * first) + x)

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.stages = nn.ModuleList(nn.ModuleList(Reading.Block() for _ in range(10)) for _ in range(blocks // 10))

    def forward(self, x: Tensor) -> Tensor:
        first = x = self.stem(x)
        for stage in self.stages:
            for block in stage:
                x = block(x, first)
        return x


@pytest.mark.slow
def test_the_page_of_some_hundred_nodes_closes_and_opens(browser: Any, tmp_path: Path) -> None:  # noqa: F811
    x = torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    path = qfx.write_report(tmp_path / "a.html", quantized(Reading(100), x))
    for page in opened(browser, path):
        boxes = page.evaluate("document.querySelectorAll('#graph .node').length")
        assert boxes > 300
        assert page.evaluate("document.querySelectorAll('#graph .edge.far').length") > 50
        assert len(shown(page)) + len(shown(page, ".cover")) <= 60
        page.click("#open-all")
        assert len(shown(page)) == boxes
        page.goto(f"{path.as_uri()}#node=stages_7_3_back")
        page.wait_for_function("document.querySelector('#details h2').textContent.includes('conv')")
        assert "box-stages_7_3_back" in shown(page)
