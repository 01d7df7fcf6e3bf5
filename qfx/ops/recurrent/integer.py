"""The exact meaning of recurrent layers on integers, and with float16 weights.

Every operation is float32, rounded on its own, unless it is on integers. docs/numerics.md says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qfx.ir.types import QArray
from qfx.ops.compute.integer import linear_dynamic
from qfx.ops.epilogue import Operand
from qfx.ops.pointwise import float32
from qfx.ops.pointwise.float32 import Array, F

Weights = Sequence[Operand | None]
"""``weight_ih``, ``weight_hh`` and their biases."""

_States = tuple[Array, ...]


def layer(
    cell: str, x: Tensor, states: Sequence[Tensor | None], forward: Weights, reverse: Weights, *, per_row: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """What every time step gives, and the states after the last one.

    The input is rounded once, the hidden state at every time step: each row by its own range, or all of them by one.
    Gates are sums of the two products and of the biases, which are added up first.

    Args:
        cell: ``"lstm"``, ``"gru"``, ``"rnn_tanh"`` or ``"rnn_relu"``.
        x: float32 ``[time, batch, inputs]``.
        states: Before, ``[directions, batch, hidden]``; zeros where they are left out.
        forward, reverse: Of each direction; int8 matrices, or the values of float16 ones. None in place of the second.
        per_row: Whether each row has a scale of its own.
    """
    directions = [forward] if reverse[0] is None else [forward, reverse]
    outputs, ends = [], []
    for d, weights in enumerate(directions):
        given = _Direction.of(cell, weights, per_row)
        shape = (x.shape[1], given.hidden)
        before = tuple(np.zeros(shape, F) if h is None else h[d].numpy() for h in states)
        y, last = given.run(x, before, backwards=d == 1)
        outputs.append(y)
        ends.append(last)
    after = (torch.from_numpy(np.stack(parts)) for parts in zip(*ends, strict=True))
    return torch.from_numpy(np.concatenate(outputs, -1)), tuple(after)


@dataclass(frozen=True)
class _Direction:
    """One direction of a layer.

    Attributes:
        cell: What a time step computes.
        weight_ih, weight_hh: Its matrices.
        bias: What is added to the product with the input.
        late: What is added to the product with the state: of a gru, the bias of the gate that is multiplied.
        per_row: Whether each row that is rounded has a scale of its own.
    """

    cell: Callable[[Array, Array, _States], _States]
    weight_ih: Operand
    weight_hh: Operand
    bias: Array
    late: Array
    per_row: bool

    @classmethod
    def of(cls, cell: str, weights: Weights, per_row: bool) -> _Direction:
        weight_ih, weight_hh, *biases = weights
        assert weight_ih is not None
        assert weight_hh is not None
        rows, hidden = (weight_hh.values if isinstance(weight_hh, QArray) else weight_hh).shape
        own, other = (b.numpy() if isinstance(b, Tensor) else np.zeros(rows, F) for b in biases)
        late = np.zeros(rows, F)
        if cell == "gru":
            late[2 * hidden :] = other[2 * hidden :]
        early = np.where(np.arange(rows) >= (2 * hidden if cell == "gru" else rows), F(0.0), other)
        return cls(_CELLS[cell], weight_ih, weight_hh, own + early, late, per_row)

    @property
    def hidden(self) -> int:
        weight = self.weight_hh.values if isinstance(self.weight_hh, QArray) else self.weight_hh
        return int(weight.shape[1])

    def run(self, x: Tensor, states: _States, *, backwards: bool) -> tuple[Array, _States]:
        own = self._product(x, self.weight_ih) + self.bias
        y = np.zeros((*x.shape[:2], self.hidden), F)
        for t in range(len(x))[:: -1 if backwards else 1]:
            from_state = self._product(torch.from_numpy(states[0]), self.weight_hh) + self.late
            with np.errstate(all="ignore"):
                states = self.cell(own[t], from_state, states)
            y[t] = states[0]
        return y, states

    def _product(self, x: Tensor, weight: Operand) -> Array:
        if isinstance(weight, QArray):
            return linear_dynamic(x, weight, per_row=self.per_row).numpy()
        y = np.zeros((*x.shape[:-1], weight.shape[0]), F)
        for k in range(x.shape[-1]):  # in the order of the features
            y = y + x[..., k : k + 1].numpy() * weight[:, k].float().numpy()
        return y


def _times_sigmoid(x: Array, t: Array) -> Array:
    e = float32.exp_below(-np.abs(t))
    made: Array = np.where(t < 0, x * e, x) / (e + F(1.0))
    return made


def _tanh_times_sigmoid(x: Array, t: Array) -> Array:
    """By one division."""
    away, e = float32.expm1_below(np.abs(x) * F(-2.0)), float32.exp_below(-np.abs(t))
    top: Any = np.copysign(away, x)
    made: Array = np.where(t < 0, top * e, top) / ((away + F(2.0)) * (e + F(1.0)))
    return made


def _lstm(x: Array, h: Array, states: _States) -> _States:
    i, f, g, o = np.split(x + h, 4, -1)
    c = _times_sigmoid(states[1], f) + _tanh_times_sigmoid(g, i)
    return _tanh_times_sigmoid(c, o), c


def _gru(x: Array, h: Array, states: _States) -> _States:
    (xr, xz, xn), (hr, hz, hn) = np.split(x, 3, -1), np.split(h, 3, -1)
    n = float32.tanh(xn + _times_sigmoid(hn, xr + hr))
    return (n + _times_sigmoid(states[0] - n, xz + hz),)


_CELLS: dict[str, Callable[[Array, Array, _States], _States]] = {
    "lstm": _lstm,
    "gru": _gru,
    "rnn_tanh": lambda x, h, states: (float32.tanh(x + h),),
    "rnn_relu": lambda x, h, states: (np.maximum(x + h, F(0.0)),),
}
