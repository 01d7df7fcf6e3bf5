"""Steps with weights in fewer bits, which are decoded to float32."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from qfx.ir.types import QArray
from qfx.ops.qdq.decode import StoredWeight
from qfx.runtime import ProgramBuilder, steps
from qfx.runtime.writing import Step


def linear_step(builder: ProgramBuilder, x: int, weight: StoredWeight, bias: int | None) -> Step:
    """``x W^T + bias`` in float32."""
    codes = _constant(builder, weight.codes, weight.packed)
    if weight.scale is None:
        return steps.linear_half(x, weight=codes, bias=bias)
    scale, zeros = _scale(builder, weight)
    return steps.linear_grouped(x, weight=codes, weight_scale=scale, weight_zero_point=zeros, bias=bias)


def dynamic_grouped_step(
    builder: ProgramBuilder,
    x: int,
    weight: StoredWeight,
    bias: int | None,
    *,
    group: int,
    residual: int | None = None,
    clamp: list[float] | None = None,
) -> Step:
    """``x W^T + bias``, ``x`` quantized with a scale for ``group`` neighbours of a row, then residual and clamp."""
    scale, zeros = _scale(builder, weight)
    return steps.linear_dynamic_grouped(
        x,
        residual,
        x_group=group,
        f32_clamp=clamp,
        weight=_constant(builder, weight.codes, weight.packed),
        weight_scale=scale,
        weight_zero_point=zeros,
        bias=bias,
    )


class Table(NamedTuple):
    """A table as constants of a program: floats, or codes with a scale, and zero points unless all are 0."""

    rows: int
    values: int
    scale: int | None = None
    zero_point: int | None = None


def table_of(builder: ProgramBuilder, table: Tensor | QArray | StoredWeight) -> Table:
    """A table of floats, of integers with a scale a row or one for all, or as weights alone are stored."""
    if isinstance(table, Tensor):
        return Table(table.shape[0], _constant(builder, table))
    if isinstance(table, StoredWeight):
        codes = _constant(builder, table.codes, table.packed)
        return Table(table.shape[0], codes, *(() if table.scale is None else _scale(builder, table)))
    scale = _constant(builder, table.scale.to(torch.float32))
    moved = bool(table.zero_point.any())
    zeros = _constant(builder, table.zero_point.to(torch.int32)) if moved else None
    return Table(table.values.shape[0], _constant(builder, table.values), scale, zeros)


def embedding_step(indices: int, table: Table) -> Step:
    """The rows at ``indices``, in float32."""
    return steps.embedding(indices, table=table.values, scale=table.scale, zero_point=table.zero_point)


def bag_step(
    indices: int, offsets: int | None, factors: int | None, table: Table, *, mode: str, padding: int | None,
    include_last: bool,
) -> Step:  # fmt: skip
    """What bags of rows become; arguments as those of the op, of which ``padding`` may count from the end."""
    padding = None if padding is None else padding % table.rows
    if offsets is None:
        return steps.embedding_bag(
            indices, factors, mode=mode, padding=padding, table=table.values, scale=table.scale,
            zero_point=table.zero_point,
        )  # fmt: skip
    return steps.ragged_embedding_bag(
        indices, offsets, factors, mode=mode, padding=padding, include_last=include_last, table=table.values,
        scale=table.scale, zero_point=table.zero_point,
    )  # fmt: skip


def _scale(builder: ProgramBuilder, weight: StoredWeight) -> tuple[int, int | None]:
    assert weight.scale is not None
    zeros, shape = weight.zero_point, None if weight.packed is None else tuple(weight.scale.shape)
    return _constant(builder, weight.scale), None if zeros is None else _constant(builder, zeros, shape)


def _constant(builder: ProgramBuilder, tensor: Tensor, packed: tuple[int, ...] | None = None) -> int:
    """A constant of the tensor; ``packed``: the shape of its codes, where they have 4 bits."""
    tensor = tensor.detach()
    if packed is not None:
        return builder.constant(tensor.numpy(), "s4", packed)
    if tensor.dtype is torch.bfloat16:
        return builder.constant(tensor.view(torch.int16).numpy(), "bf16", tuple(tensor.shape))
    return builder.constant(np.ascontiguousarray(tensor.numpy()))
