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
    "takes_integers",
    "transformer",
]


def emittable(name: str, *, coded: bool) -> bool:
    """Whether the runtime has the op ``name`` on codes, or else on floats."""
    emitter = EMITTERS.get(name)
    return emitter is not None and (emitter.coded if coded else TABLE[name].floats is not None)


def takes_integers(name: str, *, gives: str) -> bool:
    """Whether programs have the op on integers and truth values, with a result of this kind.

    Args:
        name: A table op.
        gives: The kind of the result's :class:`qfx.ir.types.ValueType`.
    """
    if name not in EMITTERS or not EMITTERS[name].whole:
        return False
    return gives == "float" or TABLE[name].pointwise is None or (gives != "bool" and name in index.ON_INTEGERS)
