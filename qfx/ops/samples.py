"""Sample calls of every row: what the table's tests run each op on, and what each op must refuse."""

from qfx.ops.compute import samples as compute
from qfx.ops.float_ops import samples as float_ops
from qfx.ops.pool import samples as pool
from qfx.ops.qdq import samples as qdq
from qfx.ops.sample import Sample, Samples
from qfx.ops.shape import samples as shape

GOOD: dict[str, Samples] = {
    **compute.GOOD,
    **pool.GOOD,
    **shape.GOOD,
    **float_ops.GOOD,
    **qdq.GOOD,
}
"""Calls that succeed, by op name."""

BAD: dict[str, Samples] = {
    **compute.BAD,
    **pool.BAD,
    **shape.BAD,
    **float_ops.BAD,
    **qdq.BAD,
}
"""Calls that the float reference refuses, by op name."""

__all__ = ["BAD", "GOOD", "Sample", "Samples"]
