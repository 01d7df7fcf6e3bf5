"""The row of scaling to length one."""

from __future__ import annotations

from qfx.ops.table import Op, with_samples
from qfx.ops.unit import integer, reference, samples

ROWS = with_samples(
    samples.GOOD,
    samples.BAD,
    Op(
        "l2_normalize", reference.l2_normalize, ("x",), "float", integer=integer.l2_normalize, family="div_f32",
        floats="integer",
    ),
)  # fmt: skip
