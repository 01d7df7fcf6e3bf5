"""Spellings of recurrent layers: modules of torch, and the functions that an export makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from qfx.ops.extents import rank_of
from qfx.ops.spelling import Alias, aliases, aten, require, require_tensor
from qfx.ops.table import is_op
from qfx.ops.terms import ZEROS, Attr, Term, term

_Layer = tuple[Any, ...]
"""What a layer multiplies and adds, in the order of an op's operands; of both directions, if it has two."""

_PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def _module(op: str, module: Any, input: Any, hx: Any = None) -> Any:
    """A call of ``nn.LSTM``, ``nn.GRU`` or ``nn.RNN``."""
    require(not module.proj_size, f"its hidden state is projected (proj_size={module.proj_size}), which no op does")
    ends = ("", "_reverse") if module.bidirectional else ("",)
    layers = [
        tuple(
            Attr(f"{part}_l{layer}{end}") if module.bias or part.startswith("weight") else None
            for end in ends
            for part in _PARTS
        )
        for layer in range(module.num_layers)
    ]
    attributes = {"nonlinearity": module.nonlinearity} if op == "rnn" else {}
    return _Call(op, attributes, module.bidirectional).of(input, hx, layers, module.batch_first)


def _function(op: str, attributes: dict[str, str], *args: Any) -> Any:
    """``aten.lstm.input`` and its kind."""
    input, hx, params, biased, layers, dropout, train, bidirectional, batch_first = args
    require(not (train and dropout), "it drops results between layers")
    count, directions = (4 if biased else 2), (2 if bidirectional else 1)
    require(len(params) == count * directions * layers, "its hidden state is projected, which no op does")
    parts = [(*params[first : first + count], *[None] * (4 - count)) for first in range(0, len(params), count)]
    made = [sum(parts[i : i + directions], ()) for i in range(0, len(parts), directions)]
    y, states = _Call(op, attributes, bidirectional).of(input, hx, made, batch_first)
    return (y, *states) if isinstance(states, tuple) else (y, states)


_STATES = {"lstm": 2, "gru": 1, "rnn": 1}


class _Call:
    """A call of layers, each on what the one before gives.

    Args:
        op: The row.
        attributes: Of the row.
        bidirectional: Whether each layer runs in both directions.
    """

    def __init__(self, op: str, attributes: dict[str, str], bidirectional: bool) -> None:
        self.op, self.attributes, self.directions = op, attributes, 2 if bidirectional else 1

    def of(self, input: Any, hx: Any, layers: Sequence[_Layer], batch_first: bool) -> Any:
        """What the module of torch returns.

        Raises:
            NotNormal: The input is no tensor of known rank, or states are not what the layer takes.
        """
        require_tensor(input)
        rank = rank_of(input)
        require(rank in (2, 3), "its input is a PackedSequence, or of unknown rank (pass example inputs)")
        given = self._given(hx)
        batch = 0 if batch_first else 1
        x = term("unsqueeze", input, dim=batch) if rank == 2 else input
        before = [h if h is None or rank == 3 else term("unsqueeze", h, dim=1) for h in given]
        y, ends = self._layers(_exchanged(x, batch_first), before, layers)
        y = _exchanged(y, batch_first)
        if rank == 2:
            y, ends = term("squeeze", y, dim=batch), [term("squeeze", h, dim=1) for h in ends]
        return y, (tuple(ends) if len(ends) > 1 else ends[0])

    def _given(self, hx: Any) -> list[Any]:
        wanted = _STATES[self.op]
        if hx is None:
            return [None] * wanted
        states = list(hx) if wanted > 1 and isinstance(hx, (tuple, list)) else [hx]
        require(len(states) == wanted, "its states are made by code outside the table")
        require_tensor(*states)
        return [None] * wanted if all(map(_is_zeros, states)) else states

    def _layers(self, x: Any, before: list[Any], layers: Sequence[_Layer]) -> tuple[Any, list[Any]]:
        ends: list[list[Any]] = [[] for _ in before]
        for index, weights in enumerate(layers):
            states = [self._own(h, index, len(layers)) for h in before]
            operands = (x, *states, *weights)
            x = Term(self.op, operands, dict(self.attributes))
            ends[0].append(term("last_state", x, directions=self.directions))
            if len(ends) > 1:
                ends[1].append(Term(self.op, operands, {"result": "cell"}))
        return x, [parts[0] if len(parts) == 1 else term("cat", parts, dim=0) for parts in ends]

    def _own(self, h: Any, index: int, count: int) -> Any:
        if h is None or count == 1:
            return h
        first = index * self.directions
        return term("slice", h, dim=0, start=first, end=first + self.directions, step=1)


def _is_zeros(state: Any) -> bool:
    """Whether ``state`` is made of zeros: what a layer begins with where it is given none."""
    if ZEROS in state.meta:
        return bool(state.meta["dtype"] is torch.float32)
    return is_op(state, "full") and state.kwargs["value"] == 0 and state.kwargs["dtype"] is torch.float32


def _exchanged(x: Any, batch_first: bool) -> Any:
    return term("transpose", x, dim0=0, dim1=1) if batch_first else x


ALIASES: tuple[Alias, ...] = (
    *(
        alias
        for op, cls in (("lstm", nn.LSTM), ("gru", nn.GRU), ("rnn", nn.RNN))
        for alias in aliases(op, partial(_module, op), modules=[cls], takes_module=True)
    ),
    *aten("lstm", partial(_function, "lstm", {}), "lstm.input"),
    *aten("gru", partial(_function, "gru", {}), "gru.input"),
    *aten("rnn", partial(_function, "rnn", {"nonlinearity": "tanh"}), "rnn_tanh.input"),
    *aten("rnn", partial(_function, "rnn", {"nonlinearity": "relu"}), "rnn_relu.input"),
)
