"""Sample calls of every row: what the table's tests run each op on, and what each op must refuse."""

from qfx.ops.samples import compute, glue, pointwise, pool, qdq, shape
from qfx.ops.samples.sample import Sample, Samples

GOOD: dict[str, Samples] = {
    **compute.GOOD,
    **pointwise.GOOD,
    **pool.GOOD,
    **shape.GOOD,
    **glue.GOOD,
    **qdq.GOOD,
}
"""Calls that succeed, by op name."""

BAD: dict[str, Samples] = {
    **compute.BAD,
    **pointwise.BAD,
    **pool.BAD,
    **shape.BAD,
    **glue.BAD,
    **qdq.BAD,
}
"""Calls that the float reference refuses, by op name."""

__all__ = ["BAD", "GOOD", "Sample", "Samples"]
