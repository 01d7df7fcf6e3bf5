"""Every error that the package raises for a user's input says what to do."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import qfx
from qfx import errors

SOURCES = Path(qfx.__file__).parent
NAMES = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.QfxError)}
FILES = [path for path in sorted(SOURCES.rglob("*.py")) if path.name != "errors.py"]


def raised(path: Path) -> Iterator[ast.Call]:
    """The calls in a file that make one of the package's errors."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in NAMES:
            yield node


def test_errors_are_found() -> None:
    assert sum(1 for path in FILES for _ in raised(path)) > 80


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCES)))
def test_every_error_has_a_remedy(path: Path) -> None:
    silent = [call.lineno for call in raised(path) if not any(k.arg in ("remedy", None) for k in call.keywords)]
    assert not silent
