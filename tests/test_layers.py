"""Imports run down the layers of pyproject.toml; what the linter cannot see, written as strings, is looked for here."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import networkx as nx
import pytest

import qfx
from qfx import public
from qfx.provided import _PLACES, Part, provided

try:
    import tomllib
except ImportError:
    import tomli as tomllib  # type: ignore[no-redef]

ROOT = Path(qfx.__file__).parent

ROOTS = {"qfx", "qfx.public"}
"""Files that name modules as strings: the root, and the names that it shows."""

OF_THE_USER = {"qfx.provided", "qfx.cli.config", "qfx.cli.formats", "qfx.cli.model"}
OF_THE_USER |= {"qfx.integrations.files", "qfx.integrations.form"}
"""Files that import what they are told: the root's parts, modules that a user of the command line names, and packages
whose objects a user gives."""


def name_of(path: Path) -> str:
    parts = ("qfx", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}

COMPILED = {name_of(path) for path in ROOT.rglob("*.pyi")}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


def ranks() -> dict[str, int]:
    """How high each part of the package is, by its name."""
    contracts = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(c["layers"] for c in contracts if c["type"] == "layers")
    names = ([n.strip(" ()") for n in layer.replace(":", "|").split("|")] for layer in reversed(layers))
    return {f"qfx.{name}": rank for rank, layer in enumerate(names) for name in layer}


RANKS = ranks()


def part_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def strings(module: str) -> Iterator[tuple[int, str]]:
    """Strings that name a module of ours, or begin to, with their lines."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value.rstrip(".")
            if text in FILES and "." in text:
                yield node.lineno, text


def test_no_string_names_a_module_further_up():
    up = [
        f"{module}:{line}: {text}"
        for module in FILES.keys() - ROOTS
        for line, text in strings(module)
        if part_of(text) != part_of(module) and RANKS[part_of(text)] >= RANKS[part_of(module)]
    ]
    assert not up


def test_only_the_root_imports_by_a_string_of_ours():
    found = []
    for module in FILES.keys() - {"qfx"} - OF_THE_USER:
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
                given = ast.unparse(node.args[0]).lstrip("f").strip("'\"")
                own = given.startswith(("{__name__}.", f"{module.rpartition('.')[0]}."))
                if not own and not given.startswith(("torch.", "yaml")):
                    found.append(f"{module}:{node.lineno}: {given}")
    assert not found


def test_only_the_command_line_uses_the_root_which_shows_everything():
    using = set()
    for module in FILES:
        for node in ast.walk(tree(module)):
            plain = isinstance(node, ast.Import) and any(alias.name == "qfx" for alias in node.names)
            names = [a.name for a in node.names] if isinstance(node, ast.ImportFrom) and node.module == "qfx" else []
            if plain or any(f"qfx.{name}" not in FILES for name in names):
                using.add(part_of(module))
    assert using <= {"qfx.cli", "qfx.__main__"}


@pytest.mark.parametrize("part", Part, ids=lambda part: part.name)
def test_the_root_says_where_each_part_is_and_it_is_further_up_than_who_asks(part):
    module, _ = _PLACES[part]
    assert provided(part) is not None
    asking = [m for m in FILES if f"provided(Part.{part.name})" in FILES[m].read_text()]
    assert asking
    assert all(RANKS[part_of(m)] < RANKS[part_of(module)] for m in asking)


def test_every_name_that_the_root_shows_is_where_it_says():
    for name, module in public.MODULE_OF.items():
        assert getattr(qfx, name) is getattr(importlib.import_module(module), name)


def imported(module: str) -> Iterator[str]:
    """The files that a file imports, at its top or later, but not for type checkers alone."""
    unseen = {
        id(below)
        for node in ast.walk(tree(module))
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for below in ast.walk(statement)
    }
    for node in ast.walk(tree(module)):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in FILES)
        elif isinstance(node, ast.ImportFrom) and node.module in FILES:
            full = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in FILES else node.module for name in full if name not in COMPILED)


CIRCLES = {"qfx.tensor"}
"""Packages whose files need each other: QTensor's methods are in several, and each makes QTensors."""


def test_files_do_not_import_each_other_in_circles():
    graph = nx.DiGraph((module, other) for module in FILES for other in imported(module) if module != other)
    circles = [sorted(circle) for circle in nx.strongly_connected_components(graph) if len(circle) > 1]
    assert {part_of(module) for circle in circles for module in circle} <= CIRCLES, circles
    assert len(circles) <= len(CIRCLES)
