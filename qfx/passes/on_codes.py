"""Whether an op runs on integers: one decision, for the nodes of graphs and for ops that are called alone."""

from __future__ import annotations

from torch import fx

from qfx.ops.calls import attributes
from qfx.ops.table import Op
from qfx.passes.limits import beyond_shapes


def why_in_float(op: Op, node: fx.Node) -> str | None:
    """Why a call is computed in float whatever its operands are, or None where it runs on integers.

    Lengths that nothing fixes count as they are in ``meta["shape"]``.
    """
    if not op.on_codes:
        return f"{op.name} is computed in float between int8 values"
    return op.uncovered(**attributes(op, node)) or beyond_shapes(op, node)
