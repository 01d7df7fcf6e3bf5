"""The integers behind a constant of a graph: those that a tool gave, through whatever moved them on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from qfx.ir.derivation import Derived, Source
from qfx.ir.types import QArray
from qfx.ops import arithmetic
from qfx.passes.weights import QuantizedWeight

_FIRST = 128
"""What uint8 codes are above int8 ones."""


def integers_of(value: Tensor, derivation: Any, read: Mapping[str, QArray]) -> QuantizedWeight | None:
    """int8 integers that mean ``value`` exactly, with one scale for all or one a row; None if there are none.

    A constant may be a weight as a tool gave it, or one that was transposed, sliced or padded with zeros: what moves
    integers moves scales and zero points along with them.

    Args:
        value: The constant, float32.
        derivation: How it follows from the tensors of the captured model.
        read: The integers of such tensors, by path.
    """
    moved = [_moved(derivation, read, part) for part in (_codes, _scales, _zero_points)]
    if any(part is None or part.shape != value.shape for part in moved):
        return None
    codes, scale, zero = (part for part in moved if part is not None)
    shift = _FIRST if codes.numel() and int(codes.max()) >= _FIRST else 0
    codes, zero = codes - shift, zero - shift
    found = _by_rows(codes, scale, zero)
    return found if found is not None and torch.equal(found.dequantized(), value.detach()) else None


def _by_rows(codes: Tensor, scale: Tensor, zero: Tensor) -> QuantizedWeight | None:
    """The same with one number for all or one a row of dim 0, if that is what they are. What means 0 has any scale."""
    if codes.dim() == 0 or codes.numel() == 0:
        return None
    means_0 = (codes == zero).reshape(codes.shape[0], -1)
    scales, zeros = (_number_of_rows(numbers, means_0) for numbers in (scale, zero))
    if scales is None or zeros is None:
        return None
    scales = torch.where(scales == 0, torch.ones_like(scales), scales)
    rows = zeros.reshape(-1, *[1] * (codes.dim() - 1))
    codes = torch.where(means_0.reshape(codes.shape), rows.expand(codes.shape), codes)
    if any(bool(numbers.min() < -_FIRST) or bool(numbers.max() >= _FIRST) for numbers in (codes, zeros)):
        return None
    if bool((scales == scales[0]).all() and (zeros == zeros[0]).all()):
        return QuantizedWeight(codes.to(torch.int8), scales[0].clone(), zeros[0].clone(), None)
    return QuantizedWeight(codes.to(torch.int8), scales.clone(), zeros.clone(), 0)


def _number_of_rows(numbers: Tensor, means_0: Tensor) -> Tensor | None:
    """The one number of each row, wherever a row has more than zeros."""
    rows = numbers.reshape(means_0.shape)
    first = (~means_0).to(torch.int8).argmax(1, keepdim=True)
    found = rows.gather(1, first)
    return found[:, 0] if bool(((rows == found) | means_0).all()) else None


def _moved(derivation: Any, read: Mapping[str, QArray], part: Callable[[QArray], Tensor]) -> Tensor | None:
    """A part of the integers that a derivation reads, where the constant has it."""
    if isinstance(derivation, Source):
        return part(read[derivation.path]) if derivation.path in read else None
    if not isinstance(derivation, Derived):
        return None
    tensors = [each for each in derivation.operands if isinstance(each, (Source, Derived))]
    if len(tensors) != 1:
        return None
    operand = _moved(tensors[0], read, part)
    if operand is None:
        return None
    given = (operand if each is tensors[0] else each for each in derivation.operands)
    with torch.no_grad():
        made = derivation.compute(*given)
    return made if isinstance(made, Tensor) else None


def _codes(array: QArray) -> Tensor:
    return array.values.to(torch.int64)


def _scales(array: QArray) -> Tensor:
    return _spread(array.scale.float(), array)


def _zero_points(array: QArray) -> Tensor:
    return _spread(array.zero_point.to(torch.int64), array)


def _spread(numbers: Tensor, array: QArray) -> Tensor:
    """One number for each integer."""
    return arithmetic.expand_channel(numbers, array.axis, array.values.dim()).expand(array.values.shape).contiguous()
