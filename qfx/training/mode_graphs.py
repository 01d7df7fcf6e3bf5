"""The graphs that a model in training runs: weights rounded as they will be stored, batch norms that see batches.

An Observed graph holds folded constants. Its evaluation form computes them from the model's parameters and rounds the
weights, so it is what conversion will freeze. In its training form a layer whose batch norm is folded computes with
the rounded folded weight divided by the fold's factor, and the batch norm follows as the module it was: it sees the
layer's own result and normalizes by the batch. With the running statistics in its place, both forms agree (Jacob et
al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018,
section 3.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from qfx.ir.derivation import DERIVATION, Computed, Derived, Source
from qfx.ir.nodes import operand, place
from qfx.ops.calls import arguments, attributes
from qfx.ops.compute.reference import Activation, activate
from qfx.ops.table import Op, op_of
from qfx.passes.insert import GROUP, WEIGHT_FAKE_QUANT
from qfx.patterns.rules.batch_norm import scale_bias, scale_weight
from qfx.patterns.rules.trained import NormScale, norm_scale

_OPEN = (-math.inf, math.inf)


def form(observed: fx.Graph, batch_norms: frozenset[str], *, training: bool, observing: bool) -> fx.Graph:
    """The training or the evaluation form of an Observed graph; values keep their names.

    Args:
        observed: Its constants have derivations; it is not changed.
        batch_norms: Paths of the batch norms that train.
        training: Which form.
        observing: Whether fake-quantize modules collect statistics, as their switches say.
    """
    writer = _ModeWriter(observed, batch_norms, training, observing)
    for node in observed.nodes:
        writer.visit(node)
    writer.graph.lint()
    return writer.graph


class _ModeWriter:
    """Writes a form node by node."""

    def __init__(self, observed: fx.Graph, batch_norms: frozenset[str], training: bool, observing: bool) -> None:
        self.graph, self.batch_norms, self.training, self.observing = fx.Graph(), batch_norms, training, observing
        for node in observed.nodes:  # what is between them takes no name of theirs
            self.graph._graph_namespace.create_name(node.name, None)
        self.env: dict[fx.Node, Any] = {}
        self._constants: dict[Any, fx.Node] = {}

    def visit(self, node: fx.Node) -> None:
        op = op_of(node)
        if node.op == "get_attr":
            return
        if op is not None and op.name == "dropout":
            made = self._dropout(node)
        elif op is not None and op.weights and _has_parameters(op, node):
            made = self._layer(op, node)
        elif "observer" in node.meta:
            made = self._observed(node, operand(node))
        else:
            changed = {"activation": None} if self._activates_later(node) else {}
            made = self._make(node, node.target, self._values(node.args), self._values(node.kwargs) | changed)
        if op is not None and op.rounds and GROUP in node.meta:
            made = self._call(node, _rounded, made, self.graph.get_attr(node.meta[GROUP]))
            made.meta["observer"] = node.meta[GROUP]
        self.env[node] = made

    def _observed(self, node: fx.Node, source: fx.Node) -> fx.Node:
        where = node.meta["observer"]
        if self._activates_later(source):
            activation = source.kwargs["activation"]
            made = self._call(node, _activated, self._value(source), self.graph.get_attr(where), activation)
        else:
            made = self._fake_quantized(node, where, self._value(source))
        made.name, made.meta["observer"] = node.name, where
        return made

    def _activates_later(self, node: fx.Node) -> bool:
        """Whether the activation of a table op joins the fake quantization behind it: nothing else reads the value."""
        if not self.training or node.kwargs.get("activation") is None:
            return False
        return [user.meta.get("observer") for user in node.users] == [node.meta.get(GROUP)] != [None]

    def _make(self, like: fx.Node, target: Any, args: Any, kwargs: Any, kind: str | None = None) -> fx.Node:
        """A node in the place of ``like``."""
        made = self.graph.create_node(kind or like.op, target, args, kwargs)
        made.name = like.name
        made.meta.update(place(like))
        if GROUP in like.meta:
            made.meta[GROUP] = like.meta[GROUP]
        return made

    def _call(self, like: fx.Node, function: Callable[..., Any], *args: Any) -> fx.Node:
        """A step on the way to the value of ``like``."""
        made = self.graph.call_function(function, args)
        made.meta.update(place(like))
        return made

    def _module(self, like: fx.Node, path: str, x: fx.Node) -> fx.Node:
        made = self.graph.call_module(path, (x,))
        made.meta.update(place(like))
        return made

    def _fake_quantized(self, like: fx.Node, path: str, x: fx.Node) -> fx.Node:
        if self.observing:
            return self._module(like, path, x)
        return self._call(like, _rounded, x, self.graph.get_attr(path))

    # ------------------------------------------------------------ constants

    def _values(self, given: Any) -> Any:
        return fx.node.map_arg(given, self._value)

    def _value(self, node: fx.Node) -> Any:
        return self._constant(node.meta[DERIVATION]) if node.op == "get_attr" else self.env[node]

    def _constant(self, derivation: Any) -> fx.Node:
        """The node of a derived tensor, computed once a forward."""
        key = derivation if isinstance(derivation, (Source, Computed)) else id(derivation)
        if key not in self._constants:
            if isinstance(derivation, Source):
                made = self.graph.get_attr(derivation.path)
            elif isinstance(derivation, Computed):
                made = self.graph.call_module(derivation.path)
            else:
                operands = [d for d in derivation.operands if isinstance(d, _DERIVED)]
                args = tuple(map(self._constant, operands))
                made = self.graph.call_function(_bound(derivation, self.training), args)
            self._constants[key] = made
        return self._constants[key]

    # ------------------------------------------------------------ layers

    def _dropout(self, node: fx.Node) -> Any:
        x = self._value(node.all_input_nodes[0])
        return self._make(node, node.meta["dropout"], (x,), {}, "call_module") if self.training else x

    def _layer(self, op: Op, node: fx.Node) -> fx.Node:
        given, settings = arguments(op, node), attributes(op, node)
        if self._activates_later(node):
            settings["activation"] = None
        x, residual = self._value(given["x"]), given.get("residual")
        residual = residual and self._value(residual)
        weight, bias = (given[name] and given[name].meta[DERIVATION] for name in ("weight", "bias"))
        norm = self._norm(op, weight)
        if norm is None:
            rounded = self._weight(node, self._constant(weight))
            operands = [x, rounded, bias and self._bias(node, given["x"], self._constant(bias)), residual]
            while operands[-1] is None:
                operands.pop()
            return self._make(node, node.target, tuple(operands), settings)
        activation = settings.pop("activation")
        if op.name != "channel_affine":
            x = self._raw(op, node, x, weight, bias, settings)
        y = self._normalized(node, x, norm)
        return self._make(node, _finish, (y, residual, activation), {})

    def _norm(self, op: Op, weight: Any) -> NormScale | None:
        """The batch norm of the model that is folded into this layer and trains."""
        if not self.training:
            return None
        if op.name != "channel_affine":
            folded = isinstance(weight, Derived) and weight.compute is scale_weight
            weight = weight.operands[1] if folded else None
        norm = norm_scale(weight)
        return norm if norm is not None and _home(norm) in self.batch_norms else None

    def _weight(self, node: fx.Node, weight: fx.Node) -> fx.Node:
        rounding = node.meta.get(WEIGHT_FAKE_QUANT)
        return self._fake_quantized(node, rounding, weight) if rounding is not None else weight

    def _bias(self, node: fx.Node, x: fx.Node, bias: fx.Node) -> fx.Node:
        """The bias in whole units of input scale times weight scale, where the layer's weight is rounded."""
        if WEIGHT_FAKE_QUANT not in node.meta:
            return bias
        while "observer" in x.meta:
            x = operand(x)
        modules = (self.graph.get_attr(path) for path in (x.meta[GROUP], node.meta[WEIGHT_FAKE_QUANT]))
        return self._call(node, _rounded_bias, bias, *modules)

    def _raw(self, op: Op, node: fx.Node, x: fx.Node, weight: Derived, bias: Any, settings: dict[str, Any]) -> fx.Node:
        """The layer's own result, before its batch norm, with the weight rounded as it will be folded."""
        own, scale = weight.operands
        factor = self._call(node, _nonzero, self._constant(scale))
        folded = self._call(node, scale_weight, self._constant(own), factor)
        divided = self._call(node, _divide, self._weight(node, folded), factor)
        assert isinstance(bias, Derived)
        assert bias.compute is scale_bias
        shift = bias.operands[0] and self._constant(bias.operands[0])
        made = self._call(node, op.fn, x, divided, shift)
        made.kwargs = settings
        return made

    def _normalized(self, node: fx.Node, x: fx.Node, norm: NormScale) -> fx.Node:
        if norm.times == 1:
            return self._module(node, _home(norm), x)
        merged = self._call(node, _merge_phases, x, norm.times)
        return self._call(node, _split_phases, self._module(node, _home(norm), merged), norm.times)


def _has_parameters(op: Op, node: fx.Node) -> bool:
    """Whether weight and bias are constants of the model, not values that it computes."""
    given = arguments(op, node)
    parameters = [given.get(name) for name in ("weight", "bias")]
    return bool(op.weights) and all(p is None or p.op == "get_attr" for p in parameters)


def _home(norm: NormScale) -> str:
    return norm.variance.path.rpartition(".")[0]


_DERIVED = (Source, Derived, Computed)


def _bound(derivation: Derived, training: bool) -> Callable[..., Any]:
    """A function of the derived operands alone, with a name that generated code can carry."""
    plan = [isinstance(operand, _DERIVED) for operand in derivation.operands]
    function = derivation.training if training and derivation.training is not None else derivation.compute

    def compute(*tensors: Tensor) -> Any:
        given = iter(tensors)
        device = tensors[0].device if tensors else None
        operands = [
            next(given) if derived else value.to(device) if isinstance(value, Tensor) else value
            for derived, value in zip(plan, derivation.operands, strict=True)
        ]
        return function(*operands)

    inner = getattr(function, "func", function)
    compute.__name__ = compute.__qualname__ = getattr(inner, "__name__", "derived").lstrip("_")
    return compute


def _rounded(x: Tensor, rounding: Any) -> Tensor:
    """``x`` fake-quantized by a module that does not observe it."""
    return rounding.rounded(x) if rounding.rounds else x


def _rounded_bias(bias: Tensor, of_input: Any, of_weight: Any) -> Tensor:
    """``bias`` as it will be stored, in s32; the gradient passes straight through."""
    if not (of_input.rounds and of_weight.rounds):
        return bias
    with torch.no_grad():
        unit = of_input.calculate_qparams()[0].double() * of_weight.calculate_qparams()[0].double()
        error = (torch.round(bias.double() / unit) * unit - bias.double()).to(bias.dtype)
    return bias + error


def _activated(x: Tensor, rounding: Any, activation: Activation) -> Tensor:
    """The activation of a value that nothing else reads, and its fake quantization, in one pass."""
    assert activation is not None
    low, high = (bound if bound is not None else open_ for bound, open_ in zip(activation[1:], _OPEN, strict=True))
    return rounding.activated(x, low, high, in_place=True)


def _nonzero(factor: Tensor) -> Tensor:
    """A factor a channel by which a weight can be divided again: 1 where it is 0, so that this channel still trains."""
    return torch.where(factor == 0, torch.ones_like(factor), factor)


def _divide(weight: Tensor, factor: Tensor) -> Tensor:
    return weight / factor.reshape(-1, *[1] * (weight.dim() - 1))


def _merge_phases(x: Tensor, times: int) -> Tensor:
    """``[N, C * times, L, ...]`` to ``[N, C, times * L, ...]``: the channels as a pixel shuffle will make them."""
    return x.reshape(x.shape[0], x.shape[1] // times, times * x.shape[2], *x.shape[3:])


def _split_phases(x: Tensor, times: int) -> Tensor:
    """Undoes :func:`_merge_phases`."""
    return x.reshape(x.shape[0], x.shape[1] * times, x.shape[2] // times, *x.shape[3:])


def _finish(y: Tensor, residual: Tensor | None, activation: Activation) -> Tensor:
    """The epilogue of a layer."""
    return activate(y if residual is None else y + residual, activation)
