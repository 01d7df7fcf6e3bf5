"""``write_report``'s page in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import qfx
from tests.viz.models import HOSTILE, Named, images, quantized, residual

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is on PATH")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, _, qmodel = residual()
    advice = SimpleNamespace(text="Keep <conv1> float.", code='("module_name", [("conv1", None)])')
    path = tmp_path_factory.mktemp("page") / "report.html"
    return qfx.write_report(path, qmodel, float_model=model, data=[images()], suggestions=[advice])


@pytest.fixture
def page(browser: Any, written: Path) -> Iterator[Any]:
    yield from opened(browser, written)


def opened(browser: Any, path: Path, **options: Any) -> Iterator[Any]:
    """The page of ``path``; whatever it complains of, or asks the network for, fails the test."""
    context = browser.new_context(**options)
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append("a dialog"), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    yield page
    context.close()
    assert said == []
    assert asked == [path.as_uri()]


def view(page: Any) -> list[float]:
    return [float(number) for number in page.get_attribute("#graph svg", "viewBox").split()]


def test_search_finds_a_node_and_shows_its_details(page: Any) -> None:
    page.fill("#search", "conv1")
    assert page.locator("#found [role=option]").count() >= 1
    assert page.locator("#graph .node.hit").count() >= 1
    page.press("#search", "Enter")
    details = page.inner_text("#details")
    assert "conv + add + relu" in details
    assert "fold_channel_affine_into_conv" in details
    assert "in forward: x = F.relu(self.bn1(self.conv1(x)) + x)" in details
    assert page.locator("#details svg.chart .real").count() == 1
    assert page.locator("#details svg.chart .range").count() == 1
    page.fill("#search", "no such node")
    assert "No node" in page.inner_text("#found")


def test_a_click_on_a_box_shows_its_details(page: Any) -> None:
    page.click("#box-conv1")
    assert page.inner_text("#details h2") == "conv + add + relu"
    page.click("#details .links button >> nth=0")
    assert page.inner_text("#details h2") != "conv + add + relu"


def test_wheel_buttons_keys_and_drags_move_the_view(page: Any) -> None:
    before = view(page)
    page.click("#zoom-in")
    nearer = view(page)
    assert nearer[2] < before[2]
    page.focus("#graph")
    page.keyboard.press("ArrowDown")
    assert view(page)[1] > nearer[1]
    frame = page.locator("#graph").bounding_box()
    page.mouse.move(frame["x"] + 60, frame["y"] + 60)
    page.mouse.wheel(0, 200)
    further = "width => document.querySelector('#graph svg').viewBox.baseVal.width > width"
    page.wait_for_function(further, arg=nearer[2])
    x = view(page)[0]
    page.mouse.down()
    page.mouse.move(frame["x"] + 160, frame["y"] + 60, steps=4)
    page.mouse.up()
    assert view(page)[0] < x


def test_the_list_sorts_and_filters_by_column(page: Any) -> None:
    page.click("#tab-nodes")
    rows = page.locator("#nodes tbody tr")
    count = rows.count()
    page.click("#nodes th button:text-is('SQNR dB')")
    column = [h.strip() for h in page.locator("#nodes th button").all_inner_texts()].index("SQNR dB") + 1
    cells = page.locator(f"#nodes tbody td:nth-child({column})").all_inner_texts()
    numbers = [float(text) for text in cells if re.fullmatch(r"-?[\d.]+", text)]
    assert len(numbers) > 3
    assert numbers == sorted(numbers)
    page.fill("#nodes th input[aria-label='Filter Op']", "conv")
    assert 0 < rows.count() < count
    page.fill("#nodes th input[aria-label='Filter SQNR dB']", "< -5")
    assert rows.count() == 0


def test_colours_follow_the_choice(page: Any) -> None:
    def fill() -> str:
        return page.locator("#box-conv1 path").first.get_attribute("fill")

    before = fill()
    for choice in ("sqnr", "share"):
        page.select_option("#colour", choice)
        assert fill().startswith("rgb(")
    page.select_option("#colour", "")
    assert fill() == before


def test_suggestions_are_shown(page: Any) -> None:
    assert "Keep <conv1> float." in page.inner_text("#details")
    assert '("module_name", [("conv1", None)])' in page.inner_text("#details")


def test_hostile_names_stay_text(browser: Any, tmp_path: Path) -> None:
    path = qfx.write_report(tmp_path / "a.html", quantized(Named(), torch.randn(4, 4)), title=HOSTILE)
    for page in opened(browser, path):
        assert page.inner_text("h1") == HOSTILE
        assert page.locator("script").count() == 2
        page.click("#graph .node >> nth=1")
        assert page.evaluate("document.scripts.length") == 2


class Deep(torch.nn.Module):
    """Twelve blocks in a row, each with a branch of modules of its own."""

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.back = torch.nn.Conv2d(4, 8, 1), torch.nn.Conv2d(8, 4, 1)
            self.gate = torch.nn.Sequential(
                torch.nn.AdaptiveAvgPool2d(1), torch.nn.Conv2d(8, 8, 1), torch.nn.SiLU(), torch.nn.Conv2d(8, 8, 1)
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.relu(self.wide(x))
            return x + self.back(y * torch.sigmoid(self.gate(y)))

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks = torch.nn.Conv2d(3, 4, 1), torch.nn.Sequential(*(Deep.Block() for _ in range(12)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(self.stem(x)).mean((2, 3))


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    x = torch.randn(1, 3, 8, 8)
    return qfx.write_report(tmp_path_factory.mktemp("deep") / "deep.html", quantized(Deep(), x), data=[x])


def shown(page: Any, of: str = ".node") -> set[str]:
    visible = f"[...document.querySelectorAll('#graph {of}')].filter(e => e.getAttribute('display') !== 'none')"
    return set(page.evaluate(f"{visible}.map(e => e.id || e.getAttribute('aria-label'))"))


def test_modules_of_a_large_model_are_closed_and_open_by_mouse_and_key(browser: Any, deep: Path) -> None:
    for page in opened(browser, deep):
        whole = page.evaluate("document.querySelectorAll('#graph .node').length")
        assert whole > 60
        assert len(shown(page)) + len(shown(page, ".cover")) <= 60
        page.click("#open-all")
        assert len(shown(page)) == whole
        assert shown(page, ".cover") == set()
        page.click("#close-all")
        assert shown(page, ".cover") == {"Module blocks"}
        page.click(".cover[aria-label='Module blocks']")
        closed = shown(page, ".cover")
        assert closed == {f"Module blocks.{i}" for i in range(12)}
        page.focus(".cover[aria-label='Module blocks.3']")
        page.keyboard.press("Enter")
        assert shown(page, ".cover") == closed - {"Module blocks.3"} | {"Module blocks.3.gate"}
        assert "box-blocks_3_wide" in shown(page)
        page.keyboard.press("Enter")
        assert shown(page, ".cover") == closed


def test_what_is_shown_lies_in_order_and_apart(browser: Any, deep: Path) -> None:
    heights = """[...document.querySelectorAll('#graph .node, #graph .cover')]
        .filter(e => e.getAttribute('display') !== 'none')
        .map(e => e.querySelector('path, polygon, ellipse, rect').getBoundingClientRect())
        .map(r => [r.x, r.y, r.right, r.bottom])"""
    for page in opened(browser, deep):
        covers = [f".cover[aria-label='Module {path}']" for path in ("blocks", "blocks.4", "blocks.4.gate")]
        for press in ("#open-all", "#close-all", *covers):
            page.dispatch_event(press, "click")
            boxes = page.evaluate(heights)
            for i, a in enumerate(boxes):
                for b in boxes[:i]:
                    assert a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] - 0.5 or b[1] >= a[3] - 0.5


def test_a_node_has_an_address(browser: Any, deep: Path) -> None:
    for page in opened(browser, deep):
        page.goto(f"{deep.as_uri()}#node=blocks_7_back")
        page.wait_for_function("document.querySelector('#details h2').textContent === 'conv + add'")
        assert "box-blocks_7_back" in shown(page)
        assert page.locator("#box-blocks_7_back.selected").count() == 1
        page.fill("#search", "blocks_2_wide")
        page.press("#search", "Enter")
        assert page.url.endswith("#node=blocks_2_wide")
        assert page.get_attribute("#details a", "href") == "#node=blocks_2_wide"
        page.goto(f"{deep.as_uri()}#node=%E0%A4%A")
        page.wait_for_function("document.querySelector('#details h2').textContent !== 'conv + relu'")


def test_a_narrow_dark_page_scrolls_down_only(browser: Any, written: Path) -> None:
    options = {"color_scheme": "dark", "viewport": {"width": 360, "height": 740}}
    for page in opened(browser, written, **options):
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_nothing_in_the_page_is_outside_it(written: Path) -> None:
    text = written.read_text()
    assert "default-src 'none'" in text
    assert "unsafe" not in text
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!#)""", text)
    data = json.loads(re.search(r'<script id="data"[^>]*>(.*?)</script>', text, re.DOTALL)[1])
    assert {node["name"] for node in data["nodes"]} >= {"conv1", "fc"}


@pytest.mark.parametrize(
    ("model", "name", "given", "said"),
    [
        (lambda: residual()[1], "a.html", {}, "takes a quantized model"),
        (lambda: residual()[2], "a.pdf", {}, "Name it|can't be written|OUT is"),
        (lambda: residual()[2], "no/a.html", {}, "can't be written"),
        (lambda: residual()[2], "a.html", {"float_model": torch.nn.Linear(2, 2)}, "no data to compare on"),
    ],
)
def test_what_can_t_be_reported_is_told(
    tmp_path: Path, model: Any, name: str, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(qfx.InputError, match=said):
        qfx.write_report(tmp_path / name, model(), **given)
    assert not list(tmp_path.iterdir())


def test_what_is_no_path_is_told() -> None:
    with pytest.raises(qfx.InputError, match="writes to a path"):
        qfx.write_report(residual()[2], "a.html")  # type: ignore[arg-type]


def test_frames_that_take_too_long_to_lay_out_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page ends: where Graphviz does not finish with frames of modules, the picture has none."""
    run, given = subprocess.run, []

    def slow_with_frames(command: Any, *, input: bytes, timeout: float, **kwargs: Any) -> Any:
        given.append(b"subgraph" in input)
        if given[-1]:
            raise subprocess.TimeoutExpired(command, timeout)
        return run(command, input=input, timeout=timeout, **kwargs)

    monkeypatch.setattr("qfx.viz.render.subprocess.run", slow_with_frames)
    net = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(4, 4, 1)), torch.nn.ReLU())
    text = qfx.write_report(tmp_path / "a.html", quantized(net, images())).read_text()
    assert given == [True, False]
    svg = re.search(r"<svg.*</svg>", text, re.DOTALL)[0]
    assert 'id="box&#45;' in svg
    assert 'id="frame&#45;' not in svg
