"""add, sub and mul on codes; the same and div on floats."""

from __future__ import annotations

import torch
from torch import fx

from qfx.lowering.emit import Emission, Order, Physical, code_of, emits, identity
from qfx.lowering.emitters.compute import before_table, clamp_codes, clamped_f32
from qfx.ops import arithmetic
from qfx.ops.calls import arguments
from qfx.ops.table import op_at
from qfx.runtime import steps

_ON_FLOATS = (steps.add_f32, steps.sub_f32, steps.mul_f32)


@emits("add", "sub", "mul")
def binary(emission: Emission, node: fx.Node) -> Physical:
    op = op_at(node)
    given = arguments(op, node)
    a, b = _aligned(emission, node, given["x"], given["y"])
    out = before_table(node)
    if out is None:
        on_floats = next(step for step in _ON_FLOATS if step.__name__ == f"{op.name}_f32")
        made = emission.step(node, on_floats(a.id, b.id), a.order)
        return clamped_f32(emission, node, made, given["activation"])
    (s_a, z_a, _, _), (s_b, z_b, _, _) = (code_of(given[k].meta["value_type"].qparams) for k in ("x", "y"))
    t_a, t_b, t_y = (torch.tensor(s, dtype=torch.float32) for s in (s_a, s_b, out.scale))
    zero, clamp = code_of(out)[1], clamp_codes(given["activation"], out)
    lut = emission.table_of(node)
    if op.name == "mul":
        factor = float(arithmetic.multiplier(t_a, t_b, t_y))
        step = steps.mul(
            a.id, b.id, a_zero_point=z_a, b_zero_point=z_b, zero_point=zero, clamp=clamp, a_multiplier=factor, lut=lut
        )
        return emission.step(node, step, a.order)
    make = steps.add if op.name == "add" else steps.sub
    r_a, r_b = float(arithmetic.ratio(t_a, t_y)), float(arithmetic.ratio(t_b, t_y))
    step = make(
        a.id, b.id, a_zero_point=z_a, b_zero_point=z_b, zero_point=zero, clamp=clamp,
        a_multiplier=r_a, b_multiplier=r_b, lut=lut,
    )  # fmt: skip
    return emission.step(node, step, a.order)


@emits("div", coded=False)
def div(emission: Emission, node: fx.Node) -> Physical:
    a, b = _aligned(emission, node, node.args[0], node.args[1])
    return emission.step(node, steps.div_f32(a.id, b.id), a.order)


def _aligned(emission: Emission, node: fx.Node, x: object, y: object) -> tuple[Physical, Physical]:
    """Both operands with the same rank and order."""
    assert isinstance(x, fx.Node)
    assert isinstance(y, fx.Node)
    a, b = emission.value(x), emission.value(y)
    rank = max(a.rank, b.rank)
    a, b = emission.with_rank(node, a, rank), emission.with_rank(node, b, rank)
    order: Order = b.order if a.order == identity(rank) else a.order
    return emission.in_order(node, a, order), emission.in_order(node, b, order)
