"""Long pictures as columns: nothing is lost on the way from one to the next, and people can read them."""

from __future__ import annotations

import random

import pytest

from qfx.viz.columns import columns_of
from qfx.viz.scene import Arrow, Box, Scene, Value


def scene_of(names: list[str], pairs: list[tuple[str, str]]) -> Scene:
    boxes = tuple(Box(name, "conv", "int8", "conv") for name in names)
    return Scene("int8", boxes, tuple(Arrow(a, b, Value("quint8")) for a, b in pairs))


def chain(length: int, skip: int = 0) -> Scene:
    names = [f"n{i}" for i in range(length)]
    pairs = [(names[i], names[i + 1]) for i in range(length - 1)]
    return scene_of(names, pairs + [(names[i], names[i + skip]) for i in range(0, length - skip, skip or length)])


def randomly(seed: int) -> Scene:
    rng = random.Random(seed)
    names = [f"n{i}" for i in range(rng.randint(1, 150))]
    pairs = [(names[rng.randint(max(0, i - rng.choice((1, 3, 40))), i - 1)], names[i]) for i in range(1, len(names))]
    return scene_of(names, pairs)


def whole(columns: list[Scene]) -> set[tuple[str, str]]:
    """The arrows of all columns, those that go on joined by the names of the boxes that stand for their ends."""
    found = set()
    leaving, arriving = set(), set()
    for column in columns:
        for arrow in column.arrows:
            if arrow.target.startswith("to:"):
                leaving.add((arrow.source, arrow.target.split(":", 2)[2]))
            elif arrow.source.startswith("from:"):
                arriving.add((arrow.source.split(":", 2)[2], arrow.target))
            else:
                found.add((arrow.source, arrow.target))
    assert leaving == arriving
    return found | leaving


@pytest.mark.parametrize("scene", [chain(200), chain(90, 7), chain(28), *map(randomly, range(40))])
def test_every_box_is_in_one_column_and_every_arrow_arrives(scene: Scene) -> None:
    columns = columns_of(scene)
    drawn = [box.name for column in columns for box in column.boxes if box.kind != "elsewhere"]
    assert sorted(drawn) == sorted(box.name for box in scene.boxes)
    assert whole(columns) == {(arrow.source, arrow.target) for arrow in scene.arrows}
    for column in columns:
        names = {box.name for box in column.boxes}
        assert all(arrow.source in names and arrow.target in names for arrow in column.arrows)
        assert len(names) == len(column.boxes)


def test_a_long_chain_is_about_as_wide_as_high() -> None:
    columns = columns_of(chain(200))
    highest = max(len(column.boxes) for column in columns)
    assert 0.5 < (len(columns) * 170) / (highest * 75) < 3


def test_what_fits_one_column_stays_one() -> None:
    scene = chain(20)
    assert columns_of(scene) == [scene]


def test_there_is_no_cut_where_many_values_cross() -> None:
    names = [f"n{i}" for i in range(60)]
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    assert len(columns_of(scene_of(names, pairs))) == 1
