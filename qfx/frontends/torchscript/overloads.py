"""From a node's schema to the ``torch.ops.aten`` overload, and its values to arguments of that."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_SCHEMA = re.compile(r"(?P<space>\w+)::(?P<name>\w+)(?:\.(?P<overload>\w+))?\(")
_DTYPES: dict[int, torch.dtype] = {
    0: torch.uint8, 1: torch.int8, 2: torch.int16, 3: torch.int32, 4: torch.int64, 5: torch.float16,
    6: torch.float32, 7: torch.float64, 8: torch.complex32, 9: torch.complex64, 10: torch.complex128,
    11: torch.bool, 15: torch.bfloat16,
}  # fmt: skip
_FORMATS = {
    0: torch.contiguous_format,
    1: torch.preserve_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
}
_ENUMS: dict[str, dict[int, Any]] = {"ScalarType": _DTYPES, "MemoryFormat": _FORMATS, "Layout": {0: torch.strided}}
NUMBERS_FOR_TENSORS = frozenset(
    ["add", "add_", "sub", "sub_", "mul", "mul_", "div", "div_", "rsub", "floor_divide", "remainder", "true_divide"]
)
"""Operators whose overloads on tensors take Python numbers too."""


def dtype_of(value: Any) -> Any:
    """The dtype for which an integer stands in TorchScript; what is none, as it is."""
    return _DTYPES.get(value, value) if type(value) is int else value


def overload_of(node: Any) -> Any:
    """The ``torch.ops`` overload that a node calls, None when torch has none of its name."""
    match = _SCHEMA.match(node.schema())
    if match is None:
        return None
    packet = getattr(getattr(torch.ops, match["space"]), match["name"], None)
    return getattr(packet, match["overload"] or "default", None)


def arguments(overload: Any, values: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of a call with one value for each of the schema's; defaults at the end are left out."""
    schema = overload._schema.arguments
    pairs = [(argument, _enum(argument, value)) for argument, value in zip(schema, values, strict=False)]
    positional = [(argument, value) for argument, value in pairs if not argument.kwarg_only]
    while positional and is_default(*positional[-1]):
        positional.pop()
    keywords = {a.name: value for a, value in pairs if a.kwarg_only and not is_default(a, value)}
    return tuple(value for _, value in positional), keywords


def is_default(argument: Any, value: Any) -> bool:
    """Whether ``value`` is what a call without the argument means."""
    if not argument.has_default_value() or isinstance(value, Tensor):
        return False
    default = _enum(argument, argument.default_value)
    return type(default) is type(value) and bool(default == value)


def takes_tensor(argument: Any) -> bool:
    """Whether an argument of a schema is a tensor, or may be."""
    return str(argument.type) in ("Tensor", "Optional[Tensor]")


def as_argument(overload: Any, index: int, value: Any) -> Any:
    """``value`` as the argument of a schema at ``index``: a tensor where numbers are not taken for one."""
    schema = overload._schema.arguments
    argument = schema[min(index, len(schema) - 1)]
    number = isinstance(value, (bool, int, float)) and takes_tensor(argument)
    return torch.tensor(value) if number and overload._opname not in NUMBERS_FOR_TENSORS else value


def _enum(argument: Any, value: Any) -> Any:
    """Integers that stand for a dtype, a memory format or a layout as those."""
    kind = next((table for name, table in _ENUMS.items() if name in str(argument.real_type)), None)
    return kind.get(value, value) if kind is not None and type(value) is int else value
