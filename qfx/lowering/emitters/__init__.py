"""The emitters, one file a family, and where to look one up."""

from qfx.lowering.emit import EMITTERS
from qfx.lowering.emitters import (
    attention,
    binary,
    compute,
    float_ops,
    index,
    matmul,
    move,
    pool,
    recurrent,
    transformer,
)
from qfx.ops.table import TABLE

__all__ = [
    "EMITTERS",
    "attention",
    "binary",
    "compute",
    "emittable",
    "float_ops",
    "index",
    "matmul",
    "move",
    "pool",
    "recurrent",
    "transformer",
]


def emittable(name: str, *, coded: bool) -> bool:
    """Whether the runtime has the op ``name`` on codes, or else on floats."""
    emitter = EMITTERS.get(name)
    return emitter is not None and (emitter.coded if coded else TABLE[name].floats is not None)
