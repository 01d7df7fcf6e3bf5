"""Rotary embedding as the runtime computes it."""

from __future__ import annotations

from torch import Tensor

from qfx.ir.types import QParams
from qfx.ops.epilogue import Operand, quantized, value
from qfx.ops.rotary import reference


def rotary(x: Operand, cos: Operand, sin: Operand, *, length: int, interleaved: bool, out: QParams | None) -> Tensor:
    """In float32, two products and a difference or a sum, each rounded on its own."""
    turned = reference.rotary(value(x), value(cos), value(sin), length=length, interleaved=interleaved)
    return quantized(turned, out)
