"""Ops on integers and truth values, and what makes floats of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import fx

from qfx.ir.types import INTEGER_KINDS
from qfx.lowering.emit import Emission, Order, Physical, emits, identity
from qfx.lowering.stored import Table, bag_step, embedding_step, table_of
from qfx.ops.calls import arguments
from qfx.ops.table import op_at
from qfx.runtime import steps


def dtype_of(node: fx.Node) -> str:
    """The type of a node's value."""
    return _named(node.meta.get("dtype", torch.float32))


def _named(dtype: torch.dtype) -> str:
    return INTEGER_KINDS.get(dtype, "f32")


def _given(emission: Emission, node: fx.Node) -> tuple[dict[str, Any], Physical]:
    given = arguments(op_at(node), node)
    return given, emission.value(given["x"])


@emits("embedding", coded=False)
def embedding(emission: Emission, node: fx.Node) -> Physical:
    indices = emission.value(arguments(op_at(node), node)["indices"])
    step = embedding_step(indices.id, _table(emission, node))
    return emission.step(node, step, (*indices.order, indices.rank))


@emits("embedding_bag", coded=False)
def embedding_bag(emission: Emission, node: fx.Node) -> Physical:
    given = arguments(op_at(node), node)
    offsets = None if given["offsets"] is None else emission.cast(node, emission.value(given["offsets"]), "s64").id
    step = bag_step(
        _dense(emission, node, given["indices"]), offsets,
        None if given["per_sample_weights"] is None else _dense(emission, node, given["per_sample_weights"]),
        _table(emission, node), mode=given["mode"], padding=given["padding_idx"],
        include_last=given["include_last_offset"],
    )  # fmt: skip
    return emission.step(node, step, identity(2))


def _table(emission: Emission, node: fx.Node) -> Table:
    given = arguments(op_at(node), node)["weight"]
    table = emission.tensor(given) if given is not None else node.meta["weights"]["weight"].array
    return table_of(emission.builder, table)


def _dense(emission: Emission, node: fx.Node, given: fx.Node) -> int:
    """The id of an operand in logical order."""
    value = emission.value(given)
    return emission.in_order(node, value, identity(value.rank)).id


@emits("cast", coded=False, whole=True)
def cast(emission: Emission, node: fx.Node) -> Physical:
    _, x = _given(emission, node)
    return emission.cast(node, x, dtype_of(node))


# ---------------------------------------------------------------- element by element


def pairwise(
    emission: Emission, node: fx.Node, function: str, x: Any, y: Any, dtype: str, result: str | None = None
) -> Physical:
    """A function of two operands in ``dtype``, which gives ``result``: of nodes, values, and numbers."""
    a, b = emission.aligned(node, *(emission.operand(node, operand, dtype) for operand in (x, y)))
    return emission.step(node, steps.pairwise(a.id, b.id, function=function), a.order, result or dtype)


@emits("eq", "ne", "lt", "le", "gt", "ge", coded=False, whole=True)
def comparison(emission: Emission, node: fx.Node) -> Physical:
    """In the type in which torch compares: that of the operands' sum."""
    op = op_at(node)
    x, y = (arguments(op, node)[name] for name in ("x", "y"))
    sample = (torch.empty(v.meta["shape"], dtype=v.meta["dtype"], device="meta") if _is_node(v) else v for v in (x, y))
    return pairwise(emission, node, op.name, x, y, _named(torch.result_type(*sample)), "bool")


def _is_node(value: object) -> bool:
    return isinstance(value, fx.Node)


@emits("logical_and", "logical_or", "logical_xor", coded=False, whole=True)
def logical(emission: Emission, node: fx.Node) -> Physical:
    op = op_at(node)
    given = arguments(op, node)
    return pairwise(emission, node, op.of_truth, given["x"], given["y"], "bool")


@emits("logical_not", coded=False, whole=True)
def logical_not(emission: Emission, node: fx.Node) -> Physical:
    return pairwise(emission, node, "eq", arguments(op_at(node), node)["x"], False, "bool")


@emits("minimum", "maximum", coded=False, whole=True)
def extremum(emission: Emission, node: fx.Node) -> Physical:
    given = arguments(op_at(node), node)
    return pairwise(emission, node, op_at(node).name, given["x"], given["y"], dtype_of(node))


@emits("where", coded=False, whole=True)
def where(emission: Emission, node: fx.Node) -> Physical:
    given, dtype = arguments(op_at(node), node), dtype_of(node)
    operands = [emission.operand(node, given[name], dtype) for name in ("x", "y")]
    condition, x, y = emission.aligned(node, emission.operand(node, given["condition"], "bool"), *operands)
    return emission.step(node, steps.where(condition.id, x.id, y.id), x.order, dtype)


# ---------------------------------------------------------------- made of lengths


@emits("arange", coded=False, whole=True)
def arange(emission: Emission, node: fx.Node) -> Physical:
    """Numbers from 0 on, and the first added to each: it may be a length."""
    given = arguments(op_at(node), node)
    expr, step = emission.builder.expr, emission.expr(given["step"])
    start = emission.expr(given["start"])
    span = expr("sub", start, emission.expr(given["end"]))
    count = expr("sub", emission.expr(0), expr("floordiv", span, step))
    first = emission.number(node, given["start"], "s64")
    return emission.step(node, steps.arange(first.id, step=given["step"], count=count), (0,))


@emits("full", coded=False, whole=True)
def full(emission: Emission, node: fx.Node) -> Physical:
    given = arguments(op_at(node), node)
    shape = emission.exprs(given["shape"])
    value = emission.number(node, given["value"], dtype_of(node))
    return emission.step(node, steps.expand(value.id, shape=shape), identity(len(shape)), value.dtype)


# ---------------------------------------------------------------- along dims


@emits("cumsum", coded=False, whole=True)
def cumsum(emission: Emission, node: fx.Node) -> Physical:
    given, x = _given(emission, node)
    x = emission.cast(node, x, "s64")
    return emission.step(node, steps.cumsum(x.id, axis=x.order.index(given["dim"] % x.rank)), x.order)


@emits("argmax", coded=False, whole=True)
def argmax(emission: Emission, node: fx.Node) -> Physical:
    given, x = _given(emission, node)
    x = x if x.dtype == "f32" else emission.cast(node, x, "s64")
    dim = given["dim"] % x.rank
    axis = x.order.index(dim)
    left: Order = tuple(d - (d > dim) for d in x.order if d != dim)
    made = emission.step(node, steps.argmax(x.id, axis=axis), left)
    return emission.with_one(node, made, dim) if given["keepdim"] else made


@emits("gather", coded=False, whole=True)
def gather(emission: Emission, node: fx.Node) -> Physical:
    given, x = _given(emission, node)
    index = emission.cast(node, emission.value(given["index"]), "s64")
    index = emission.in_order(node, index, x.order)
    step = steps.gather(x.id, index.id, axis=x.order.index(given["dim"] % x.rank))
    return emission.step(node, step, x.order, x.dtype)


@emits("take", coded=False, whole=True)
def take(emission: Emission, node: fx.Node) -> Physical:
    given, x = _given(emission, node)
    x = emission.in_order(node, x, identity(x.rank))
    indices = [emission.cast(node, emission.value(n), "s64") for n in given["indices"]]
    indices = [emission.in_order(node, index, identity(index.rank)) for index in indices]
    rank = max(index.rank for index in indices) + x.rank - len(indices)
    return emission.step(node, steps.take(x.id, *(index.id for index in indices)), identity(rank), x.dtype)


# ---------------------------------------------------------------- functions of one integer


def _with(function: str) -> Callable[..., Physical]:
    """A function of an integer and a constant."""

    def emit(emission: Emission, node: fx.Node, x: Physical, *, value: int) -> Physical:
        return pairwise(emission, node, function, x, value, dtype_of(node))

    return emit


def _from(emission: Emission, node: fx.Node, x: Physical, *, value: int = 0) -> Physical:
    return pairwise(emission, node, "sub", value, x, dtype_of(node))


def _abs(emission: Emission, node: fx.Node, x: Physical) -> Physical:
    return pairwise(emission, node, "maximum", x, _from(emission, node, x), dtype_of(node))


def _square(emission: Emission, node: fx.Node, x: Physical) -> Physical:
    return pairwise(emission, node, "mul", x, x, dtype_of(node))


def _between(
    emission: Emission, node: fx.Node, x: Physical, *, min: int | None = None, max: int | None = None
) -> Physical:
    for function, bound in (("maximum", min), ("minimum", max)):
        x = x if bound is None else pairwise(emission, node, function, x, bound, dtype_of(node))
    return x


ON_INTEGERS: dict[str, Callable[..., Physical]] = {}
"""The functions of the op table that programs have on integers, which give integers."""


def _on_integers(name: str, emit: Callable[..., Physical]) -> None:
    ON_INTEGERS[name] = emit


_on_integers("add_scalar", _with("add"))
_on_integers("mul_scalar", _with("mul"))
_on_integers("rsub_scalar", _from)
_on_integers("neg", _from)
_on_integers("abs", _abs)
_on_integers("square", _square)
_on_integers("relu", partial(_between, min=0))
_on_integers("sign", partial(_between, min=-1, max=1))
_on_integers("clamp", _between)
