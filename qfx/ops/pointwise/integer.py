"""Integer references of table functions on values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qfx.ir.types import QArray, QParams
from qfx.ops.epilogue import Operand, quantized


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
