"""The pass manager: order, dumps, and what it says when a pass fails."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import fx, nn

import qfx
from qfx.errors import ConversionError
from qfx.ir.passes import Pass, PassError, run_passes
from qfx.ir.printer import print_graph
from qfx.ops.compute import reference as compute
from qfx.ops.pointwise import reference as pointwise
from qfx.ops.table import op_of


def _op_name(target: object) -> str | None:
    op = op_of(target)
    return op.name if op else None


def _gm() -> fx.GraphModule:
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.output(graph.call_function(compute.add, (x, x)))
    return fx.GraphModule(nn.Module(), graph)


def append_abs(gm: fx.GraphModule) -> fx.GraphModule:
    output = gm.graph.output_node()
    with gm.graph.inserting_before(output):
        output.args = (gm.graph.call_function(pointwise.abs_, (output.args[0],)),)
    return gm


def break_level(gm: fx.GraphModule) -> fx.GraphModule:
    output = gm.graph.output_node()
    with gm.graph.inserting_before(output):
        output.args = (gm.graph.call_function(torch.abs, (output.args[0],)),)
    return gm


def do_nothing(gm: fx.GraphModule) -> fx.GraphModule:
    return gm


def crash(gm: fx.GraphModule) -> fx.GraphModule:
    raise ZeroDivisionError("division by zero")


def complain(gm: fx.GraphModule) -> fx.GraphModule:
    raise ConversionError("The layer is too long.")


def _written(message: str) -> str:
    """The file that the message names, which is removed."""
    path = Path(message.rsplit(" is in ", 1)[1])
    text = path.read_text(encoding="utf-8")
    path.unlink()
    return text


def _run(*functions: object) -> fx.GraphModule:
    return run_passes([Pass(f, "normal", "normal") for f in functions], _gm(), _op_name)


def test_passes_run_in_order() -> None:
    assert print_graph(_run(append_abs, do_nothing, append_abs).graph).count("abs_(") == 2


def test_a_pass_that_breaks_its_level_is_named_with_the_node_and_the_graph_before() -> None:
    with pytest.raises(PassError) as caught:
        _run(append_abs, break_level)
    message = str(caught.value)
    assert message.startswith("pass 'break_level' left a graph that level 'normal' forbids")
    assert "calls a function that is no table op" in message
    assert "> abs_1 = abs(%abs_)" in message
    assert "  abs_ = abs_(%add)" in message
    assert "return %abs_1" in message
    assert "add = " not in message
    assert "before:\n" + print_graph(append_abs(_gm()).graph) in _written(message)


def test_a_pass_that_fails_is_named_with_the_graph_it_was_given() -> None:
    with pytest.raises(PassError, match="pass 'crash' failed: ZeroDivisionError: division by zero") as caught:
        _run(append_abs, crash)
    assert "= abs_(" not in str(caught.value)
    assert "= abs_(" in _written(str(caught.value))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_the_message_for_a_large_graph_is_short() -> None:
    graph = fx.Graph()
    value = graph.placeholder("x")
    for _ in range(500):
        value = graph.call_function(torch.abs, (value,))
    graph.output(value)
    with pytest.raises(PassError) as caught:
        run_passes([Pass(do_nothing, "normal", "normal")], fx.GraphModule(nn.Module(), graph), _op_name)
    message = str(caught.value)
    assert "and 497 more" in message
    assert "the graph has 502 nodes" in message
    assert len(message.splitlines()) < 20
    assert _written(message).count("= abs(") == 1000


def test_the_node_that_a_failed_pass_names_is_shown() -> None:
    def trip(gm: fx.GraphModule) -> fx.GraphModule:
        raise KeyError("no entry for add")

    with pytest.raises(PassError, match="> add = add") as caught:
        run_passes([Pass(trip, "normal", "normal")], _gm(), _op_name)
    assert "no entry for add" in str(caught.value)
    assert "add = add" in _written(str(caught.value))


def test_what_a_pass_says_of_the_users_model_is_passed_on() -> None:
    with pytest.raises(ConversionError, match="too long"):
        _run(complain)


def test_a_pass_error_is_no_error_of_the_user() -> None:
    assert not issubclass(PassError, qfx.QfxError)


def test_dumps_hold_each_graph_that_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QFX_DUMP", str(tmp_path / "dump"))
    result = _run(append_abs, do_nothing)
    assert sorted(p.name for p in (tmp_path / "dump").iterdir()) == ["00_append_abs.txt", "times.txt"]
    assert (tmp_path / "dump" / "00_append_abs.txt").read_text() == print_graph(result.graph)
    assert [line.split(":")[0] for line in (tmp_path / "dump" / "times.txt").read_text().splitlines()] == [
        "00 append_abs",
        "01 do_nothing",
    ]


def test_dumps_of_a_whole_run_keep_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The groups of passes that one quantize_fx runs must not overwrite each other's files."""
    monkeypatch.setenv("QFX_DUMP", str(tmp_path))
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()).eval()
    qfx.quantize_fx(net, {"": qfx.get_default_qconfig()}, [torch.randn(1, 3, 4, 4)])
    names = {p.stem.split("_", 1)[1] for p in tmp_path.iterdir() if p.name != "times.txt"}
    assert {"normalize", "fuse_activations", "insert_observers", "convert_to_qdq", "lower_to_int8"} <= names
