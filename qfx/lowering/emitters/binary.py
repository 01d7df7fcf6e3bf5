"""add, sub and mul on codes; the same and div on floats."""

from __future__ import annotations

import torch
from torch import fx

from qfx.lowering.emit import Emission, Physical, code_of, emits
from qfx.lowering.emitters.compute import before_table, clamp_codes, clamped_f32
from qfx.lowering.emitters.index import dtype_of, pairwise
from qfx.ops import arithmetic
from qfx.ops.calls import arguments
from qfx.ops.table import op_at
from qfx.runtime import steps

_ON_FLOATS = (steps.add_f32, steps.sub_f32, steps.mul_f32)


@emits("add", "sub", "mul", whole=True)
def binary(emission: Emission, node: fx.Node) -> Physical:
    op = op_at(node)
    given = arguments(op, node)
    x, y, out = given["x"], given["y"], before_table(node)
    if out is None and dtype_of(node) != "f32":
        return _of_integers(emission, node, x, y)
    operands = [emission.value(n) if out is not None else emission.operand(node, n, "f32") for n in (x, y)]
    a, b = emission.aligned(node, *operands)
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


@emits("div", coded=False, whole=True)
def div(emission: Emission, node: fx.Node) -> Physical:
    a, b = emission.aligned(node, *(emission.operand(node, n, "f32") for n in node.args[:2]))
    return emission.step(node, steps.div_f32(a.id, b.id), a.order)


def _of_integers(emission: Emission, node: fx.Node, x: fx.Node, y: fx.Node) -> Physical:
    op, dtype = op_at(node), dtype_of(node)
    return pairwise(emission, node, op.of_truth if dtype == "bool" else op.name, x, y, dtype)
