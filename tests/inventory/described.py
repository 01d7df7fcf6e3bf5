"""Whether a public name of qfx exists, and says what it is."""

from __future__ import annotations

import ast
import importlib
import inspect
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

QFX = Path(__file__).parents[2] / "qfx"
FOREIGN = (object, torch.Tensor, nn.Module)
"""What every class has from these says nothing about the class."""


def resolve(name: str) -> Any:
    """The object under a dotted name.

    Raises:
        ImportError: A module on the way can't be imported, for another reason than that there is none.
        AttributeError: There is nothing of that name.
    """
    owner, last = owner_of(name)
    return getattr(owner, last) if last else owner


def owner_of(name: str) -> tuple[Any, str]:
    """The object that ``name`` is an attribute of, and its last part; for a module, itself and nothing."""
    parts = name.split(".")
    found: Any = importlib.import_module(parts[0])
    for index, part in enumerate(parts[1:], 1):
        path = ".".join(parts[: index + 1])
        if isinstance(found, ModuleType) and importable(path):
            found = importlib.import_module(path)
        elif index == len(parts) - 1:
            getattr(found, part)
            return found, part
        else:
            found = getattr(found, part)
    return found, ""


def importable(path: str) -> bool:
    try:
        importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not (path == error.name or path.startswith(error.name + ".")):
            raise
        return False
    return True


def described(name: str) -> bool:
    """Whether what ``name`` stands for has a docstring of its own, or its definition a string beneath it."""
    owner, last = owner_of(name)
    if not last:
        return bool(owner.__doc__)
    value = getattr(owner, last)
    if isinstance(value, type):
        return bool(vars(value).get("__doc__"))
    if inspect.isroutine(value):
        inherited = isinstance(owner, type) and not any(last in vars(c) for c in owner.__mro__ if c not in FOREIGN)
        # A QTensor does with torch's own methods what they say.
        return bool(value.__doc__) and (not inherited or issubclass(owner, torch.Tensor))
    kind = owner if isinstance(owner, type) else type(owner)
    for base in kind.__mro__:
        if isinstance(vars(base).get(last), property):
            return bool(vars(base)[last].__doc__)
    return last in documented_values()


@lru_cache(maxsize=1)
def documented_values() -> frozenset[str]:
    """Names in qfx that are assigned a value with a docstring beneath."""
    names: set[str] = set()
    for path in QFX.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for block in [tree, *(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))]:
            for first, second in zip(block.body, block.body[1:], strict=False):
                if isinstance(second, ast.Expr) and isinstance(second.value, ast.Constant):
                    targets = first.targets if isinstance(first, ast.Assign) else [getattr(first, "target", None)]
                    names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return frozenset(names)
