"""The rotation as the runtime computes it."""

from __future__ import annotations

import torch
from torch import Tensor

from qfx.ir.types import QParams
from qfx.ops.epilogue import Operand, quantized, value


def rotate(x: Operand, *, block: int, out: QParams | None) -> Tensor:
    """In float32: sums and differences of neighbours 1, 2, 4, ... apart, in that order, then ``* 1 / sqrt(block)``."""
    floats = value(x)
    y = floats.reshape(-1)
    apart = 1
    while apart < block:
        pairs = y.reshape(-1, 2, apart)
        first, second = pairs[:, 0], pairs[:, 1]
        y = torch.stack([first + second, first - second], 1)
        apart *= 2
    scaled = y.reshape(floats.shape) * torch.tensor(block**-0.5, dtype=torch.float32)
    return quantized(scaled, out)
