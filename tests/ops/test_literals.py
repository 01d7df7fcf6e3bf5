"""What is true of an op stands in its row: no collection of op names elsewhere, and no chain of comparisons."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from qfx.ops import TABLE

ROOT = Path(__file__).parents[2]

OWN = ("qfx/ops/*/*.py",)
"""Each family's own files."""

OTHER_NAMES = {
    "qfx/file/functions.py": "functions of Python's math",
    "qfx/frontends/export/*.py": "functions of torch.ops.aten, and methods that operators call",
    "qfx/frontends/torchscript/*.py": "functions of torch.ops.aten",
    "qfx/imports/decomposed.py": "what functions of other tools do",
    "qfx/ir/levels.py": "functions of Python's operator; the two ops of the QDQ level, which lies below the table",
    "qfx/nn/quantized/functional.py": "what the module exports",
    "qfx/nn/quantized/dynamic/recurrent.py": "activations of torch.nn.RNN",
    "qfx/passes/own_linear.py": "functions and methods outside the table",
    "qfx/patterns/rules/scale.py": "a product or sum with a constant, as an op of one operand: what the rule does",
}
"""Files in which such names are none of rows, or are what the file is about."""

PATTERNS = "qfx/patterns/rules"
"""Here, the ops that a pattern names are what its rule is about."""


def op_names(node: ast.AST) -> list[str]:
    """The names of ops that a collection, the keys of a dict, or a comparison with alternatives consists of."""
    if isinstance(node, (ast.Set, ast.Tuple, ast.List)):
        items: list[ast.expr | None] = list(node.elts)
    elif isinstance(node, ast.Dict):
        items = list(node.keys)
    elif isinstance(node, ast.BoolOp):
        items = [right for value in node.values if isinstance(value, ast.Compare) for right in value.comparators]
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        items = [ast.Constant(word) for word in node.value.split()]
    else:
        return []
    texts = [item.value for item in items if isinstance(item, ast.Constant) and isinstance(item.value, str)]
    named = [text for text in texts if text in TABLE]
    return named if len(set(named)) > 1 and 2 * len(named) >= len(texts) else []


def in_patterns(tree: ast.AST) -> set[ast.AST]:
    """What ``op("...")`` is called with."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    return {argument for call in calls if call.func.id == "op" for argument in call.args}  # type: ignore[attr-defined]


def found_in(source: str, *, patterns: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Collections, with their lines; ``patterns``: but for those that patterns are."""
    tree = ast.parse(source)
    allowed = in_patterns(tree) if patterns else set()
    for node in ast.walk(tree):
        names = op_names(node)
        if names and node not in allowed:
            yield node.lineno, names  # type: ignore[attr-defined]


def files() -> list[Path]:
    allowed = {path for pattern in (*OWN, *OTHER_NAMES) for path in ROOT.glob(pattern)}
    return [p for folder in ("qfx", "docs") for p in sorted((ROOT / folder).rglob("*.py")) if p not in allowed]


def test_no_collection_of_op_names_stands_outside_the_table() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {', '.join(names)}"
        for path in files()
        for line, names in found_in(path.read_text(encoding="utf-8"), patterns=path.match(f"{PATTERNS}/*.py"))
    ]
    assert not found, "give the rows a cell that says it (qfx/ops/table.py):\n" + "\n".join(found)


def test_the_walk_is_over_the_package_and_every_exception_is_one() -> None:
    assert len(files()) > 300
    for pattern in OTHER_NAMES:
        sources = [path.read_text(encoding="utf-8") for path in ROOT.glob(pattern)]
        assert any(True for source in sources for _ in found_in(source)), f"{pattern} has no such names (any more)"


@pytest.mark.parametrize(
    "source",
    [
        'A = {"add", "mul"}',
        'A = frozenset(("conv", "linear"))',
        'A = ["relu", "clamp", "lookup"]',
        'A = {"conv": 1, "matmul": 2}',
        'x = op.name in ("mean", "sum")',
        'x = op.name == "mean" or op.name == "sum"',
        'A = "relu clamp sigmoid".split()',
    ],
)
def test_each_form_of_a_collection_is_found(source: str) -> None:
    assert list(found_in(source))


@pytest.mark.parametrize(
    "source",
    ['op("add mul", op("conv linear"))'],
)
def test_in_a_rule_a_pattern_is_none_and_all_else_is(source: str) -> None:
    assert list(found_in(source))
    assert not list(found_in(source, patterns=True))
    assert list(found_in(f"{source}\nA = 'add mul'", patterns=True))


@pytest.mark.parametrize(
    "source", ['x = op.name == "pad"', 'A = ("x", "y")', 'print("add a number to it")', 'A = ("add", "x", "y")']
)
def test_nothing_else_is(source: str) -> None:
    assert not list(found_in(source))
