"""Names of the functions that a graph may call, and only of those: what a file names is looked up, never imported.

A name says where it is looked up: ``op.conv`` in the op table, ``operator.mul``, ``math.sqrt`` and ``builtins.len`` in
the sets here, ``torch.nn.functional.pad`` among the functions of tensors that :mod:`torch.overrides` lists,
``aten.add.Tensor`` among PyTorch's operators. What reads files, runs code or skips torch's own checks is in none.
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
from torch.overrides import get_overridable_functions

from qfx.errors import ConversionError, InputError
from qfx.file.malformed import MalformedError
from qfx.ops.table import TABLE, op_of

_OPERATORS = (
    "abs", "add", "and_", "concat", "contains", "eq", "floordiv", "ge", "getitem", "gt", "iadd", "iand", "ifloordiv",
    "imod", "imul", "index", "invert", "ior", "ipow", "is_", "is_not", "isub", "itruediv", "ixor", "le", "lshift", "lt",
    "matmul", "mod", "mul", "ne", "neg", "not_", "or_", "pos", "pow", "rshift", "sub", "truediv", "truth", "xor",
)  # fmt: skip
_MATH = ("ceil", "cos", "exp", "floor", "isqrt", "log", "log2", "pow", "prod", "sin", "sqrt", "trunc")
_BUILTINS = ("abs", "bool", "divmod", "float", "getattr", "int", "len", "max", "min", "pow", "round", "sum")
_FACTORIES = (
    "arange", "as_tensor", "empty", "eye", "full", "linspace", "logspace", "ones", "rand", "randint", "randn",
    "scalar_tensor", "tensor", "tril_indices", "triu_indices", "zeros", "complex", "polar",
)  # fmt: skip
_UNCHECKED = (
    "autocast", "compressed", "cudnn", "fbgemm", "file", "hook", "map", "apply_", "miopen", "mkl", "numpy", "quantize",
    "pickle", "resize", "save", "set_", "sparse", "storage", "strided", "unsafe", "dlpack", "sym_",
)  # fmt: skip
"""Parts of the names of functions that trust their operands, change memory under others, or leave tensors."""

ATTRIBUTES = frozenset({"shape", "dtype", "device", "ndim", "T", "mT", "H", "mH", "real", "imag", "data", "is_cuda"})
"""Attributes that ``getattr`` may read: of tensors."""
_CONTAINER_METHODS = frozenset({"get", "items", "keys", "values"})


def function_name(function: Any) -> str:
    """The name of a function that a graph calls.

    Raises:
        ConversionError: It is none of those that a file may name.
    """
    op = op_of(function)
    if op is not None:
        return f"op.{op.name}"
    if isinstance(function, torch._ops.OpOverload):
        name = str(function)
        if name.startswith("aten.") and _takes_tensors(function):
            return name
    else:
        found = _names().get(function)
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
        found = _overload(rest) if kind == "aten" else _functions().get(name)
        if found is not None:
            return found
    raise MalformedError(f"The file names {name!r}, which is no function that a model may call.")


def is_method(name: str) -> bool:
    """Whether a graph in a file may call the method ``name``."""
    return name in _methods() or name in _CONTAINER_METHODS


@functools.cache
def _functions() -> dict[str, Callable[..., Any]]:
    """The functions outside the op table by name."""
    found: dict[str, Callable[..., Any]] = {}
    own: tuple[tuple[ModuleType, tuple[str, ...]], ...] = (
        (operator, _OPERATORS), (math, _MATH), (builtins, _BUILTINS), (torch, _FACTORIES),
    )  # fmt: skip
    for module, names in own:
        found.update({f"{module.__name__}.{name}": getattr(module, name) for name in names})
    for space in (torch, torch.functional, torch.nn.functional, torch.linalg, torch.fft, torch.special):
        listed = set(get_overridable_functions()[space])
        for name, function in vars(space).items():
            if _is_plain(name) and callable(function) and not isinstance(function, type) and function in listed:
                found[f"{space.__name__}.{name}"] = function
    found.update({f"torch.Tensor.{name}": getattr(torch.Tensor, name) for name in _methods()})
    return found


@functools.cache
def _names() -> dict[Callable[..., Any], str]:
    """The first name of every function."""
    return {function: name for name, function in reversed(_functions().items())}


@functools.cache
def _methods() -> frozenset[str]:
    listed: Any = get_overridable_functions()[torch.Tensor]
    names = {getattr(function, "__name__", "_") for function in listed}
    return frozenset(name for name in names if _is_plain(name) and hasattr(torch.Tensor, name))


def _is_plain(name: str) -> bool:
    return not name.startswith("_") and not any(part in name for part in _UNCHECKED)


def _overload(name: str) -> Any:
    packet, _, overload = name.partition(".")
    if not packet.isidentifier() or not overload.isidentifier() or overload.startswith("__"):
        return None
    found = getattr(getattr(torch.ops.aten, packet, None), overload, None)
    return found if isinstance(found, torch._ops.OpOverload) and _takes_tensors(found) else None


def _takes_tensors(overload: torch._ops.OpOverload) -> bool:
    """Whether an operator computes with tensors, or makes one of a size that is given."""
    packet = overload._schema.name.removeprefix("aten::")
    if not _is_plain(packet.lstrip("_")):
        return False
    return packet in _FACTORIES or any("Tensor" in str(argument.type) for argument in overload._schema.arguments)
