"""Integer references of table functions on values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qfx.ir.types import QArray, QParams
from qfx.ops.epilogue import Operand, quantized


def pointwise(
    exact: Callable[..., Any], single: Callable[..., Any], x: Operand, *, out: QParams | None, **kwargs: Any
) -> Tensor:
    """``exact`` of each value of codes in float64, ``single`` of float32 values; quantized to ``out``, or float32.

    Equals the op's lookup table, in which NaN becomes the zero point and infinities saturate, and its step on floats.
    """
    with np.errstate(all="ignore"):
        if isinstance(x, QArray):
            real = (x.values.to(torch.int64) - x.zero_point).double() * x.scale.double()
            y = torch.from_numpy(np.asarray(exact(real.numpy(), **kwargs), dtype=np.float64))
        else:
            flat = x.contiguous().reshape(-1).numpy()
            y = torch.from_numpy(np.asarray(single(flat, **kwargs), dtype=np.float32)).reshape(x.shape)
    return y.float() if out is None else quantized(y, out)
