"""Scaling to length one as the runtime computes it."""

from __future__ import annotations

from torch import Tensor

from qfx.ir.types import QParams
from qfx.ops.epilogue import Operand, quantized, value


def l2_normalize(x: Operand, *, dim: int, eps: float, out: QParams | None) -> Tensor:
    """Squares, their sum, its root, at least ``eps``, the quotient: each in float64, rounded to float32."""
    v = value(x).double()
    total = v.square().float().double().sum(dim, keepdim=True).float()
    length = total.double().sqrt().float().double().clamp(min=eps).float()
    return quantized((v / length.double()).float(), out)
