"""Names of the functions that a graph may call, and only of those: what a file names is looked up, never imported.

A name says where it is looked up: ``op.conv`` in the op table, ``operator.mul``, ``math.sqrt`` and ``builtins.len`` in
Python, ``torch.nn.functional.pad`` in torch, ``aten.add.Tensor`` among PyTorch's operators. What is found there is
listed in :mod:`qfx.file.functions`; a function that trusts its operands is behind a check (:mod:`qfx.file.checked`).
"""

from __future__ import annotations

import builtins
import functools
import math
import operator
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

from qfx.errors import ConversionError, InputError
from qfx.file.checked import CHECKED
from qfx.file.functions import BUILTINS, CHANGING, CONTAINER_METHODS, MADE, MATH, NAMES, OPERATORS, SYMBOLIC
from qfx.file.malformed import MalformedError
from qfx.ops.table import TABLE, op_of

_SPACES: tuple[Any, ...] = (
    torch, torch.functional, torch.nn.functional, torch.linalg, torch.fft, torch.special,
)  # fmt: skip
_PREFIXES = ("", "linalg_", "fft_", "special_")
"""What PyTorch's operators have before the names of functions in the spaces."""


def function_name(function: Any) -> str:
    """The name of a function that a graph calls.

    Raises:
        ConversionError: It is none of those that a file may name.
    """
    op = op_of(function)
    if op is not None:
        return f"op.{op.name}"
    found = _names().get(function)
    if found is None and isinstance(function, torch._ops.OpOverload) and _is_listed(function):
        found = str(function)
    if found is not None:
        return found
    spelled = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', function)}"
    raise ConversionError(
        f"The model calls {spelled}, which can't be stored in a .qfx file.",
        why="A file names the ops of qfx and the functions of torch; it brings no code.",
        remedy="Write it in torch functions or register it with qfx.register_op, and quantize again; or "
        "torch.save(model, path) the whole model, and load that only where you trust the file.",
    )


def function_named(name: Any) -> Callable[..., Any]:
    """The function of a name.

    Raises:
        MalformedError: It is none that a file may name.
    """
    if isinstance(name, str):
        kind, _, rest = name.partition(".")
        if kind == "op" and rest in TABLE:
            return TABLE[rest].fn
        if kind == "op":
            raise InputError(
                f"The file uses an op {rest!r} that this process does not have.",
                remedy="Import the module that registers it with qfx.register_op first, or update qfx.",
            )
        found = CHECKED.get(name) or (_overload(rest) if kind == "aten" else functions().get(name))
        if found is not None:
            return found
    raise MalformedError(f"The file names {name!r}, which is no function that a model may call.")


def is_method(name: str) -> bool:
    """Whether a graph in a file may call the method ``name``."""
    return name in methods() or name in CONTAINER_METHODS


@functools.cache
def functions() -> dict[str, Callable[..., Any]]:
    """The functions of Python and torch that a graph in a file may call, by name."""
    found: dict[str, Callable[..., Any]] = {}
    own: tuple[tuple[ModuleType, tuple[str, ...]], ...] = (
        (operator, OPERATORS),
        (math, MATH),
        (builtins, BUILTINS),
        (torch, SYMBOLIC),
    )
    for module, names in own:
        found.update({f"{module.__name__}.{name}": getattr(module, name) for name in names})
    for space in _SPACES:
        for name in sorted((NAMES | CHANGING) - _unchecked()):
            function = vars(space).get(name)
            if callable(function) and not isinstance(function, type):
                found[f"{space.__name__}.{name}"] = function
    found.update({f"torch.Tensor.{name}": getattr(torch.Tensor, name) for name in sorted(methods())})
    return found


@functools.cache
def _names() -> dict[Any, str]:
    """The first name of every function: of one behind a check, what it checks too."""
    names = {function: name for name, function in reversed(functions().items())}
    for name, function in reversed(CHECKED.items()):
        names[function] = name
        if name.startswith("aten."):
            names[_operator(name.removeprefix("aten."))] = name
    return names


def _unchecked() -> frozenset[str]:
    """Names of PyTorch's operators of which only those behind a check are called."""
    return frozenset(name.split(".")[1] for name in CHECKED if name.startswith("aten."))


@functools.cache
def methods() -> frozenset[str]:
    """The methods of tensors that a graph in a file may call."""
    return frozenset(name for name in NAMES | CHANGING if callable(getattr(torch.Tensor, name, None)))


def _overload(name: str) -> Any:
    found = _operator(name)
    return found if found is not None and _is_listed(found) else None


def _operator(name: str) -> Any:
    packet, _, overload = name.partition(".")
    if not packet.isidentifier() or not overload.isidentifier() or overload.startswith("__"):
        return None
    found = getattr(getattr(torch.ops.aten, packet, None), overload, None)
    return found if isinstance(found, torch._ops.OpOverload) else None


def _is_listed(overload: torch._ops.OpOverload) -> bool:
    """Whether an operator is one of the listed functions, of tensors, and writes into none but the first of them."""
    namespace, _, packet = overload._schema.name.partition("::")
    name = next((packet.removeprefix(p) for p in _PREFIXES if packet.removeprefix(p) in NAMES | CHANGING), None)
    if namespace != "aten" or name is None or name in _unchecked():
        return False
    given = overload._schema.arguments
    written = [index for index, argument in enumerate(given) if argument.alias_info and argument.alias_info.is_write]
    takes = name in MADE or any("Tensor" in str(argument.real_type) for argument in given)
    return takes and written == ([0] if name in CHANGING else [])
