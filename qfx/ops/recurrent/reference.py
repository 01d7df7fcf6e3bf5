"""Float references of recurrent layers, and the ops themselves at every level.

Each is one layer, in one direction or two, over sequences of equal length: time before batch. Weights are those of the
layers of ``torch.nn``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from qfx.ops.recurrent import simulation

is_fake: Any = torch._subclasses.fake_tensor.is_fake


def lstm(
    x: Tensor,
    h: Tensor | None,
    c: Tensor | None,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    weight_ih_reverse: Tensor | None = None,
    weight_hh_reverse: Tensor | None = None,
    bias_ih_reverse: Tensor | None = None,
    bias_hh_reverse: Tensor | None = None,
    *,
    result: str = "output",
    integers: bool = False,
    halves: bool = False,
    per_row: bool = True,
) -> Tensor:
    """A long short-term memory.

    Args:
        x: float32 ``[time, batch, inputs]``.
        h: The hidden state before, ``[directions, batch, hidden]``; zeros where it is left out.
        c: The cell state before, in the same way.
        weight_ih: ``[4 * hidden, inputs]``, gates in torch's order.
        weight_hh: ``[4 * hidden, hidden]``.
        bias_ih, bias_hh: ``[4 * hidden]``; 0 where they are left out.
        weight_ih_reverse, weight_hh_reverse, bias_ih_reverse, bias_hh_reverse: Of the other direction, if there is one.
        result: ``"output"``: the hidden states of every time step, ``[time, batch, directions * hidden]``; or
            ``"cell"``: the cell state after the last one, ``[directions, batch, hidden]``.
        integers: Whether products are of int8 weights and of rows rounded to 8 bits at each call.
        halves: Whether weights are float16.
        per_row: Whether each row that is rounded has a scale of its own; else one holds for all of them.
    """
    forward = (weight_ih, weight_hh, bias_ih, bias_hh)
    reverse = (weight_ih_reverse, weight_hh_reverse, bias_ih_reverse, bias_hh_reverse)
    states = _states(x, (h, c), forward, reverse, gates=4)
    if x.is_meta or is_fake(x):
        return _empty(x, states[0]) if result == "output" else torch.empty_like(states[1])
    if integers:
        y, ends = simulation.layer("lstm", x, states, forward, reverse, per_row=per_row)
        return y if result == "output" else ends[1]
    y, _, after = torch._VF.lstm(x, states, *_given(x.dtype, forward, reverse))
    made: Tensor = y if result == "output" else after
    return made


def gru(
    x: Tensor,
    h: Tensor | None,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    weight_ih_reverse: Tensor | None = None,
    weight_hh_reverse: Tensor | None = None,
    bias_ih_reverse: Tensor | None = None,
    bias_hh_reverse: Tensor | None = None,
    *,
    integers: bool = False,
    halves: bool = False,
    per_row: bool = True,
) -> Tensor:
    """A gated recurrent unit: the hidden states of every time step. Arguments as those of :func:`lstm`, of 3 gates."""
    forward = (weight_ih, weight_hh, bias_ih, bias_hh)
    reverse = (weight_ih_reverse, weight_hh_reverse, bias_ih_reverse, bias_hh_reverse)
    states = _states(x, (h,), forward, reverse, gates=3)
    if x.is_meta or is_fake(x):
        return _empty(x, states[0])
    if integers:
        return simulation.layer("gru", x, states, forward, reverse, per_row=per_row)[0]
    made: Tensor = torch._VF.gru(x, *states, *_given(x.dtype, forward, reverse))[0]
    return made


def rnn(
    x: Tensor,
    h: Tensor | None,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    weight_ih_reverse: Tensor | None = None,
    weight_hh_reverse: Tensor | None = None,
    bias_ih_reverse: Tensor | None = None,
    bias_hh_reverse: Tensor | None = None,
    *,
    nonlinearity: str = "tanh",
    integers: bool = False,
    halves: bool = False,
    per_row: bool = True,
) -> Tensor:
    """An Elman network with tanh or relu: the hidden states of every time step. Arguments as those of :func:`lstm`,
    of one gate."""
    forward = (weight_ih, weight_hh, bias_ih, bias_hh)
    reverse = (weight_ih_reverse, weight_hh_reverse, bias_ih_reverse, bias_hh_reverse)
    states = _states(x, (h,), forward, reverse, gates=1)
    if x.is_meta or is_fake(x):
        return _empty(x, states[0])
    if integers:
        return simulation.layer(f"rnn_{nonlinearity}", x, states, forward, reverse, per_row=per_row)[0]
    compute = torch._VF.rnn_relu if nonlinearity == "relu" else torch._VF.rnn_tanh
    made: Tensor = compute(x, *states, *_given(x.dtype, forward, reverse))[0]
    return made


def last_state(y: Tensor, *, directions: int) -> Tensor:
    """The hidden states after the last time step, ``[directions, batch, hidden]``.

    Args:
        y: Those of every time step, ``[time, batch, directions * hidden]``.
        directions: 1 or 2; the second begins with the last time step.
    """
    if directions == 1:
        return y[-1:]
    forward, reverse = y.chunk(2, -1)
    return torch.stack([forward[-1], reverse[0]])


def _states(
    x: Tensor, states: tuple[Tensor | None, ...], forward: tuple[Any, ...], reverse: tuple[Any, ...], *, gates: int
) -> Any:
    """The states before, zeros where they are left out.

    Raises:
        RuntimeError: Operands do not have the shapes of a layer's, which kernels of torch believe.
    """
    inputs, hidden = forward[0].shape[-1], forward[1].shape[-1]
    if x.dim() != 3:
        raise RuntimeError(f"input must have 3 dimensions, got {x.dim()}")
    if x.shape[2] != inputs:
        raise RuntimeError(f"input.size(-1) must be equal to input_size. Expected {inputs}, got {x.shape[2]}")
    for weights in (forward,) if all(tensor is None for tensor in reverse) else (forward, reverse):
        _require_weights(weights, gates * hidden, inputs, hidden, biased=forward[2] is not None)
    shape = (1 if reverse[0] is None else 2, x.shape[1], hidden)
    for h in states:
        if h is not None and (tuple(h.shape) != shape or h.dtype is not x.dtype):
            raise RuntimeError(f"Expected hidden size {shape} of {x.dtype}, got {list(h.shape)} of {h.dtype}")
    return [x.new_zeros(shape) if h is None else h for h in states]


def _require_weights(weights: tuple[Any, ...], rows: int, inputs: int, hidden: int, *, biased: bool) -> None:
    wanted = [(rows, inputs), (rows, hidden), *[(rows,) if biased else None] * 2]
    found = [None if tensor is None else tuple(tensor.shape) for tensor in weights]
    if found != wanted or not hidden:
        raise RuntimeError(f"Expected weights and biases of sizes {wanted}, got {found}")


def _empty(x: Tensor, state: Tensor) -> Tensor:
    """What only has a shape; torch takes every time step apart for it."""
    return x.new_empty((*x.shape[:2], state.shape[0] * state.shape[2]))


def _given(dtype: torch.dtype, forward: tuple[Any, ...], reverse: tuple[Any, ...]) -> tuple[Any, ...]:
    """What functions of torch take behind the states; float16 weights count as what ``dtype`` they meet."""
    tensors = [t for t in (*forward, *reverse) if t is not None]
    biased, bidirectional = forward[2] is not None, reverse[0] is not None
    return [t.to(dtype) for t in tensors], biased, 1, 0.0, False, bidirectional, False
