"""Which tests check which rows of the inventory, read from the source of the tests."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
ROW = re.compile(r"S\d{3}")


def checks() -> tuple[dict[str, list[str]], list[str]]:
    """For each row the places of ``pytest.mark.inventory("<row>")``, and the places that can't be read.

    A mark names its rows in literal strings, or by a table of the same file that holds them as literal strings.
    """
    found: dict[str, list[str]] = defaultdict(list)
    unread: list[str] = []
    for path in sorted(TESTS.rglob("test_*.py")):
        for line, rows in marks(path.read_text(encoding="utf-8")):
            place = f"{path.relative_to(TESTS.parent)}:{line}"
            if not rows:
                unread.append(place)
            for row in rows:
                found[row].append(place)
    return dict(found), unread


def marks(source: str) -> list[tuple[int, set[str]]]:
    """Line and rows of every mark in ``source``; no rows where they can't be read."""
    tree = ast.parse(source)
    return [(call.lineno, _literal(call) or _tabled(tree, statement)) for statement, call in _marks(tree)]


def _marks(tree: ast.Module) -> Iterator[tuple[ast.stmt, ast.Call]]:
    for statement in tree.body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("mark.inventory"):
                yield statement, node


def _literal(call: ast.Call) -> set[str]:
    """The rows of a mark whose arguments are all strings."""
    values = [arg.value if isinstance(arg, ast.Constant) else None for arg in call.args]
    return {str(value) for value in values} if all(isinstance(value, str) for value in values) else set()


def _tabled(tree: ast.Module, statement: ast.stmt) -> set[str]:
    """The rows in ``statement`` and in the module's own constants that it reads."""
    read = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
    tables = [node for node in tree.body if isinstance(node, (ast.Assign, ast.AnnAssign)) and _targets(node) & read]
    return {row for table in (statement, *tables) for row in _rows(table)}


def _targets(node: ast.Assign | ast.AnnAssign) -> set[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _rows(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and ROW.fullmatch(part.value):
            yield part.value
