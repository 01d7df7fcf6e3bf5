"""The row of the rotation."""

from __future__ import annotations

from qfx.ops.rotation import integer, reference, samples
from qfx.ops.table import Op, with_samples

ROWS = with_samples(
    samples.GOOD,
    samples.BAD,
    Op(
        "rotate", reference.rotate, ("x",), "float", integer=integer.rotate, family="rotate", floats="integer",
        layout="rows", any_rank=True, kernels="rotation: Rotate RotateExtent",
    ),
)  # fmt: skip
