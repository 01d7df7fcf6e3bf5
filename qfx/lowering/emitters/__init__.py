"""The emitters, one file a family; importing this package fills :data:`qfx.lowering.emit.EMITTERS`."""

from qfx.lowering.emitters import binary, compute, glue, matmul, move, pool

__all__ = ["binary", "compute", "glue", "matmul", "move", "pool"]
