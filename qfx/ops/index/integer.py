"""Ops on integers as the runtime computes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from qfx.ir.types import QArray, QParams
from qfx.ops.epilogue import Operand, quantized, value


def embedding(indices: Tensor, weight: Operand, *, padding_idx: int | None = None, out: QParams | None) -> Tensor:
    """Rows as they are; of integers ``(q - zero_point) * scale`` in float32, each operation rounded."""
    if not isinstance(weight, QArray):
        return quantized(weight[indices], out)
    scale, zero_point = (
        t[indices].unsqueeze(-1) if weight.axis is not None else t for t in (weight.scale, weight.zero_point)
    )
    return quantized((weight.values[indices].to(torch.int64) - zero_point).float() * scale, out)


def embedding_bag(
    indices: Tensor,
    weight: Operand,
    offsets: Tensor | None = None,
    per_sample_weights: Operand | None = None,
    *,
    mode: str = "mean",
    include_last_offset: bool = False,
    padding_idx: int | None = None,
    sparse: bool = False,
    scale_grad_by_freq: bool = False,
    out: QParams | None,
) -> Tensor:
    """Rows one after the other in float32: sums from 0 on, each operation rounded; larger ones than the first."""
    begin, end = _bags(indices, offsets, include_last_offset=include_last_offset)
    rows = embedding(indices.reshape(-1), weight, out=None)
    factors = None if per_sample_weights is None else value(per_sample_weights).reshape(-1, 1)
    rows = rows if factors is None else rows * factors
    padding = None if padding_idx is None else padding_idx % _count(weight)
    y, counted = rows.new_zeros(len(begin), rows.shape[1]), torch.zeros(len(begin), 1)
    for i in range(int((end - begin).max()) if len(begin) else 0):
        at = (begin + i).clamp(max=indices.numel() - 1)
        takes = (begin + i < end) & (indices.reshape(-1)[at] != padding)
        y = torch.where(takes[:, None], _next(mode, y, rows[at], counted == 0), y)
        counted += takes[:, None]
    return quantized(y / counted.clamp(min=1) if mode == "mean" else y, out)


def _bags(indices: Tensor, offsets: Tensor | None, *, include_last_offset: bool) -> tuple[Tensor, Tensor]:
    """Where bags begin and end among all indices."""
    if offsets is None:
        begin = torch.arange(len(indices)) * indices.shape[1]
        return begin, begin + indices.shape[1]
    bounds = offsets.long() if include_last_offset else torch.cat([offsets.long(), torch.tensor([indices.numel()])])
    return bounds[:-1], bounds[1:]


def _count(weight: Operand) -> int:
    return len(weight.values if isinstance(weight, QArray) else weight)


def _next(mode: str, y: Tensor, row: Tensor, first: Tensor) -> Tensor:
    return torch.where(first | (row > y), row, y) if mode == "max" else y + row


def as_is(fn: Callable[..., Tensor], *args: Any, out: QParams | None, **kwargs: Any) -> Tensor:
    """``fn`` of integers, of truth values, and of what quantized operands stand for."""
    given = [value(arg) if isinstance(arg, QArray) else arg for arg in args]
    return quantized(fn(*given, **kwargs), out)
