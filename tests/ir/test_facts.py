"""The list of what nodes and graphs carry is whole, and says the truth."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import fx, nn

import qfx
from qfx import pipeline
from qfx.ir import facts
from qfx.ir.facts import GRAPH, NODE, OF_TORCH, Fact
from qfx.observed import capture_normal
from qfx.ops.table import op_at

ROOT = Path(qfx.__file__).parent
FILES = [path for path in sorted(ROOT.rglob("*.py")) if path.name != "facts.py"]
PASSED_ON = {"k", "key", "half"}
"""Names of loops over keys that stand in a tuple beside them."""


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def own_constants(path: Path) -> dict[str, str]:
    found = {}
    for node in tree(path).body:
        if isinstance(node, ast.Assign):
            names = node.targets[0].elts if isinstance(node.targets[0], ast.Tuple) else node.targets
            values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
            for name, value in zip(names, values, strict=False):
                if isinstance(name, ast.Name) and isinstance(value, ast.Constant):
                    found[name.id] = str(value.value)
    return found


@cache
def constants(path: Path) -> dict[str, str]:
    """The strings that names stand for in a file: its own, and those that it imports."""
    found = own_constants(path)
    for node in tree(path).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("qfx."):
            home = ROOT.joinpath(*node.module.split(".")[1:]).with_suffix(".py")
            theirs = own_constants(home) if home.exists() else {}
            found |= {alias.name: theirs[alias.name] for alias in node.names if alias.name in theirs}
    return found


def key_of(path: Path, node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant):
        return str(node.value)
    return constants(path).get(node.id) if isinstance(node, ast.Name) else None


def is_meta(node: ast.AST) -> bool:
    return (isinstance(node, ast.Attribute) and node.attr in ("meta", "info")) or (
        isinstance(node, ast.Name) and node.id == "meta"
    )


def uses(path: Path) -> Iterator[tuple[int, ast.expr, bool]]:
    """The line and the key of each access of a ``meta``, and whether it is written."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Subscript) and is_meta(node.value):
            yield node.lineno, node.slice, isinstance(node.ctx, ast.Store)
        elif (
            isinstance(node, ast.Compare)
            and is_meta(node.comparators[0])
            and isinstance(node.ops[0], ast.In | ast.NotIn)
        ):
            yield node.lineno, node.left, False
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and is_meta(node.func.value):
            if node.func.attr in ("get", "pop", "setdefault"):
                yield node.lineno, node.args[0], node.func.attr == "setdefault"
            elif node.func.attr == "update":
                for keyword in node.keywords:
                    if keyword.arg:
                        yield node.lineno, ast.Constant(keyword.arg), True
                for given in node.args:
                    if isinstance(given, ast.Dict):
                        yield from ((node.lineno, key, True) for key in given.keys if key is not None)


def listed() -> set[str]:
    return {fact.key for fact in (*NODE, *GRAPH)}


def part(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def test_code_uses_no_key_that_is_not_in_the_list():
    unknown = [
        f"{path.relative_to(ROOT)}:{line}: {ast.unparse(key)}"
        for path in FILES
        if part(path) not in ("migrate",)
        for line, key, _ in uses(path)
        if not (isinstance(key, ast.Name) and key.id in PASSED_ON) and key_of(path, key) not in listed() | OF_TORCH
    ]
    assert not unknown


def test_no_key_has_two_rows():
    for rows in (NODE, GRAPH):
        assert len({fact.key for fact in rows}) == len(rows)


@cache
def mentioned(path: Path) -> set[str]:
    """What a file has as a string, a keyword, or a name that stands for one."""
    nodes = list(ast.walk(tree(path)))
    keywords = {node.arg for node in nodes if isinstance(node, ast.keyword) and node.arg}
    keys = {key_of(path, node) for node in nodes if isinstance(node, (ast.Constant, ast.Name))}
    return keywords | {key for key in keys if key}


@cache
def written() -> list[tuple[str, str | None]]:
    """The part and the key of every statement that writes."""
    return [(part(path), key_of(path, key)) for path in FILES for _, key, writes in uses(path) if writes]


@pytest.mark.parametrize("fact", [*NODE, *GRAPH], ids=lambda fact: fact.key)
def test_who_writes_a_fact_is_as_its_row_says(fact: Fact):
    for name in fact.writers:
        assert any(fact.key in mentioned(path) for path in FILES if part(path) == name), name
    writing = {name for name, key in written() if fact.key == key}
    rows = [row for row in (*NODE, *GRAPH) if row.key == fact.key]
    assert writing <= {name for row in rows for name in row.writers}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 4)
        self.drop, self.lstm = nn.Dropout(), nn.LSTM(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn(self.conv(x)).relu()
        y = torch.nn.functional.hardswish(y + y.mean((2, 3), keepdim=True))
        y = self.drop(self.fc(torch.cat([y.amax((2, 3)), y.mean((2, 3))], 0)))
        return self.lstm(y)[0] + torch.fft.fft(y).real


def graphs() -> Iterator[fx.GraphModule]:
    """A model at every level."""
    x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    yield capture_normal(Net().eval(), x)
    yield qfx.fuse_fx(Net().eval(), x)
    prepared = qfx.prepare_fx(Net().eval(), {"": qfx.get_default_qconfig()}, x)
    prepared(x)
    yield prepared.graph_module()
    quantized = qfx.convert_fx(prepared)
    yield quantized.shared_graph_module()
    yield pipeline.run(pipeline.LOWER, quantized.shared_graph_module())
    yield qfx.prepare_qat_fx(Net(), {"": qfx.get_default_qat_qconfig()}, x).graph_module()


def fits(value: object, wanted: str) -> bool:
    """Whether ``value`` is of the type that a row names, as far as its outermost class goes."""
    heads = [re.match(r"[\w.]+", each.strip())[0] for each in re.sub(r"\[.*?\](?= \||$)", "", wanted).split("|")]  # type: ignore[index]
    names = {cls.__name__ for cls in type(value).__mro__} | {str(type(value)).split("'")[1]}
    return any(
        head == "Any" or head in names or (head == "None" and value is None) or (head == "Callable" and callable(value))
        for head in heads
    )


def test_values_are_of_the_types_that_the_rows_name():
    seen = set()
    for gm in graphs():
        held = [(GRAPH, gm.meta), *((NODE, node.meta) for node in gm.graph.nodes)]
        for rows, meta in held:
            types = {fact.key: fact.type for fact in rows}
            for key, value in meta.items():
                if key not in OF_TORCH:
                    assert fits(value, types[key]), (key, value, types[key])
                    seen.add(key)
    assert len(seen) > 40, sorted(listed() - seen)


def test_a_node_is_called_by_the_path_of_its_module_or_else_by_its_name():
    node = fx.Graph().placeholder("x")
    assert (facts.where(node), facts.source(node)) == ("x", None)
    node.meta.update(module_path="layer.0", source="net.py:7")
    assert (facts.where(node), facts.source(node)) == ("layer.0", "net.py:7")


def test_that_a_node_calls_an_op_is_asserted_in_one_place():
    asserted = [str(p.relative_to(ROOT)) for p in FILES if "assert op is not None" in p.read_text(encoding="utf-8")]
    assert asserted == ["ops/table.py"]
    with pytest.raises(AssertionError, match="calls no table op"):
        op_at(fx.Graph().placeholder("x"))
