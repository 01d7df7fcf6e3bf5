"""The op table, its float references, and the exact arithmetic they quantize to."""

from qfx.ops import rows as rows
from qfx.ops.sample import Sample
from qfx.ops.table import TABLE, Op, is_op, lookup_table, op_of, register

__all__ = ["TABLE", "Op", "Sample", "is_op", "lookup_table", "op_of", "register"]
