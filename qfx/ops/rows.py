"""The rows of the op table, family by family."""

from qfx.ops.attention import rows as attention
from qfx.ops.compute import rows as compute
from qfx.ops.float_ops import rows as float_ops
from qfx.ops.gated import rows as gated
from qfx.ops.index import rows as index
from qfx.ops.pointwise import reference as pointwise
from qfx.ops.pool import rows as pool
from qfx.ops.qdq import rows as qdq
from qfx.ops.recurrent import rows as recurrent
from qfx.ops.rotary import rows as rotary
from qfx.ops.rotation import rows as rotation
from qfx.ops.shape import rows as shape
from qfx.ops.table import register

_FAMILIES = (
    compute, pool, shape, pointwise, float_ops, index, attention, recurrent, rotation, rotary, gated, qdq,
)  # fmt: skip

for _family in _FAMILIES:
    for _row in _family.ROWS:
        register(_row)
