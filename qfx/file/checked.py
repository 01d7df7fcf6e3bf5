"""Functions that trust their operands, behind a check of their own: what a file calls instead of them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from qfx.errors import InputError

_LARGEST_POWER = 64


def power(base: Any, exponent: Any) -> Any:
    """``base ** exponent``, of numbers where the result is one of 64 bits.

    Raises:
        InputError: It is a larger one.
    """
    _require_small(base, exponent)
    return operator.pow(base, exponent)


def left_shift(value: Any, by: Any) -> Any:
    """``value << by``, as :func:`power`."""
    _require_small(value, by)
    return operator.lshift(value, by)


def _require_small(value: Any, by: Any) -> None:
    if isinstance(value, int) and isinstance(by, int) and value not in (0, 1, -1) and by > _LARGEST_POWER:
        raise InputError(f"A model computes a number to the {by}.", remedy="Save the model again with qfx.save.")


def lstm(
    input: Tensor,
    hx: Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> Any:
    """``aten.lstm.input``, whose kernels believe the shapes of weights and states.

    Raises:
        InputError: They do not fit each other.
    """
    _require_layers(input, hx, params, has_biases, num_layers, bidirectional, batch_first, gates=4)
    return torch.ops.aten.lstm.input(
        input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first
    )


def _of_one_state(function: Callable[..., Any], gates: int) -> Callable[..., Any]:
    def checked(
        input: Tensor,
        hx: Tensor,
        params: Sequence[Tensor],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> Any:
        _require_layers(input, [hx], params, has_biases, num_layers, bidirectional, batch_first, gates=gates)
        return function(input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first)

    return checked


def gru(*args: Any, **kwargs: Any) -> Any:
    """``aten.gru.input``, as :func:`lstm`."""
    return _of_one_state(torch.ops.aten.gru.input, 3)(*args, **kwargs)


def rnn_tanh(*args: Any, **kwargs: Any) -> Any:
    """``aten.rnn_tanh.input``, as :func:`lstm`."""
    return _of_one_state(torch.ops.aten.rnn_tanh.input, 1)(*args, **kwargs)


def rnn_relu(*args: Any, **kwargs: Any) -> Any:
    """``aten.rnn_relu.input``, as :func:`lstm`."""
    return _of_one_state(torch.ops.aten.rnn_relu.input, 1)(*args, **kwargs)


def _require_layers(
    x: Any,
    states: Sequence[Any],
    params: Sequence[Any],
    biases: Any,
    layers: Any,
    bidirectional: Any,
    batch_first: Any,
    gates: int,
) -> None:
    """Raise unless weights, biases and states have the shapes that a layer of torch.nn would give them."""
    tensors = [x, *states, *params]
    if not all(type(t) in (Tensor, torch.nn.Parameter) and t.dtype is x.dtype for t in tensors) or x.dim() not in (
        2,
        3,
    ):
        raise _misfit()
    directions = 2 if bidirectional else 1
    runs = layers * directions
    each = len(params) // runs if 0 < runs <= len(params) else 0
    projected = each == (5 if biases else 3) and gates == 4
    if not each or each * runs != len(params) or each not in ((4, 5) if biases else (2, 3)):
        raise _misfit()
    hidden = params[1].shape[0] // gates if params[1].dim() == 2 else 0
    kept = params[each - 1].shape[0] if projected and params[each - 1].dim() == 2 else hidden
    width = x.shape[-1]
    for run in range(runs):
        taken = width if run < directions else kept * directions
        wanted: list[tuple[int, ...]] = [(gates * hidden, taken), (gates * hidden, kept)]
        wanted += [(gates * hidden,)] * 2 if biases else []
        wanted += [(kept, hidden)] if projected else []
        if [tuple(p.shape) for p in params[run * each : (run + 1) * each]] != wanted:
            raise _misfit()
    batch = () if x.dim() == 2 else (x.shape[0 if batch_first else 1],)
    sizes = [kept, hidden] if gates == 4 else [hidden]
    if [tuple(s.shape) for s in states] != [(runs, *batch, size) for size in sizes] or 0 in (hidden, kept):
        raise _misfit()


def _misfit() -> InputError:
    return InputError(
        "The weights and states of a recurrent layer do not fit each other, or the input.",
        remedy="Pass an input of the features that the float model takes; else save the model again with qfx.save.",
    )


CHECKED: dict[str, Callable[..., Any]] = {
    "operator.pow": power,
    "operator.ipow": power,
    "builtins.pow": power,
    "operator.lshift": left_shift,
    "operator.ilshift": left_shift,
    "aten.lstm.input": lstm,
    "aten.gru.input": gru,
    "aten.rnn_tanh.input": rnn_tanh,
    "aten.rnn_relu.input": rnn_relu,
}
"""By the name in the file."""

for _function, _name in {function: name for name, function in reversed(CHECKED.items())}.items():
    _function.__name__ = _name.partition(".")[2]  # what reports call it
