"""Float reference of scaling to length one."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def l2_normalize(x: Tensor, *, dim: int, eps: float) -> Tensor:
    """``x`` over its Euclidean length along ``dim``, or over ``eps`` where that is more."""
    return F.normalize(x, 2.0, dim, eps)
