"""Loading a ``.pt2`` file without running what a stranger may have put in it.

``torch.export.load`` unpickles objects, evaluates expressions and resolves any name below ``torch``. Here pickles are
limited to tensors, and names and expressions are checked before.
"""

from __future__ import annotations

import ast
import json
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from qfx.cli.blame import told
from qfx.errors import InputError

_TARGET = re.compile(r"torch\.ops\.\w+(\.\w+)+|math\.\w+|torch\.sym_\w+|_operator\.(?!attrgetter|methodcaller|call)\w+")
_CALLED = re.compile(r"[A-Z]\w*|floor|ceiling")
_EXPRESSION = (
    ast.Expression, ast.Call, ast.keyword, ast.Name, ast.Load, ast.Constant, ast.BinOp, ast.UnaryOp, ast.BoolOp,
    ast.Compare, ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip
_FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_UNFORCE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


def load_exported(path: Path) -> ExportedProgram:
    """The program in ``path``.

    Raises:
        InputError: The file is damaged, of another torch, or holds more than tensors and calls of torch's operators.
    """
    try:
        for name in _names(path):
            raise InputError(
                f"{str(path)!r} is refused: it calls {name!r}, which is no operator of torch.",
                why="Loading it could run any code.",
                remedy="Export the model anew with torch.export.save, from a source that you trust.",
            )
        with _tensors_only():
            program = torch.export.load(path)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{str(path)!r} can't be loaded as an exported program.",
            why=f"{told(error)}.",
            remedy="Export it anew, with this version of torch: torch.export.save(torch.export.export(model, inputs), "
            "path).",
        ) from error
    if getattr(program, "_guards_code", None):
        program._guards_code = []  # source text that module() would run
    return program


def _names(path: Path) -> Iterator[str]:
    """Targets and expressions in the file's graphs that are more than they should be."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".json"):
                yield from _suspect(json.loads(archive.read(name)))


def _suspect(data: Any) -> Iterator[str]:
    if isinstance(data, list):
        for value in data:
            yield from _suspect(value)
    elif isinstance(data, dict):
        target, expression = data.get("target"), data.get("expr_str")
        if isinstance(target, str) and not _TARGET.fullmatch(target):
            yield target
        if isinstance(expression, str) and not _is_plain(expression):
            yield expression
        for value in data.values():
            yield from _suspect(value)


def _is_plain(expression: str) -> bool:
    """Whether it is arithmetic on symbols, with classes of sympy: ``Max(2, Symbol('s0'))``."""
    for node in ast.walk(ast.parse(expression, mode="eval")):
        if not isinstance(node, _EXPRESSION):
            return False
        if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and _CALLED.fullmatch(node.func.id)):
            return False
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not node.value.isidentifier():
            return False
    return True


@contextmanager
def _tensors_only() -> Iterator[None]:
    """While active, ``torch.load`` unpickles tensors and plain containers only."""
    before = {name: os.environ.get(name) for name in (_FORCE, _UNFORCE)}
    os.environ[_FORCE] = "1"
    os.environ.pop(_UNFORCE, None)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
