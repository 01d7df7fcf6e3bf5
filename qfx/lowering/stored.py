"""Steps with weights in fewer bits, which are decoded to float32."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

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


def embedding_step(builder: ProgramBuilder, indices: int, weight: StoredWeight) -> Step:
    """The rows of integers by groups at ``indices``, in float32."""
    scale, zeros = _scale(builder, weight)
    table = _constant(builder, weight.codes, weight.packed)
    return steps.embedding(indices, table=table, scale=scale, zero_point=zeros)


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
