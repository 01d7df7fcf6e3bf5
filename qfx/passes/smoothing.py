"""Channels scaled in front of a rotation, so that rounding costs a layer least: by calibration, at conversion.

Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models", 2023,
equation 4, with a strength for each input that is rotated.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx

from qfx.ir.attributes import attribute, has_attribute, set_buffer
from qfx.ir.nodes import operand, path, place
from qfx.ops import arithmetic
from qfx.ops.calls import arguments
from qfx.ops.qdq.dynamic import requantize_dynamic
from qfx.ops.rotation.reference import rotate
from qfx.ops.table import is_op, op_at
from qfx.passes.insert import CHANNEL_SAMPLE, GROUP, INPUT_STATISTICS
from qfx.passes.rotation import rotated_weight
from qfx.passes.sharing import asks_size
from qfx.passes.weight_only import store_weight
from qfx.passes.weights import quantize_weight
from qfx.quantization.observer import ChannelMean, ChannelSample, WindowMoments
from qfx.quantization.qconfig import QConfig

STRENGTHS = (0.3, 0.5, 0.65, 0.8)
"""How much of the difference between channels moves from the activations to the weights."""

_MOST_OUTPUTS = 256
_LEAST = 1e-4  # of the largest channel; what is less counts as that
_CLEARLY_LESS = 0.98


@dataclass(frozen=True)
class _Layer:
    """A layer that reads a rotated input.

    Attributes:
        node: Its node.
        weight: For the input that is not rotated, float64 ``[outputs, channels]``.
        some: The weight of outputs that are spread over all, float32.
        exact: These outputs of the sampled rows.
    """

    node: fx.Node
    weight: Tensor
    some: Tensor
    exact: Tensor

    @classmethod
    def of(cls, gm: fx.GraphModule, node: fx.Node, block: int, rows: Tensor) -> _Layer:
        held = attribute(gm, path(arguments(op_at(node), node)["weight"])).detach()
        weight = rotated_weight(held.double(), block=block)
        some = weight[:: -(-len(weight) // _MOST_OUTPUTS)].float()
        return cls(node, weight, some, rows @ some.T)


def smooth_inputs(gm: fx.GraphModule) -> fx.GraphModule:
    """Divides what linear layers read rotated by a factor a channel, where calibration says that it helps.

    The factor goes into the normalization or the layer in front, and its inverse into the weights of the layers that
    read it. Where neither is in front, or something else reads its result, the input stays as it is.
    """
    for node in list(gm.graph.nodes):
        if CHANNEL_SAMPLE in node.meta:
            _smooth(gm, node)
    gm.graph.lint()
    gm.recompile()
    return gm


def _smooth(gm: fx.GraphModule, rotation: fx.Node) -> None:
    sample: Any = gm.get_submodule(rotation.meta[CHANNEL_SAMPLE])
    scaled = _scaled_before(operand(operand(rotation)))
    rows = sample.sampled()
    if not len(rows) or scaled is None or not has_range_alone(rotation):
        return
    layers = [_Layer.of(gm, node, _block(rotation), rows) for node in readers(rotation)]
    strength, factors = _best(gm, rotation, layers, sample)
    if factors is None:
        return
    for node, role in scaled:
        _scale_parameter(gm, node, role, 1.0 / factors)
    _scale_read(gm, rotation, layers, factors, rows)
    for layer in layers:
        what = f"its input channels scaled with strength {strength}"
        layer.node.meta["recovery"] = (*layer.node.meta.get("recovery", ()), what)


# ---------------------------------------------------------------- what is in front, what is behind


def readers(rotation: fx.Node) -> list[fx.Node]:
    """The layers that read a rotated value, behind observers."""
    return [n for user in rotation.users for n in (readers(user) if "observer" in user.meta else (user,))]


def _scaled_before(x: fx.Node) -> list[tuple[fx.Node, str]] | None:
    """Nodes and their parameters to be divided for ``x`` to be; None where there are none, or others see it."""
    if sum(not asks_size(user) for user in x.users) != 1:
        return None
    if is_op(x, "rms_norm", "layer_norm") and len(arguments(op_at(x), x)["normalized_shape"]) == 1:
        return [(x, "weight"), (x, "bias")] if is_op(x, "layer_norm") else [(x, "weight")]
    if is_op(x, "gated", "mul") and x.kwargs.get("activation") is None:
        factors: Any = x.args[1:2] if is_op(x, "gated") else x.args[:2]
        layer = next((n for n in factors if _is_plain_layer(n)), None)
        return None if layer is None else [(layer, "weight"), (layer, "bias")]
    return None


def _is_plain_layer(node: Any) -> bool:
    """Whether a layer's rows may be scaled: it ends in its bias, its result is float32 and has one reader."""
    if not is_op(node, "linear") or len(node.users) != 1 or GROUP in node.meta:
        return False
    given = arguments(op_at(node), node)
    parameters = [given[name] for name in ("weight", "bias") if given[name] is not None]
    constant = all(isinstance(each, fx.Node) and each.op == "get_attr" for each in parameters)
    return constant and given["residual"] is None and given["activation"] is None


def has_range_alone(rotation: fx.Node) -> bool:
    """Whether no other value has the parameters of the rotated one."""
    group = rotation.meta.get(GROUP)
    return group is None or sum(node.meta.get(GROUP) == group for node in _values(rotation.graph)) == 1


def _values(graph: fx.Graph) -> Iterator[fx.Node]:
    return (node for node in graph.nodes if "observer" not in node.meta)


def _block(rotation: fx.Node) -> int:
    block: Any = rotation.kwargs["block"]
    return int(block)


# ---------------------------------------------------------------- choosing


def _best(
    gm: fx.GraphModule, rotation: fx.Node, layers: list[_Layer], sample: ChannelSample
) -> tuple[float, Tensor | None]:
    """The strength and factors that leave the least error; no factors where that is about what none leave."""
    error = partial(_error, gm, rotation, layers, sample.sampled())
    sizes = torch.stack([layer.weight.abs().amax(0) for layer in layers]).amax(0)
    least = _CLEARLY_LESS * error(torch.ones_like(sample.largest))
    best: tuple[float, Tensor | None] = (0.0, None)
    for strength in STRENGTHS:
        factors = _factors(sample.largest, sizes, strength)
        found = error(factors)
        if found < least:
            least, best = found, (strength, factors)
    return best


def _factors(activations: Tensor, weights: Tensor, strength: float) -> Tensor:
    """What channels are divided by, float32 ``[channels]``, their geometric mean 1."""
    logarithms = strength * _logarithms(activations.double()) - (1.0 - strength) * _logarithms(weights)
    return (logarithms - logarithms.mean()).exp().float()


def _logarithms(sizes: Tensor) -> Tensor:
    return sizes.clamp_min(max(float(sizes.max()) * _LEAST, torch.finfo(torch.float32).tiny)).log()


def _error(gm: fx.GraphModule, rotation: fx.Node, layers: list[_Layer], rows: Tensor, factors: Tensor) -> float:
    """What rounding inputs and weights changes of the layers' outputs, as the sum of shares of their squares."""
    block = _block(rotation)
    rounded = _rounded(gm, rotation, rotate(rows / factors, block=block))
    total = 0.0
    for layer in layers:
        held = rotated_weight(layer.some * factors, block=block)
        kept = _kept(held, layer.node.meta["qconfig"])
        change = (rounded @ kept.T - layer.exact).square().sum()
        total += float(change / layer.exact.square().sum().clamp_min(torch.finfo(torch.float32).tiny))
    return total


def _kept(weight: Tensor, qconfig: QConfig) -> Tensor:
    """A weight as a layer multiplies with it."""
    if qconfig.by_groups:
        return store_weight(weight, qconfig.weight()).values()
    return quantize_weight(weight, qconfig.weight()).dequantized()


def _rounded(gm: fx.GraphModule, rotation: fx.Node, turned: Tensor) -> Tensor:
    """A rotated input as its layers read it: a scale a group, a row or a tensor, or its observer's range."""
    if GROUP not in rotation.meta:
        qconfig = readers(rotation)[0].meta["qconfig"]
        given = {"per_row": qconfig.per_row, "group_size": qconfig.input_group}
        return requantize_dynamic(turned, reduce_range=False, **given)
    observer = _fresh_observer(gm, rotation)
    observer(turned)
    qparams = observer.qparams()
    scale, zero_point = torch.tensor(qparams.scale, dtype=torch.float32), torch.tensor(qparams.zero_point)
    codes = arithmetic.quantize(turned, scale, zero_point, qparams.qmin, qparams.qmax)
    return arithmetic.dequantize(codes, scale, zero_point)


def _fresh_observer(gm: fx.GraphModule, rotation: fx.Node) -> Any:
    held: Any = gm.get_submodule(rotation.meta[GROUP])
    made: Any = readers(rotation)[0].meta["qconfig"].activation()
    made.label, made.source = held.label, held.source
    return made


# ---------------------------------------------------------------- scaling


def _scale_parameter(gm: fx.GraphModule, node: fx.Node, role: str, factors: Tensor) -> None:
    """Multiply a parameter by a factor for each entry of its first dim; a norm without a weight gets one."""
    given = arguments(op_at(node), node)[role]
    if given is None and (role != "weight" or is_op(node, "linear")):
        return
    if given is None:
        _set_parameter(gm, node, role, f"{node.name}_weight", factors)
        return
    value = attribute(gm, path(given)).detach()
    scaled = value.double() * factors.double().reshape(-1, *[1] * (value.dim() - 1))
    _set_parameter(gm, node, role, path(given), scaled.to(value.dtype))


def _set_parameter(gm: fx.GraphModule, node: fx.Node, role: str, where: str, value: Tensor) -> None:
    """Give ``node`` a parameter of its own: over the one at ``where`` if nothing else reads that."""
    names = list(arguments(op_at(node), node))
    args: list[Any] = [*node.args, *[None] * (names.index(role) + 1 - len(node.args))]
    held = args[names.index(role)]
    others = {u for n in gm.graph.find_nodes(op="get_attr") if n.target == where for u in n.users} - {node}
    taken = bool(others) if held is not None else has_attribute(gm, where)
    while taken:
        where += "_scaled"
        taken = has_attribute(gm, where)
    set_buffer(gm, where, value)
    with gm.graph.inserting_before(node):
        made = gm.graph.get_attr(where)
    made.meta.update(place(node) if held is None else held.meta)
    args[names.index(role)] = made
    node.args = tuple(args)


def _scale_read(gm: fx.GraphModule, rotation: fx.Node, layers: list[_Layer], factors: Tensor, rows: Tensor) -> None:
    """Give layers the weights, and their input the statistics, of a value that was divided before it was rotated."""
    block = _block(rotation)
    for layer in layers:
        weight = rotated_weight(layer.weight * factors.double(), block=block).float()
        _set_parameter(gm, layer.node, "weight", path(arguments(op_at(layer.node), layer.node)["weight"]), weight)
        if INPUT_STATISTICS in layer.node.meta:
            _put(gm, layer.node.meta[INPUT_STATISTICS], _changed(gm, layer.node, factors, block))
    if GROUP in rotation.meta:
        observer = _fresh_observer(gm, rotation)
        observer(rotate(rows / factors, block=block))
        _put(gm, rotation.meta[GROUP], observer)


def _changed(gm: fx.GraphModule, node: fx.Node, factors: Tensor, block: int) -> ChannelMean:
    """Statistics of a rotated input as if it had been divided before: means and moments follow exactly."""
    made: ChannelMean = copy.deepcopy(gm.get_submodule(node.meta[INPUT_STATISTICS]))  # type: ignore[assignment]
    change = rotated_weight(torch.diag(1.0 / factors.double()), block=block)
    change = rotated_weight(change.T, block=block)
    made.total = change @ made.total
    if isinstance(made, WindowMoments):
        made.first = (made.first.double() @ change.T).float()
        made.second = (change @ made.second.double() @ change.T).float()
    return made


def _put(gm: fx.GraphModule, where: str, module: Any) -> None:
    owner, _, name = where.rpartition(".")
    gm.get_submodule(owner)._modules[name] = module
