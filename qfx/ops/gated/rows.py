"""The row of gated products."""

from __future__ import annotations

from qfx.ops.gated import integer, reference, samples
from qfx.ops.table import Op, with_samples

ROWS = with_samples(
    samples.GOOD,
    samples.BAD,
    Op(
        "gated", reference.gated, ("x", "y"), "float", integer=integer.gated, family="gated", floats="integer",
        has_outliers=True, any_rank=True, kernels="float_ops: Pointwise",
    ),
)  # fmt: skip
