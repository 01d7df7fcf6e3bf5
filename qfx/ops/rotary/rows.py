"""The row of rotary embedding."""

from __future__ import annotations

from qfx.ops.rotary import integer, reference, samples
from qfx.ops.table import Op, with_samples

ROWS = with_samples(
    samples.GOOD,
    samples.BAD,
    Op(
        "rotary", reference.rotary, ("x", "cos", "sin"), "float", integer=integer.rotary, family="rotary",
        floats="integer", kernels="rotary: Halves Pairs",
    ),
)  # fmt: skip
