"""Every error that the package raises for a user's input says what to do."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import qfx
from qfx import errors

SOURCES = Path(qfx.__file__).parent
NAMES = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.QfxError)}
FILES = [path for path in sorted(SOURCES.rglob("*.py")) if path.name != "errors.py"]


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def raised(path: Path) -> Iterator[ast.Call]:
    """The calls in a file that make one of the package's errors."""
    for node in nodes(path):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in NAMES:
            yield node


def test_errors_are_found() -> None:
    assert sum(1 for path in FILES for _ in raised(path)) > 80


TEXTS = {"what", "why", "remedy"}
SEARCHES = {
    "startswith",
    "endswith",
    "find",
    "index",
    "count",
    "partition",
    "rpartition",
    "removeprefix",
    "removesuffix",
}


def searched(path: Path) -> Iterator[ast.AST]:
    """Where a file decides by words of an error of the package: those are for readers, its type is for code."""

    def is_text(node: ast.AST) -> bool:
        return any(isinstance(n, ast.Attribute) and n.attr in TEXTS for n in ast.walk(node))

    for node in nodes(path):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.In, ast.NotIn, ast.Eq, ast.NotEq)):
            if is_text(node.left) or any(map(is_text, node.comparators)):
                yield node
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of_a_text = node.func.attr in SEARCHES and is_text(node.func.value)
            by_pattern = ast.unparse(node.func.value) == "re" and any(map(is_text, node.args))
            if of_a_text or by_pattern:
                yield node


@pytest.mark.parametrize(
    "code", ["'s32' in error.what", "'x' not in (e.why or '')", "e.what.startswith('A')", "re.search('x', e.remedy)"]
)
def test_searches_are_found(tmp_path: Path, code: str) -> None:
    path = tmp_path / "code.py"
    path.write_text(code)
    assert list(searched(path))


def test_no_code_searches_the_text_of_an_error() -> None:
    assert not [f"{path}:{node.lineno}: {ast.unparse(node)}" for path in FILES for node in searched(path)]  # type: ignore[attr-defined]


def test_every_error_has_a_remedy() -> None:
    calls = [(path, call) for path in FILES for call in raised(path)]
    assert not [f"{p}:{c.lineno}" for p, c in calls if not any(k.arg in ("remedy", None) for k in c.keywords)]
