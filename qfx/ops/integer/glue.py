"""Integer references of matmul and of any table function on values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qfx.ir.types import QArray, QParams
from qfx.ops.integer.epilogue import Operand, quantized, value


def pointwise(fn: Callable[..., Any], x: Operand, *, out: QParams | None, **kwargs: Any) -> Tensor:
    """The float64 function ``fn`` of each exact value, quantized to ``out`` or rounded to float32.

    Equals the op's lookup table: NaN becomes the zero point, infinities saturate.
    """
    if isinstance(x, QArray):
        real = (x.values.to(torch.int64) - x.zero_point).double() * x.scale.double()
    else:
        real = x.double()
    with np.errstate(all="ignore"):
        y = torch.from_numpy(np.asarray(fn(real.numpy(), **kwargs), dtype=np.float64))
    return y.float() if out is None else quantized(y, out)


def matmul(x: Operand, y: Operand, *, out: QParams | None) -> Tensor:
    """float32 products accumulated in float32 in the order of the reduced dim, each operation rounded."""
    a, b = value(x), value(y)
    left, right = (a.unsqueeze(0) if a.dim() == 1 else a), (b.unsqueeze(1) if b.dim() == 1 else b)
    total = torch.zeros_like(torch.matmul(left, right))
    for k in range(left.shape[-1]):
        total = total + left[..., k : k + 1] * right[..., k : k + 1, :]
    total = total.squeeze(-1) if b.dim() == 1 else total
    if a.dim() == 1:
        total = total.squeeze(-1 if b.dim() == 1 else -2)
    return quantized(total, out)
