"""Operators on tensors that only hold a size: a trace makes such a tensor of every ``x.shape[i]``."""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from qfx.frontends.torchscript.overloads import NUMBERS_FOR_TENSORS, takes_tensor

if TYPE_CHECKING:
    from qfx.frontends.torchscript.writer import Writer

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "pow": operator.pow, "sqrt": math.sqrt, "floor": math.floor, "ceil": math.ceil, "trunc": math.trunc,
    "exp": math.exp, "log": math.log, "log2": math.log2, "log10": math.log10, "abs": operator.abs,
    "round": builtins.round,
    "maximum": builtins.max, "minimum": builtins.min, "max": builtins.max, "min": builtins.min,
}  # fmt: skip
_SAME = {"detach", "clone", "alias", "lift", "lift_fresh", "contiguous", "view", "reshape", "squeeze", "expand", "item"}
_CONVERSIONS = {"to", "_to_copy", "type_as"}


def of_numbers(t: Writer, overload: Any, operands: list[Any]) -> Any:
    """The value of an operator whose tensors are all numbers that the graph computes; NotImplemented for others."""
    schema = overload._schema.arguments
    tensors = [v for v, a in zip(operands, schema, strict=False) if takes_tensor(a) and v is not None]
    if not tensors or not all(t.is_number(v) or _is_number(v) for v in tensors) or not any(map(t.is_number, operands)):
        return NotImplemented
    name, x = overload._opname.rstrip("_"), operands[0]
    if name in _SAME:
        return x
    if name in _CONVERSIONS:
        return _converted(t, x, operands[1:])
    if name == "reciprocal":
        return t.emit(operator.truediv, (1, x), number=True)
    if name == "rsqrt":
        return t.emit(operator.truediv, (1, t.emit(math.sqrt, (x,), number=True)), number=True)
    given = tuple(v for v in operands if t.is_number(v) or _is_number(v))
    function = _FUNCTIONS.get(name)
    return t.emit(function, given, number=True) if function is not None else NotImplemented


def as_tensor(t: Writer, overload: Any, index: int, value: Any) -> Any:
    """A computed number as the tensor that an operator takes it for."""
    schema = overload._schema.arguments
    argument = schema[min(index, len(schema) - 1)]
    if not t.is_number(value) or not takes_tensor(argument) or overload._opname in NUMBERS_FOR_TENSORS:
        return value
    return t.emit(torch.ops.aten.scalar_tensor.default, (value,))


def _converted(t: Writer, x: Any, targets: list[Any]) -> Any:
    dtypes = [target for target in targets if isinstance(target, (torch.dtype, int)) and not isinstance(target, bool)]
    floating = {torch.float16, torch.float32, torch.float64, torch.bfloat16, 5, 6, 7, 15}
    if not dtypes or not isinstance(x, fx.Node):
        return x
    return t.emit(float if dtypes[0] in floating else int, (x,), number=True)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
