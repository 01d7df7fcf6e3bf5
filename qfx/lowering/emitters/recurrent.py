"""Recurrent layers: one step gives all that is asked of a layer."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, fx

from qfx.lowering.emit import Emission, Physical, emits, identity
from qfx.ops.calls import arguments
from qfx.ops.table import op_at, op_of
from qfx.runtime import steps

_RANK = 3
_ENDS = ("", "_reverse")
_STEPS = (steps.lstm, steps.gru, steps.rnn_tanh, steps.rnn_relu)


@emits("lstm", "gru", "rnn", coded=False)
def recurrent(emission: Emission, node: fx.Node) -> Physical:
    """Time before batch. Calls that differ only in what they ask for share a step."""
    key = _key(node)
    if key not in emission.results:
        emission.results[key] = _written(emission, node)
    results = emission.results[key]
    return results[-1] if node.kwargs.get("result") == "cell" else results[0]


@emits("last_state", coded=False)
def last_state(emission: Emission, node: fx.Node) -> Physical:
    """What the layer's own step gives, where it is of this program; else slices."""
    given = arguments(op_at(node), node)
    results = emission.results.get(_key(given["y"]))
    return results[1] if results is not None else _sliced(emission, node, given["y"], given["directions"])


def _key(node: fx.Node) -> Hashable:
    """What a call of a layer computes, whatever it asks for of that; of other nodes themselves."""
    op = op_of(node)
    if op is None or not op.matrices:
        return node
    return node.target, node.args, *((name, value) for name, value in node.kwargs.items() if name != "result")


def _written(emission: Emission, node: fx.Node) -> list[Physical]:
    given = arguments(op_at(node), node)
    names = [name for name in ("h", "c") if name in given]
    x = emission.in_order(node, emission.value(given["x"]), identity(_RANK))
    weights = {name: _matrix(emission, node, name) for name in ("weight_ih", "weight_hh")}
    biases = {name: _bias(emission, given, name) for name in ("bias_ih", "bias_hh")}
    hidden, directions = weights["weight_hh"].features, weights["weight_hh"].directions
    states = [_state(emission, node, given[name], (directions, 1, hidden)) for name in names]
    cell = "rnn_" + given["nonlinearity"] if "nonlinearity" in given else op_at(node).name
    make: Any = next(step for step in _STEPS if step.__name__ == cell)
    step = make(
        x.id, *(h.id for h in states), directions=directions, per_row=given["per_row"],
        same_state=given["h"] is None,
        weight_ih=weights["weight_ih"].values, weight_ih_scale=weights["weight_ih"].scale,
        weight_ih_zero_point=weights["weight_ih"].zero_point,
        weight_hh=weights["weight_hh"].values, weight_hh_scale=weights["weight_hh"].scale,
        weight_hh_zero_point=weights["weight_hh"].zero_point,
        bias_ih=biases["bias_ih"], bias_hh=biases["bias_hh"],
    )  # fmt: skip
    return emission.all_of(node, step, [identity(_RANK)] * (1 + len(states)))


def _state(emission: Emission, node: fx.Node, given: fx.Node | None, zeros: tuple[int, ...]) -> Physical:
    """The states before, or zeros that stand for each sequence's."""
    if given is not None:
        return emission.in_order(node, emission.value(given), identity(_RANK))
    return Physical(
        emission.builder.constant_value(f"{node.name}_zeros", np.zeros(zeros, np.float32)), "f32", (0, 1, 2)
    )


class _Matrix(NamedTuple):
    """Constants of a matrix of weights of all directions, one below the other."""

    values: int
    features: int
    directions: int
    scale: int | None = None
    zero_point: int | None = None


def _matrix(emission: Emission, node: fx.Node, name: str) -> _Matrix:
    given, names = arguments(op_at(node), node), [name + end for end in _ENDS]
    if given["halves"]:
        tensors = [emission.tensor(given[n]).half() for n in names if given[n] is not None]
        return _Matrix(emission.constant(torch.cat(tensors)), tensors[0].shape[1], len(tensors))
    arrays = [node.meta["weights"][n].array for n in names if n in node.meta["weights"]]
    values = torch.cat([a.values for a in arrays])
    scale = torch.cat([a.scale.expand(len(a.values)) for a in arrays])
    zero = torch.cat([a.zero_point.expand(len(a.values)) for a in arrays]).to(torch.int32)
    zeros = emission.constant(zero) if bool(zero.any()) else None
    return _Matrix(emission.constant(values), values.shape[1], len(arrays), emission.constant(scale), zeros)


def _bias(emission: Emission, given: dict[str, Any], name: str) -> int | None:
    biases: list[Tensor] = [emission.tensor(given[name + end]) for end in _ENDS if given[name + end] is not None]
    return emission.constant(torch.cat(biases)) if biases else None


def _sliced(emission: Emission, node: fx.Node, layer: fx.Node, directions: int) -> Physical:
    y = emission.in_order(node, emission.value(layer), identity(_RANK))
    last, whole = emission.expr(-1), emission.expr(2**62)
    if directions == 1:
        return emission.step(node, steps.slice(y.id, axis=0, start=last, end=whole), y.order, "f32")
    none, one = emission.expr(0), emission.expr(1)
    half = emission.builder.expr("floordiv", emission.dim(y, 2), emission.expr(2))
    parts = []
    for rows, columns in (((last, whole), (none, half)), ((none, one), (half, whole))):
        step = steps.slice(y.id, axis=0, start=rows[0], end=rows[1])
        part = emission.step(node, step, y.order, "f32")
        step = steps.slice(part.id, axis=2, start=columns[0], end=columns[1])
        parts.append(emission.step(node, step, y.order, "f32").id)
    return emission.step(node, steps.concat(parts, axis=0), y.order, "f32")
