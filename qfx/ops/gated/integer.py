"""Gated products as the runtime computes them."""

from __future__ import annotations

from torch import Tensor

from qfx.ir.types import QParams
from qfx.ops.epilogue import Operand, quantized, value
from qfx.ops.gated.reference import FUNCTIONS, gate_arguments
from qfx.ops.table import op_of


def gated(x: Operand, y: Operand, *, function: str, approximate: str = "none", out: QParams | None) -> Tensor:
    """In float32: the function as its own step computes it, then the product."""
    row = op_of(FUNCTIONS[function])
    assert row is not None
    assert row.integer is not None
    return quantized(row.integer(value(x), out=None, **gate_arguments(function, approximate)) * value(y), out)
