"""Float glue: what runs in float32 between int8 values; and a table for every pointwise op."""

from __future__ import annotations

from typing import Any

from torch import fx

from qfx.ir.nodes import operand
from qfx.lowering.emit import Emission, Physical, channels_last, emits, identity
from qfx.lowering.emitters.binary import with_rank
from qfx.lowering.emitters.compute import pointwise
from qfx.ops.calls import arguments
from qfx.ops.table import TABLE, op_of


def _given(emission: Emission, node: fx.Node) -> tuple[dict[str, Any], Physical]:
    op = op_of(node)
    assert op is not None
    given = arguments(op, node)
    return given, emission.value(given["x"])


@emits("softmax", "log_softmax", coded=False, floats=True)
def softmax(emission: Emission, node: fx.Node) -> Physical:
    op = op_of(node)
    assert op is not None
    given, x = _given(emission, node)
    return emission.step(op.name, node, [x], x.order, "f32", ints={"axis": x.order.index(given["dim"] % x.rank)})


def _affine(emission: Emission, given: dict[str, Any]) -> dict[str, int]:
    return {k: emission.constant(emission.tensor(given[k])) for k in ("weight", "bias") if given[k] is not None}


@emits("layer_norm", coded=False, floats=True)
def layer_norm(emission: Emission, node: fx.Node) -> Physical:
    given, x = _given(emission, node)
    count = len(given["normalized_shape"])
    if x.order[-count:] != tuple(range(x.rank - count, x.rank)):
        x = emission.in_order(node, x, identity(x.rank))
    return emission.step(
        "layer_norm", node, [x], x.order, "f32",
        ints={"ndim": count}, floats={"eps": float(given["eps"])}, constants=_affine(emission, given),
    )  # fmt: skip


@emits("group_norm", "instance_norm", coded=False, floats=True)
def group_norm(emission: Emission, node: fx.Node) -> Physical:
    given, x = _given(emission, node)
    x = emission.in_order(node, x, channels_last(x.rank))
    return emission.step(
        "group_norm", node, [x], x.order, "f32",
        ints={"groups": given.get("groups", 0)}, floats={"eps": float(given["eps"])},
        constants=_affine(emission, given),
    )  # fmt: skip


@emits("matmul", coded=False, floats=True)
def matmul(emission: Emission, node: fx.Node) -> Physical:
    """``[..., m, k] @ [..., k, n]``; a vector is a matrix of one row or column, batch dims broadcast by copies."""
    x, y = operand(node), operand(node, 1)
    a, b = emission.value(x), emission.value(y)
    row, column = a.rank == 1, b.rank == 1
    left = _as_matrix(emission, node, a, 0) if row else emission.in_order(node, a, identity(a.rank))
    right = _as_matrix(emission, node, b, 1) if column else emission.in_order(node, b, identity(b.rank))
    if right.rank > 2:
        left, right = _broadcast_batches(emission, node, left, right)
    made = emission.step("matmul_f32", node, [left, right], identity(left.rank), "f32")
    sizes = [emission.builder.expr_dim(made.id, i) for i in range(made.rank)]
    kept = sizes[:-2] + ([] if row else [sizes[-2]]) + ([] if column else [sizes[-1]])
    return emission.reshape(node, made, kept, identity(len(kept))) if row or column else made


def _as_matrix(emission: Emission, node: fx.Node, value: Physical, axis: int) -> Physical:
    """The vector ``value`` with a new dim ``axis`` of length 1."""
    shape = [emission.builder.expr_dim(value.id, 0)]
    shape.insert(axis, emission.expr(1))
    return emission.reshape(node, value, shape, identity(2))


def _broadcast_batches(emission: Emission, node: fx.Node, a: Physical, b: Physical) -> tuple[Physical, Physical]:
    """Both operands with the same batch dims."""
    rank = max(a.rank, b.rank)
    lengths = [_batch_lengths(operand(node, i), v, rank) for i, v in enumerate((a, b))]
    a, b = (with_rank(emission, node, v, rank) for v in (a, b))
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
    return emission.step("expand", node, [value], value.order, value.dtype, exprs={"shape": shape})


for _op in TABLE.values():
    if _op.pointwise is not None:
        emits(_op.name, floats=True)(pointwise)
