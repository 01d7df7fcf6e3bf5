"""Pictures: what they show at each level, and what is told when one can't be made."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

import qfx
from qfx.viz.dot import Style, write_dot
from qfx.viz.read import read
from qfx.viz.render import render
from qfx.viz.scene import Arrow, Box, Heat, Scene, Value
from tests.viz.models import HOSTILE, Named, Sorted, images, quantized, residual

SVG = "{http://www.w3.org/2000/svg}"


def boxes(source: str) -> dict[str, str]:
    """The line of each box of a picture's source, by name."""
    return {m[1]: m[0] for m in re.finditer(r'^"([^"]+)" \[.*$', source, re.MULTILINE)}


@pytest.mark.parametrize(
    ("level", "index", "op"),
    [("float", 0, "channel_affine"), ("observed", 1, "HistogramObserver"), ("qdq", 2, "dequantize"),
     ("int8", 2, "quantize"), ("program", 2, "quantize")],
)  # fmt: skip
def test_every_level_has_the_ops_that_it_alone_shows(level: str, index: int, op: str) -> None:
    scene = read(residual()[index], level)
    assert op in {box.op for box in scene.boxes}
    names = {box.name for box in scene.boxes}
    assert {a.source for a in scene.arrows} | {a.target for a in scene.arrows} == names
    assert not any("." in box.name for box in scene.boxes), "a parameter is drawn"


def test_a_fused_layer_says_what_runs_in_it() -> None:
    box = read(residual()[2]).by_name["conv1"]
    assert (box.title, box.kind) == ("conv + add + relu", "int8")
    assert "bn1" in box.fused
    assert {rule for rule, _ in box.rules} == {
        "fold_channel_affine_into_conv", "fuse_addition_into_conv", "fuse_clamp_into_producer",
    }  # fmt: skip


def test_arrows_carry_shape_dtype_and_qparams() -> None:
    model = residual()[2]
    arrow = next(a for a in read(model).arrows if a.target == "conv1")
    record = next(r for r in model.report if r.name == arrow.source)
    assert record.qparams is not None
    assert arrow.value.qparams == record.qparams
    assert arrow.value.shape == (2, 16, 16, 16)
    source = qfx.to_dot(model).source
    assert f"2x16x16x16\\nquint8 {record.qparams.scale:.3g}, {record.qparams.zero_point}" in source


def test_frames_nest_as_modules_do() -> None:
    source = qfx.to_dot(quantized(Named(), torch.randn(4, 4))).source
    assert source.count("subgraph") == 1
    assert "subgraph" not in qfx.to_dot(residual()[2], clusters=False).source


def test_what_torch_runs_is_dashed_and_says_why() -> None:
    model = quantized(Sorted(), images())
    line = boxes(qfx.to_dot(model).source)["sort"]
    assert "dashed" in line
    assert "no table op for" in line
    assert "test_draw" not in line
    assert "in forward: y = torch.sort(y, dim=1).values" in line, "the user's line is missing"
    groups = {box.group for box in read(model, "program").boxes if box.op not in ("x", "output")}
    assert len(groups) == 3, "two programs and torch between them"


def test_heat_colours_what_was_measured() -> None:
    model, _, qmodel = residual()
    compared = qfx.compare(model, qmodel, [images()])
    worst = min((r for r in compared if r.total is not None), key=lambda r: r.total.sqnr)
    line = boxes(qfx.to_dot(qmodel, heat=compared).source)[worst.name]
    assert 'fillcolor="#8b1a2b"' in line
    assert f"{worst.total.sqnr:.3g}" in line
    timed = qfx.to_dot(qmodel, heat=qmodel.profile(images(), repeats=1)).source
    assert "time, % of all" in timed
    assert 'fillcolor="#8b1a2b"' in boxes(qfx.to_dot(qmodel, heat={"fc": 2.0, "conv1": 1.0}).source)["fc"]


@pytest.mark.parametrize("heat", [3, {"fc": "hot"}])
def test_heat_that_is_no_number_a_node_is_told(heat: object) -> None:
    with pytest.raises(qfx.InputError, match="heat can't be"):
        qfx.draw(residual()[2], heat=heat)


def test_a_plan_without_times_is_no_heat() -> None:
    with pytest.raises(qfx.InputError, match="without times"):
        qfx.draw(residual()[2], heat=residual()[2].explain())


def test_side_by_side_names_what_each_node_became_and_the_rule() -> None:
    model, _, qmodel = residual()
    for picture in (qfx.to_dot(model, beside=qmodel), qfx.to_dot(qmodel, beside=model)):
        assert '"left-conv1" -> "right-conv1"' in picture.source
        assert '"left-bn1" -> "right-conv1"' in picture.source
        assert "fold_channel_affine_into_conv" in boxes(picture.source)["left-bn1"]
        assert "2x16x16x16" in boxes_edges(picture.source, "left-conv1"), "shapes of the quantized model's inputs"
    assert '"left-quantize" -> "right-quantize"' in qfx.to_dot(qmodel, level="qdq", beside="int8").source


def boxes_edges(source: str, name: str) -> str:
    return "\n".join(line for line in source.splitlines() if line.startswith(f'"{name}" ->'))


def test_the_formats(tmp_path: Path) -> None:
    model = residual()[2]
    assert qfx.draw(model, tmp_path / "a.png") == tmp_path / "a.png"
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (qfx.draw(model, str(tmp_path / "a.dot"))).read_text().startswith("digraph")
    root = ElementTree.fromstring(qfx.draw(model, tmp_path / "a.SVG").read_bytes())
    shown = {g.get("id") for g in root.iter(f"{SVG}g")}
    assert {f"box-{box.name}" for box in read(model).boxes} <= shown
    picture = qfx.draw(model)
    assert isinstance(picture, qfx.Picture)
    assert picture.save(tmp_path / "b.svg").read_bytes() == (tmp_path / "a.SVG").read_bytes()


@pytest.mark.parametrize("name", ["graph", "graph.bmp", ".svg"])
def test_another_suffix_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(qfx.InputError, match="does not say what to draw"):
        qfx.draw(residual()[2], tmp_path / name)


def test_a_place_that_can_t_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(qfx.InputError, match="can't be written"):
        qfx.draw(residual()[2], tmp_path / "missing" / "a.dot")


def test_without_graphviz_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(qfx.QfxError, match="pip install graphviz-pure"):
        qfx.draw(residual()[2], tmp_path / "a.svg")
    assert qfx.draw(residual()[2], tmp_path / "a.dot").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["a.dot"]


def test_a_renderer_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "dot"
    script.write_text("#!/bin/sh\necho 'Format: \"pdf\" not recognized.' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(qfx.QfxError, match="not recognized"):
        qfx.draw(residual()[2], tmp_path / "a.pdf")


@pytest.mark.parametrize("level", ["qdq", "int9", ""])
def test_a_level_that_the_model_does_not_have_is_told(level: str) -> None:
    with pytest.raises(qfx.InputError, match="has no level"):
        qfx.draw(residual()[1], level=level)


def test_what_has_no_graph_is_told() -> None:
    with pytest.raises(qfx.InputError, match="int has no graph"):
        qfx.draw(3)


def test_a_model_of_unknown_shapes_is_drawn_as_qdq() -> None:
    prepared = qfx.prepare_fx(nn.Linear(4, 4), {"": qfx.get_default_qconfig()})
    prepared(torch.randn(2, 4))
    model = qfx.convert_fx(prepared)
    model.info["example_inputs"] = None
    assert read(model).level == "qdq"


def test_hostile_names_stay_text() -> None:
    model = quantized(Named(), torch.randn(4, 4))
    for level in ("qdq", "int8", "program"):
        root = ElementTree.fromstring(qfx.to_dot(model, level=level).render())
        assert not [e.tag for e in root.iter() if e.tag not in {SVG + t for t in KNOWN}]
        said = "".join(root.itertext()) + "".join(v for e in root.iter() for v in e.attrib.values())
        assert HOSTILE in said, "the whole name is in a tooltip"


KNOWN = ("svg", "g", "title", "a", "path", "polygon", "polyline", "ellipse", "text")


@pytest.mark.parametrize(
    "text",
    ['"', "\\", '\\"', "<B>", "<<B>x</B>>", "<<FONT>x</FONT>>", "&lt;", "\x00\x1b", "a\nb", "\\N", "é…\u202e"],
)
def test_whatever_a_text_holds_the_picture_is_sound(text: str) -> None:
    box = Box(text, text, "opaque", text, text, text, text, (text,), group=(text, "x"), says_notes=True)
    scene = Scene("int8", (box, replace(box, name="b")), (Arrow(text, "b", Value(text)),))
    for style in (Style(), Style(Heat(text, {text: 1.0}))):
        root = ElementTree.fromstring(render(write_dot(scene, style, text), "svg"))
        nodes = [g for g in root.iter(f"{SVG}g") if "node" in g.get("class", "").split()]
        assert len(nodes) == 3, "two boxes and the legend"
        assert not [e.tag for e in root.iter() if e.tag not in {SVG + t for t in KNOWN}]
