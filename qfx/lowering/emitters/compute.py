"""conv, linear and channel_affine; quantize, dequantize and pointwise tables."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from qfx.ir.nodes import decision_of, operand
from qfx.ir.types import QArray, QParams, code_shift
from qfx.lowering.emit import Emission, Order, Physical, channels_last, code_of, emits, identity
from qfx.lowering.emitters.index import ON_INTEGERS, dtype_of
from qfx.lowering.stored import dynamic_grouped_step, linear_step
from qfx.ops import arithmetic, epilogue, lookup
from qfx.ops.calls import arguments, attributes
from qfx.ops.compute.reference import Activation
from qfx.ops.qdq.decode import StoredWeight
from qfx.ops.table import Op, lookup_table, lookup_values, op_at, op_of
from qfx.runtime import steps


@emits("conv")
def conv(emission: Emission, node: fx.Node) -> Physical:
    given = _arguments(node)
    weight = node.meta["weights"]["weight"].array
    rank = weight.values.dim()
    x = emission.with_rank(node, emission.value(given["x"]), rank)
    x = emission.in_order(node, x, channels_last(rank))
    kernel = weight.values.permute(0, *range(2, rank), 1)
    window = Window(
        list(given["stride"]),
        [p[0] for p in given["padding"]],
        [p[1] for p in given["padding"]],
        list(given["dilation"]),
        given["groups"],
    )
    made = _weighted(emission, node, x, kernel, window)
    return emission.to_rank(node, made, emission.value(given["x"]).rank)


@emits("linear")
def linear(emission: Emission, node: fx.Node) -> Physical:
    if decision_of(node).kind == "dynamic":
        return _linear_dynamic(emission, node)
    if isinstance(node.meta["weights"]["weight"].array, StoredWeight):
        return _linear_weight_only(emission, node)
    given = _arguments(node)
    x = _features_last(emission, node, emission.value(given["x"]))
    return _weighted(emission, node, x, node.meta["weights"]["weight"].array.values, Window())


@emits("channel_affine")
def channel_affine(emission: Emission, node: fx.Node) -> Physical:
    """A depthwise convolution with a window of one; the channel dim is 1. On floats a product and a sum."""
    x = emission.value(_arguments(node)["x"])
    if x.dtype == "f32":
        return _affine_f32(emission, node, x)
    x = emission.in_order(node, x, channels_last(x.rank))
    factors = node.meta["weights"]["weight"].array.values
    rows = x.rank == 2
    if rows:
        n, c = (emission.builder.expr_dim(x.id, i) for i in range(2))
        x = emission.reshape(node, x, [n, emission.expr(1), c], channels_last(3))
    kernel = factors.reshape(-1, *[1] * (x.rank - 1))
    made = _weighted(emission, node, x, kernel, Window(groups=factors.numel()))
    return emission.reshape(node, made, [n, c], identity(2)) if rows else made


def _affine_f32(emission: Emission, node: fx.Node, x: Physical) -> Physical:
    given = _arguments(node)
    for name, step in (("weight", steps.mul_f32), ("bias", steps.add_f32)):
        if given[name] is not None:
            vector = emission.tensor(given[name]).reshape(*(-1 if d == 1 else 1 for d in x.order)).contiguous()
            constant = emission.builder.constant_value(f"{node.name}_{name}", vector.numpy())
            x = emission.step(node, step(x.id, constant), x.order)
    return clamped_f32(emission, node, x, given["activation"])


def _arguments(node: fx.Node) -> dict[str, Any]:
    op = op_at(node)
    return arguments(op, node)


def _features_last(emission: Emission, node: fx.Node, x: Physical) -> Physical:
    """``x`` with its last logical dim last in memory; the order of the others does not matter."""
    return x if x.order[-1] == x.rank - 1 else emission.in_order(node, x, identity(x.rank))


class Window(NamedTuple):
    """What a convolution moves over its operand; none: a linear layer."""

    stride: list[int] | None = None
    padding_lo: list[int] | None = None
    padding_hi: list[int] | None = None
    dilation: list[int] | None = None
    groups: int = 1


def _weighted(emission: Emission, node: fx.Node, x: Physical, kernel: Tensor, window: Window) -> Physical:
    """The conv step of a layer with ``kernel`` in physical order ``[O, *window, C / groups]``."""
    given, arrays = _arguments(node), {k: w.array for k, w in node.meta["weights"].items()}
    x_q = given["x"].meta["value_type"].qparams
    out_q = before_table(node)
    x_scale, x_zero, _, _ = code_of(x_q)
    weight, channels = arrays["weight"], kernel.shape[0]
    multiplier = _multiplier(x_scale, weight, out_q).expand(channels)
    end = clamp_epilogue(given["activation"], out_q)
    added = _residual(emission, node, x.order, out_q)
    zero = weight.zero_point.to(torch.int32).expand(channels)
    step = steps.conv(
        x.id,
        added.id,
        stride=window.stride,
        padding_lo=window.padding_lo,
        padding_hi=window.padding_hi,
        dilation=window.dilation,
        groups=window.groups,
        x_zero_point=x_zero,
        zero_point=end.zero_point,
        clamp=end.clamp,
        f32_clamp=end.f32_clamp,
        residual_zero_point=added.zero_point,
        residual_multiplier=added.multiplier,
        weight=emission.constant(kernel.contiguous()),
        bias=emission.constant(_bias(arrays.get("bias"), channels)),
        multiplier=emission.constant(multiplier.contiguous()),
        weight_zero_point=emission.constant(zero.contiguous()) if bool((zero != 0).any()) else None,
        lut=emission.table_of(node),
    )
    return emission.step(node, step, x.order, end.dtype)


def before_table(node: fx.Node) -> QParams | None:
    """The qparams of the op itself: those of its result, or what a fused table maps from."""
    qparams: QParams | None = node.meta.get("before_table", node.meta["value_type"].qparams)
    return qparams


def _multiplier(x_scale: float, weight: QArray, out: QParams | None) -> Tensor:
    s_x = torch.tensor(x_scale, dtype=torch.float32)
    s_y = torch.tensor(1.0 if out is None else out.scale, dtype=torch.float32)
    return arithmetic.multiplier(s_x, weight.scale, s_y)


def _bias(bias: QArray | None, channels: int) -> Tensor:
    return torch.zeros(channels, dtype=torch.int32) if bias is None else bias.values


class _Residual(NamedTuple):
    """What is added to an accumulator, if anything."""

    id: int | None = None
    zero_point: int | None = None
    multiplier: float | None = None


def _residual(emission: Emission, node: fx.Node, order: Order, out: QParams | None) -> _Residual:
    residual = _arguments(node).get("residual")
    if residual is None:
        return _Residual()
    value = emission.in_order(node, emission.with_rank(node, emission.value(residual), len(order)), order)
    if residual.meta["value_type"].kind != "code":
        return _Residual(value.id)
    scale, zero, _, _ = code_of(residual.meta["value_type"].qparams)
    s_y = torch.tensor(1.0 if out is None else out.scale, dtype=torch.float32)
    multiplier = float(arithmetic.ratio(torch.tensor(scale, dtype=torch.float32), s_y))
    return _Residual(value.id, zero, multiplier)


class Epilogue(NamedTuple):
    """What a step needs to know about its result, as its attributes are called."""

    dtype: str
    zero_point: int | None = None
    clamp: list[int] | None = None
    f32_clamp: list[float] | None = None


def clamp_epilogue(activation: Activation, out: QParams | None) -> Epilogue:
    """Codes of ``out`` or float32, within ``activation``'s bounds."""
    if out is not None:
        return Epilogue("u8", code_of(out)[1], clamp_codes(activation, out))
    if activation is None:
        return Epilogue("f32")
    low, high = (-float("inf") if activation[1] is None else activation[1]), activation[2]
    return Epilogue("f32", f32_clamp=[low, float("inf") if high is None else high])


def clamp_codes(activation: Activation, out: QParams) -> list[int]:
    """Codes between which the clamp epilogue holds a result."""
    return [bound + code_shift(out) for bound in epilogue.clamp_codes(activation, out)]


def _linear_dynamic(emission: Emission, node: fx.Node) -> Physical:
    given, weight = _arguments(node), node.meta["weights"]["weight"].array
    x = _features_last(emission, node, emission.value(given["x"]))
    residual = None
    if given["residual"] is not None:
        residual = emission.in_order(node, emission.value(given["residual"]), x.order).id
    bias = None if given["bias"] is None else emission.constant(emission.tensor(given["bias"]))
    clamp = clamp_epilogue(given["activation"], None).f32_clamp
    if "input_group" in node.meta:
        group = node.meta["input_group"]
        step = dynamic_grouped_step(emission.builder, x.id, weight, bias, group=group, residual=residual, clamp=clamp)
        return emission.step(node, step, x.order)
    step = steps.linear_dynamic(
        x.id,
        residual,
        f32_clamp=clamp,
        per_row=node.meta["per_row"],
        weight=emission.constant(weight.values),
        weight_scale=emission.constant(weight.scale.expand(weight.values.shape[0]).contiguous()),
        bias=bias,
    )
    return emission.step(node, step, x.order)


def _linear_weight_only(emission: Emission, node: fx.Node) -> Physical:
    given, weight = _arguments(node), node.meta["weights"]["weight"].array
    x = _features_last(emission, node, emission.value(given["x"]))
    bias = None if given["bias"] is None else emission.constant(emission.tensor(given["bias"]))
    made = emission.step(node, linear_step(emission.builder, x.id, weight, bias), x.order)
    if given["residual"] is not None:
        other = emission.in_order(node, emission.value(given["residual"]), x.order)
        made = emission.step(node, steps.add_f32(made.id, other.id), x.order)
    return clamped_f32(emission, node, made, given["activation"])


def clamped_f32(emission: Emission, node: fx.Node, value: Physical, activation: object) -> Physical:
    """``value`` after the clamp epilogue, in floats."""
    if activation is None:
        return value
    assert isinstance(activation, tuple)
    bounds = numbers({"min": activation[1], "max": activation[2]})
    return emission.step(node, steps.pointwise_f32(value.id, function="clamp", args=bounds), value.order)


# ---------------------------------------------------------------- quantize, dequantize, tables


@emits("quantize")
def quantize(emission: Emission, node: fx.Node) -> Physical:
    source = operand(node)
    out = node.meta["value_type"].qparams
    scale, zero, _, _ = code_of(out)
    if source.meta["value_type"].kind == "code":
        table = lookup.requantize_table(source.meta["value_type"].qparams, out)
        return emission.lookup(node, emission.value(source), table)
    if source.op == "get_attr":
        return emission.quantized_constant(node, source, out)
    x = emission.value(source)
    order = _wanted_order(node, x.rank) if x.order == identity(x.rank) else x.order
    perm = [x.order.index(d) for d in order]
    made = emission.step(node, steps.quantize(x.id, perm=perm, zero_point=zero, scale=scale), order)
    return emission.within_range(node, made)


def _wanted_order(node: fx.Node, rank: int) -> Order:
    """Channels-last if an image op reads the value before anything that needs rows."""
    seen, queue = set(), list(node.users)
    while queue:
        user = queue.pop(0)
        op = op_of(user)
        if user in seen or op is None:
            continue
        seen.add(user)
        if op.layout == "image":
            return channels_last(rank) if rank >= 3 else identity(rank)
        if op.layout == "rows":
            return identity(rank)
        queue.extend(user.users)
    return identity(rank)


@emits("dequantize")
def dequantize(emission: Emission, node: fx.Node) -> Physical:
    source = operand(node)
    x = emission.value(source)
    scale, zero, _, _ = code_of(source.meta["value_type"].qparams)
    leaves = any(user.op == "output" or user.meta.get("in_torch") for user in node.users)
    order = identity(x.rank) if leaves else x.order
    perm = [x.order.index(d) for d in order]
    return emission.step(node, steps.dequantize(x.id, perm=perm, zero_point=zero, scale=scale), order)


def pointwise_table(op: Op, node: fx.Node) -> Tensor:
    """The table of a pointwise node between codes."""
    source = operand(node)
    return lookup_table(op, attributes(op, node), source.meta["value_type"].qparams, node.meta["value_type"].qparams)


def pointwise(emission: Emission, node: fx.Node) -> Physical:
    """A table between codes; the function itself on floats, and on integers."""
    op, source = op_at(node), operand(node)
    x = emission.value(source)
    if node.meta["value_type"].kind != "code" and x.dtype != "u8":
        if dtype_of(node) != "f32":
            return ON_INTEGERS[op.name](emission, node, x, **attributes(op, node))
        x = emission.cast(node, x, "f32")
    if node.meta["value_type"].kind == "code":
        return emission.lookup(node, x, pointwise_table(op, node))
    if x.dtype == "u8":
        return emission.lookup(node, x, lookup_values(op, attributes(op, node), source.meta["value_type"].qparams))
    args = numbers(attributes(op, node))
    return emission.step(node, steps.pointwise_f32(x.id, function=op.name, args=args), x.order)


_OPEN = {"min": -float("inf"), "max": float("inf")}


def numbers(values: dict[str, Any]) -> list[float]:
    """Arguments as numbers: an open bound is infinite, gelu's ``approximate`` is 1 for tanh."""
    plain = {k: _OPEN[k] if v is None else v for k, v in values.items()}
    return [float(v == "tanh") if isinstance(v, str) else float(v) for v in plain.values()]
