"""Attention on integers that it makes of its operands."""

from __future__ import annotations

from torch import fx

from qfx.lowering.emit import Emission, Physical, emits, identity
from qfx.lowering.emitters.matmul import wanted_order
from qfx.ops.attention import integer
from qfx.ops.calls import arguments
from qfx.ops.table import op_at
from qfx.runtime import steps

_RANK = 4


@emits("attention", coded=False)
def attention(emission: Emission, node: fx.Node) -> Physical:
    """Heads are read and written where layers left them and want them, whichever way batch, heads and rows lie."""
    given = arguments(op_at(node), node)
    operands = [emission.value(given[name]) for name in ("query", "key", "value")]
    rank = max(value.rank for value in operands)
    query, key, value = (_heads(emission, node, operand) for operand in operands)
    mask = None
    if given["mask"] is not None:
        mask = emission.value(given["mask"])
        mask = emission.with_rank(node, emission.in_order(node, mask, identity(mask.rank)), _RANK)
    more = _RANK - rank
    order = (*range(more), *(dim + more for dim in wanted_order(node, rank)))
    q_perm, k_perm, v_perm, perm = (
        [made.index(dim) for dim in range(_RANK)] for made in (query.order, key.order, value.order, order)
    )
    step = steps.attention(
        query.id,
        key.id,
        value.id,
        None if mask is None else mask.id,
        factor=integer.exponent_factor(given["scale"]),
        causal=given["causal"],
        q_perm=q_perm,
        k_perm=k_perm,
        v_perm=v_perm,
        perm=perm,
    )
    return emission.to_rank(node, emission.step(node, step, order), rank)


def _heads(emission: Emission, node: fx.Node, value: Physical) -> Physical:
    value = emission.with_rank(node, value, _RANK)
    return value if value.order[-1] == _RANK - 1 else emission.in_order(node, value, identity(_RANK))
