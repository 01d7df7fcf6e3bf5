"""Float references of the ops on integers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def embedding(indices: Tensor, weight: Tensor, *, padding_idx: int | None = None) -> Tensor:
    """The row of ``weight`` at each index, ``[*indices.shape, features]``; that of ``padding_idx`` is not trained."""
    return F.embedding(indices, weight, padding_idx)


def to_float32(x: Tensor) -> Tensor:
    """``x`` as float32: integers and truth values to the nearest."""
    return x.to(torch.float32)
