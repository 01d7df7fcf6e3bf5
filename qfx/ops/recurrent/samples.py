"""Samples of recurrent layers."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from qfx.ops.sample import Sample, Samples, call, normal, refused

_TIME, _BATCH, _INPUTS, _HIDDEN = 5, 3, 6, 7


def _weights(gates: int, *, biased: bool, seed: int) -> list[Tensor | None]:
    rows = gates * _HIDDEN
    matrices: list[Tensor | None] = [normal(rows, n, seed=seed + n) * 0.4 for n in (_INPUTS, _HIDDEN)]
    return matrices + [normal(rows, seed=seed + i) * 0.2 if biased else None for i in range(2)]


def _calls(gates: int, states: int, **attributes: Any) -> list[Sample]:
    x, none = normal(_TIME, _BATCH, _INPUTS), [None] * states
    given = [normal(1, _BATCH, _HIDDEN, seed=i) * 0.5 for i in range(states)]
    both = [normal(2, _BATCH, _HIDDEN, seed=i) * 0.5 for i in range(states)]
    forward, reverse = (_weights(gates, biased=True, seed=seed) for seed in (10, 30))
    plain = _weights(gates, biased=False, seed=10)
    return [
        call(x, *none, *forward, **attributes),
        call(x, *given, *plain, **attributes),
        call(x, *both, *forward, *reverse, **attributes),
        call(x[:1], *none, *plain, *_weights(gates, biased=False, seed=30), **attributes),
    ]


def lstm() -> list[Sample]:
    return [*_calls(4, 2), *_calls(4, 2, result="cell")]


def gru() -> list[Sample]:
    return _calls(3, 1)


def rnn() -> list[Sample]:
    return [*_calls(1, 1), *_calls(1, 1, nonlinearity="relu")]


def last_state() -> list[Sample]:
    y = normal(_TIME, _BATCH, 2 * _HIDDEN)
    return [call(y, directions=1), call(y, directions=2), call(y[:1], directions=2)]


def _bad(gates: int, states: int) -> list[Sample]:
    x, none = normal(_TIME, _BATCH, _INPUTS), [None] * states
    weights = _weights(gates, biased=True, seed=10)
    wide = normal(_TIME, _BATCH, _INPUTS + 1)
    return [
        refused(RuntimeError, "must be equal to input_size", wide, *none, *weights),
        refused(RuntimeError, "Expected weights and biases", x, *none, *weights[:2], weights[2], None),
    ]


GOOD: dict[str, Samples] = {"lstm": lstm, "gru": gru, "rnn": rnn, "last_state": last_state}
BAD: dict[str, Samples] = {
    "lstm": lambda: _bad(4, 2),
    "gru": lambda: _bad(3, 1),
    "rnn": lambda: _bad(1, 1),
    "last_state": lambda: [refused(RuntimeError, "stack expects each tensor", normal(2, 2, 3), directions=2)],
}
