"""Recurrent layers in float32 arithmetic on operands that are rounded as the integers of a program are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from qfx.ops.qdq.dynamic import requantize_dynamic

Weights = Sequence[Tensor | None]
"""``weight_ih``, ``weight_hh`` and their biases."""

_States = tuple[Tensor, ...]


def layer(
    cell: str, x: Tensor, states: Sequence[Tensor], forward: Weights, reverse: Weights, *, per_row: bool
) -> tuple[Tensor, _States]:
    """What every time step gives, and the states after the last one; shapes as those of the ops."""
    directions = [forward] if reverse[0] is None else [forward, reverse]
    outputs, ends = [], []
    for d, weights in enumerate(directions):
        ys, last = _direction(cell, x.flip(0) if d else x, tuple(h[d] for h in states), weights, per_row)
        outputs.append(torch.stack(ys[::-1] if d else ys))
        ends.append(last)
    return torch.cat(outputs, -1), tuple(torch.stack(parts) for parts in zip(*ends, strict=True))


def _direction(
    cell: str, x: Tensor, states: _States, weights: Weights, per_row: bool
) -> tuple[list[Tensor], _States]:  # fmt: skip
    weight_ih, weight_hh, bias_ih, bias_hh = weights
    assert weight_ih is not None
    assert weight_hh is not None
    own = F.linear(requantize_dynamic(x, reduce_range=False, per_row=per_row), weight_ih, bias_ih)
    ys = []
    for given in own:
        rounded = requantize_dynamic(states[0], reduce_range=False, per_row=per_row)
        states = _CELLS[cell](given, F.linear(rounded, weight_hh, bias_hh), states)
        ys.append(states[0])
    return ys, states


def _lstm(x: Tensor, h: Tensor, states: _States) -> _States:
    i, f, g, o = (x + h).chunk(4, -1)
    c = f.sigmoid() * states[1] + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _gru(x: Tensor, h: Tensor, states: _States) -> _States:
    (xr, xz, xn), (hr, hz, hn) = x.chunk(3, -1), h.chunk(3, -1)
    n = (xn + (xr + hr).sigmoid() * hn).tanh()
    return (n + (xz + hz).sigmoid() * (states[0] - n),)


_CELLS: dict[str, Callable[[Tensor, Tensor, _States], _States]] = {
    "lstm": _lstm,
    "gru": _gru,
    "rnn_tanh": lambda x, h, states: ((x + h).tanh(),),
    "rnn_relu": lambda x, h, states: ((x + h).relu(),),
}
