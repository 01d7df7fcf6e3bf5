"""The rows of recurrent layers, and the shapes of their results."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from qfx.ir.types import QParams
from qfx.ops.dims import Length, Lengths
from qfx.ops.epilogue import quantized, through_float64, value
from qfx.ops.recurrent import integer, reference, samples
from qfx.ops.table import Op, with_samples

MATRICES = ("weight_ih", "weight_hh", "weight_ih_reverse", "weight_hh_reverse")


def _layer_shape(fn: Callable[..., Tensor], *operands: Any, **attributes: Any) -> Lengths:
    given = _bound(fn, *operands, **attributes)
    x, weight = given["x"], given["weight_hh"]
    if len(x) != 3:
        raise ValueError("a recurrent layer takes [time, batch, features]")
    directions = 1 if given["weight_ih_reverse"] is None else 2
    if given.get("result") == "cell":
        return (directions, x[1], weight[1])
    return (*x[:2], directions * weight[1])


def _last_shape(y: Lengths, *, directions: int) -> tuple[Length, ...]:
    _, batch, features = y
    return (directions, batch, features // directions)


@functools.cache
def _signature(fn: Callable[..., Tensor]) -> inspect.Signature:
    return inspect.signature(fn)


def _bound(fn: Callable[..., Tensor], *operands: Any, **attributes: Any) -> dict[str, Any]:
    bound = _signature(fn).bind(*operands, **attributes)
    bound.apply_defaults()
    return bound.arguments


def _exact(fn: Callable[..., Tensor], *operands: Any, out: QParams | None, **attributes: Any) -> Tensor:
    given = _bound(fn, *operands, **attributes)
    if not (given["integers"] or given["halves"]):
        return through_float64(fn, *operands, out=out, **attributes)
    cell = "rnn_" + given["nonlinearity"] if "nonlinearity" in given else fn.__name__
    states = [given[name] for name in ("h", "c") if name in given]
    forward, reverse = (
        [given[name + end] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")] for end in ("", "_reverse")
    )
    x, states = value(given["x"]), [None if h is None else value(h) for h in states]
    y, after = integer.layer(cell, x, states, forward, reverse, per_row=given["per_row"])
    return quantized(after[1] if given.get("result") == "cell" else y, out)


def _last(y: Any, *, directions: int, out: QParams | None) -> Tensor:
    return quantized(reference.last_state(value(y), directions=directions), out)


def _uncovered(*, integers: bool = False, halves: bool = False, **attributes: Any) -> str | None:
    return None if integers or halves else "a recurrent layer in float is computed by torch"


def _row(fn: Callable[..., Tensor], states: tuple[str, ...], family: str, kernels: str) -> Op:
    return Op(
        fn.__name__, fn, ("x", *states), "float", shape=partial(_layer_shape, fn), integer=partial(_exact, fn),
        family=family, floats="integer", uncovered=_uncovered, by_rows=True, matrices=MATRICES, layout="rows",
        follows_layout=False, kernels=f"recurrent: {kernels}",
    )  # fmt: skip


ROWS = with_samples(
    samples.GOOD,
    samples.BAD,
    _row(reference.lstm, ("h", "c"), "lstm", "Lstm"),
    _row(reference.gru, ("h",), "gru", "Gru"),
    _row(reference.rnn, ("h",), "rnn_tanh", "RnnTanh RnnRelu"),
    Op(
        "last_state", reference.last_state, ("y",), "float", shape=_last_shape, integer=_last, family="slice",
        floats="fn", layout="rows", follows_layout=False,
    ),
)  # fmt: skip
