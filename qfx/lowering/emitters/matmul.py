"""matmul: on codes as one step that reads its operands in the order they have; on floats in plain order."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from qfx.ir.nodes import operand
from qfx.lowering.emit import Emission, Order, Physical, code_of, emits, identity
from qfx.lowering.emitters.compute import before_table, clamp_epilogue, clamped_f32, numbers
from qfx.ops import arithmetic
from qfx.ops.calls import arguments
from qfx.ops.table import is_op, op_at, op_of
from qfx.runtime import steps


@emits("matmul")
def matmul(emission: Emission, node: fx.Node) -> Physical:
    """``[..., m, k] @ [..., k, n]``; a vector is a matrix of one row or column."""
    a, b = emission.value(operand(node)), emission.value(operand(node, 1))
    row, column = a.rank == 1, b.rank == 1
    left = _as_matrix(emission, node, a, 0) if row else a
    right = _as_matrix(emission, node, b, 1) if column else b
    multiply = _coded if operand(node).meta["value_type"].kind == "code" else _floats
    made = multiply(emission, node, left, right)
    if not (row or column):
        return made
    sizes = [emission.dim(made, i) for i in range(made.rank)]
    kept = sizes[:-2] + ([] if row else [sizes[-2]]) + ([] if column else [sizes[-1]])
    return emission.reshape(node, emission.in_order(node, made, identity(made.rank)), kept, identity(len(kept)))


def _as_matrix(emission: Emission, node: fx.Node, value: Physical, axis: int) -> Physical:
    """The vector ``value`` with a new dim ``axis`` of length 1."""
    shape = [emission.builder.expr_dim(value.id, 0)]
    shape.insert(axis, emission.expr(1))
    return emission.reshape(node, value, shape, identity(2))


# ---------------------------------------------------------------- codes


def _coded(emission: Emission, node: fx.Node, a: Physical, b: Physical) -> Physical:
    rank = max(a.rank, b.rank)
    a, b = (emission.with_rank(node, v, rank) for v in (a, b))
    if a.order[-1] != rank - 1:
        a = emission.in_order(node, a, identity(rank))
    if b.order[-1] < rank - 2:
        b = emission.in_order(node, b, identity(rank))
    order = wanted_order(node, rank)
    out = before_table(node)
    (s_x, z_x, _, _), (s_y, z_y, _, _) = (code_of(operand(node, i).meta["value_type"].qparams) for i in range(2))
    s_out = 1.0 if out is None else out.scale
    scales = torch.tensor([s_x, s_y, s_out], dtype=torch.float32)
    given = _given(node)
    x_perm, y_perm, perm = ([made.index(d) for d in range(rank)] for made in (a.order, b.order, order))
    end = clamp_epilogue(given["activation"], out)
    step = steps.matmul(
        a.id,
        b.id,
        x_perm=x_perm,
        y_perm=y_perm,
        perm=perm,
        x_zero_point=z_x,
        y_zero_point=z_y,
        zero_point=end.zero_point,
        clamp=end.clamp,
        f32_clamp=end.f32_clamp,
        multiplier=float(arithmetic.multiplier(scales[0], scales[1], scales[2], given["factor"])),
        lut=emission.table_of(node),
    )
    return emission.step(node, step, order, end.dtype)


def _given(node: fx.Node) -> dict[str, Any]:
    op = op_at(node)
    return arguments(op, node)


def wanted_order(node: fx.Node, rank: int) -> Order:
    """The order in which a permutation that is the result's only use leaves nothing to move."""
    user = next(iter(node.users), None)
    if len(node.users) != 1 or user is None or not is_op(user, "permute", "transpose"):
        return identity(rank)
    given = arguments(op, user) if (op := op_of(user)) is not None else {}
    dims = [d % rank for d in given.get("dims", range(rank))]
    if "dim0" in given:
        i, j = given["dim0"] % rank, given["dim1"] % rank
        dims[i], dims[j] = j, i
    return tuple(dims) if dims[-1] == rank - 1 else identity(rank)


# ---------------------------------------------------------------- floats


def _floats(emission: Emission, node: fx.Node, a: Physical, b: Physical) -> Physical:
    left, right = (emission.in_order(node, v, identity(v.rank)) for v in (a, b))
    if right.rank > 2:
        left, right = _broadcast_batches(emission, node, left, right)
    made = emission.step(node, steps.matmul_f32(left.id, right.id), identity(left.rank))
    given = _given(node)
    if given["factor"] != 1.0:
        step = steps.pointwise_f32(made.id, function="mul_scalar", args=numbers({"value": given["factor"]}))
        made = emission.step(node, step, made.order)
    return clamped_f32(emission, node, made, given["activation"])


def _broadcast_batches(emission: Emission, node: fx.Node, a: Physical, b: Physical) -> tuple[Physical, Physical]:
    """Both operands with the same batch dims."""
    rank = max(a.rank, b.rank)
    lengths = [_batch_lengths(operand(node, i), v, rank) for i, v in enumerate((a, b))]
    a, b = (emission.with_rank(node, v, rank) for v in (a, b))
    # An operand has the length of an axis when the other's is 1, for every batch size.
    wider = [x == y or (y[0] == 1 and not y[1]) for x, y in zip(*lengths, strict=True)]
    narrow = [x == y or (x[0] == 1 and not x[1]) for x, y in zip(*lengths, strict=True)]
    sizes = [emission.builder.expr_dim((a if w else b).id, i) for i, w in enumerate(wider)]
    if not all(wider):
        a = _expanded(emission, node, a, sizes)
    if not all(narrow):
        b = _expanded(emission, node, b, sizes)
    return a, b


def _batch_lengths(node: fx.Node, value: Physical, rank: int) -> list[tuple[int, bool]]:
    """Of each batch axis of an operand padded to ``rank``: the length seen, and whether it follows the batch."""
    shape, batch = list(node.meta["shape"]), node.meta.get("batch_dim")
    more = rank - value.rank
    known = [(length, axis == batch) for axis, length in enumerate(shape[: value.rank - 2])]
    return [(1, False)] * more + known


def _expanded(emission: Emission, node: fx.Node, value: Physical, batch: list[int]) -> Physical:
    shape = [*batch, *(emission.builder.expr_dim(value.id, value.rank - 2 + i) for i in range(2))]
    return emission.step(node, steps.expand(value.id, shape=shape), value.order, value.dtype)
