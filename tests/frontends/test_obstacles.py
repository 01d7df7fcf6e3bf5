"""Every construct that stops a capture: it is named with its line, and what the error says to write instead works."""

from __future__ import annotations

import copy
import linecache
import math
import textwrap
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import qfx
from qfx.errors import CaptureError
from qfx.frontends import capture, normalize
from qfx.frontends.export import capture as export
from qfx.frontends.obstacles import OBSTACLES, OTHER, Obstacle, explain, obstacle_of, remedies, rewriting
from qfx.frontends.tracer import Failure

ROWS = {row.name: row for row in OBSTACLES}
AT_THE_ROOT = ("output",)  # what a model returns matters, not what a part of it does
ON_EXPORT_ONLY = ("custom-op",)
SYMBOLIC = [name for name in ROWS if name not in ON_EXPORT_ONLY]


@pytest.fixture(scope="module", autouse=True)
def _operators() -> Iterator[None]:
    """Two custom operators, one of which tells nothing about its result."""
    library = torch.library.Library("mine", "DEF")
    for name in ("known", "unknown"):
        library.define(f"{name}(Tensor x) -> Tensor")
        library.impl(name, lambda x: x * 2, "CPU")
    torch.library.register_fake("mine::known", torch.empty_like, lib=library)
    yield
    library._destroy()


EINOPS = """
def rearrange(x, pattern):
    if not isinstance(x, torch.Tensor):
        raise RuntimeError(f"Tensor type unknown to einops {type(x)}")
    return x.flatten(2).transpose(1, 2)
"""
"""What einops does with a value of no framework that it knows, and what it does with the pattern of the row."""


def rearranging(folder: Path) -> Any:
    """The function above as if it were of the package, in which no line is the user's."""
    path = folder / "einops" / "einops.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(EINOPS)
    names: dict[str, Any] = {"torch": torch}
    exec(compile(EINOPS, str(path), "exec"), names)
    return names["rearrange"]


def network(row: Obstacle, body: str, init: str, folder: Path) -> nn.Module:
    """A module whose forward is ``body``, in a file of its own."""
    made = ["self.conv = nn.Conv2d(3, 3, 1)", *([init] if init else [])]
    source = (
        "class Part(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        + textwrap.indent("\n".join(made), " " * 8)
        + "\n\n    def forward(self, x):\n"
        + textwrap.indent(body, " " * 8)
        + "\n"
    )
    path = folder / f"{row.name.replace('-', '_')}.py"
    path.write_text(source)
    linecache.checkcache(str(path))
    names: dict[str, Any] = {"torch": torch, "nn": nn, "np": np, "math": math, "types": types}
    names |= {"rearrange": rearranging(folder), "__name__": "user_code"}
    exec(compile(source, str(path), "exec"), names)
    torch.manual_seed(0)
    part: nn.Module = names["Part"]().eval()
    return part


def whole(row: Obstacle, part: nn.Module) -> nn.Module:
    return part if row.name in AT_THE_ROOT else nn.Sequential(nn.Identity(), part)


def example(row: Obstacle) -> Any:
    x = 3 * torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    return {"input": x} if row.name == "unpacking" else x


def leaves(value: Any) -> list[Tensor]:
    return pytree.tree_leaves(vars(value) if isinstance(value, types.SimpleNamespace) else value)


def agree(ours: Any, theirs: Any) -> None:
    for a, b in zip(leaves(ours), leaves(theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def result(model: nn.Module, x: Any) -> Any:
    with torch.no_grad():
        return model(copy.deepcopy(x))


def names_construct(error: CaptureError, row: Obstacle) -> bool:
    """Whether the error says what the code does; a change in place that the graph shows is told by the graph."""
    changes = row.name in ("in-place", "item-assignment") and "changed in place" in error.why
    return changes or error.why.startswith(row.construct)


@pytest.mark.parametrize("name", SYMBOLIC)
def test_the_error_says_where_what_and_what_to_do(name: str, tmp_path: Path) -> None:
    row = ROWS[name]
    part = network(row, row.before, row.init[0], tmp_path)
    path = "" if name in AT_THE_ROOT else "1"
    with pytest.raises(CaptureError) as caught:
        capture(whole(row, part), strict=True)
    error = caught.value
    assert error.where == (path or "the model itself")
    assert names_construct(error, row)
    if name not in AT_THE_ROOT:
        file, _, line = error.source.partition(":")
        assert file == f"{name.replace('-', '_')}.py"
        text = (tmp_path / file).read_text().splitlines()[int(line.split(",")[0]) - 1].strip()
        assert error.source.endswith(f"in forward: {text}")
        assert text in [code.strip() for code in row.before.splitlines()]
    new = row.init[1] if row.before == row.after else row.after
    assert textwrap.dedent(error.remedy).count("\n") > 3
    assert all(code.strip() in error.remedy for code in new.splitlines())
    assert ('frontend="export"' in error.remedy) == row.exports
    assert f"[{path!r}]" in error.remedy if path else "submodule" in error.remedy


@pytest.mark.parametrize("name", ROWS)
def test_the_rewritten_code_is_captured_and_computes_the_same(name: str, tmp_path: Path) -> None:
    row = ROWS[name]
    old, new = (network(row, b, i, tmp_path) for b, i in zip((row.before, row.after), row.init, strict=True))
    if row.before == row.after:
        new.layers[0].load_state_dict(old.layers[0].state_dict())
    x = example(row)
    want = result(old, x)
    agree(result(new, x), want)
    captured = normalize(capture(whole(row, new), strict=True))
    agree(result(captured, x), want)


@pytest.mark.parametrize("name", [n for n in SYMBOLIC if n not in AT_THE_ROOT])
def test_naming_the_module_keeps_it_in_float(name: str, tmp_path: Path) -> None:
    row = ROWS[name]
    part = network(row, row.before, row.init[0], tmp_path)
    captured = capture(whole(row, part), strict=True, non_traceable_module_name=["1"])
    assert captured.graph.find_nodes(op="call_module", target="1")
    agree(result(captured, example(row)), result(part, example(row)))


@pytest.mark.parametrize("name", [n for n in ROWS if ROWS[n].exports])
def test_exporting_captures_it(name: str, tmp_path: Path) -> None:
    row = ROWS[name]
    part = network(row, row.before, row.init[0], tmp_path)
    x = example(row)
    captured = normalize(export(whole(row, part), example=((copy.deepcopy(x),), {}), strict=True))
    agree(result(captured, x), result(part, x))


@pytest.mark.parametrize("name", [n for n in ROWS if not ROWS[n].exports and n != "plain-list"])
def test_what_an_export_does_not_take_is_explained_alike(name: str, tmp_path: Path) -> None:
    row = ROWS[name]
    part = network(row, row.before, row.init[0], tmp_path)
    with pytest.raises(CaptureError) as caught:
        export(whole(row, part), example=((example(row),), {}), strict=True)
    error = caught.value
    assert names_construct(error, row)
    assert 'frontend="export"' not in error.remedy
    if name not in AT_THE_ROOT:
        assert error.where == "1"
        assert error.source.startswith(f"{name.replace('-', '_')}.py:")
    assert all(code.strip() in error.remedy for code in row.after.splitlines())


@pytest.mark.parametrize("name", ["branch", "loop"])
def test_what_dynamo_refuses_is_explained_alike(name: str, tmp_path: Path) -> None:
    row = ROWS[name]
    part = network(row, row.before, row.init[0], tmp_path)
    with pytest.raises(Exception) as caught:  # noqa: PT011  (torch's, of many classes)
        torch.export.export(whole(row, part), (example(row),), strict=True)
    failure = Failure.of("1", caught.value)
    assert failure.source is not None
    assert failure.source.startswith(f"{name}.py:")
    assert failure.construct.startswith(row.construct)


def test_what_no_row_knows_is_told_with_torchs_words() -> None:
    found = explain(KeyError("surprise"), "net.py:3, in forward: y = table[x]")
    assert found.obstacle is OTHER
    assert found.construct == "code that can't run on traced values (KeyError: 'surprise')"
    assert "Rewrite this line" in found.rewrite


def test_an_error_without_a_message_is_told() -> None:
    assert explain(AssertionError()).construct.endswith("(AssertionError: )")


def test_remedies_of_the_model_itself() -> None:
    text = remedies("Use the out-of-place form, or", "", exports=True)
    assert "1. Use the out-of-place form\n" in text
    assert "non_traceable_module_name" not in text


def test_rows_are_told_apart_by_the_line() -> None:
    message = "TraceError: symbolically traced variables cannot be used as inputs to control flow"
    found = {
        "while x.sum() > 0:": "loop",
        "if x.shape[0] == 1:": "branch-on-a-shape",
        "if x.sum() > 0:": "branch",
        "assert len(x.shape) == 4": "assertion-on-a-shape",
        "y = bool(x.any())": "truth",
    }
    assert {line: obstacle_of(message, f"net.py:1, in forward: {line}").name for line in found} == found


def test_names_are_unique_and_every_row_has_code() -> None:
    assert len(ROWS) == len(OBSTACLES)
    for row in OBSTACLES:
        assert row.before
        assert row.after
        assert (row.before, row.init[0]) != (row.after, row.init[1])
        assert (row.init[1] if row.before == row.after else row.after).splitlines()[-1] in rewriting(row)
        assert rewriting(replace(row, note="")) in rewriting(row)


def test_quantize_fx_tells_it_too(tmp_path: Path) -> None:
    row = ROWS["branch"]
    model = whole(row, network(row, row.before, "", tmp_path))
    with pytest.raises(qfx.CaptureError, match=r"torch\.where") as caught:
        qfx.quantize_fx(model, {"": qfx.get_default_qconfig()}, [example(row)], strict=True)
    assert caught.value.where == "1"
