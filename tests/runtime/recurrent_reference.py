"""The recurrent steps in numpy, straight from their definitions; float32 operations are rounded one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from qfx.ops.pointwise.float32 import exp_below, expm1_below, tanh

F = np.float32
GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
Constants = Mapping[str, np.ndarray]


def times_sigmoid(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    e = exp_below(-np.abs(t))
    return np.where(t < 0, x * e, x) / (e + F(1.0))


def tanh_times_sigmoid(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    away, e = expm1_below(np.abs(x) * F(-2.0)), exp_below(-np.abs(t))
    top = np.copysign(away, x)
    return np.where(t < 0, top * e, top) / ((away + F(2.0)) * (e + F(1.0)))


def in_order(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """``x @ w.T`` in float32, in the order of the features."""
    y = np.zeros((len(x), len(w)), F)
    for k in range(x.shape[1]):
        y = y + x[:, k : k + 1] * w[None, :, k]
    return y


def affine(x: np.ndarray, per_row: bool) -> tuple[np.ndarray, np.ndarray]:
    axis = -1 if per_row else None
    low, high = (f(x.astype(np.float64), axis, keepdims=True, initial=0.0) for f in (np.min, np.max))
    scale = ((high - low) / 255).astype(F)
    scale[scale == 0] = 1
    return scale, np.rint(-low / scale)


def times(
    x: np.ndarray, constants: Constants, name: str, rows: slice, qparams: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    w = constants[name][rows]
    if w.dtype == np.float16:
        return in_order(x, w.astype(F))
    scale, zero = qparams
    q = (np.clip(np.rint(x.astype(np.float64) / scale) + zero, 0, 255) - zero).astype(np.int64)
    zero_points = constants.get(f"{name}_zero_point", np.zeros(len(constants[name]), np.int32))[rows]
    acc = q @ (w.astype(np.int64) - zero_points[:, None]).T
    return acc.astype(F) * (scale * constants[f"{name}_scale"][rows])


def lstm(x: np.ndarray, h: np.ndarray, before: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    i, f, g, o = np.split(x + h, 4, axis=1)
    c = times_sigmoid(c, f) + tanh_times_sigmoid(g, i)
    return tanh_times_sigmoid(c, o), c


def gru(x: np.ndarray, h: np.ndarray, before: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    (xr, xz, xn), (hr, hz, hn) = np.split(x, 3, axis=1), np.split(h, 3, axis=1)
    n = tanh(xn + times_sigmoid(hn, xr + hr))
    return n + times_sigmoid(before - n, xz + hz), c


CELLS: dict[str, Callable[..., tuple[np.ndarray, np.ndarray]]] = {
    "lstm": lstm,
    "gru": gru,
    "rnn_tanh": lambda x, h, before, c: (tanh(x + h), c),
    "rnn_relu": lambda x, h, before, c: (np.maximum(x + h, F(0)), c),
}


def layer(
    op: str,
    x: np.ndarray,
    states: list[np.ndarray],
    sizes: list[int],
    constants: Constants,
    directions: int,
    per_row: bool = False,
) -> tuple[np.ndarray, ...]:
    """A layer's results: of all time steps, and its states after the last one."""
    rows = len(constants["weight_ih"]) // directions
    hidden, state = rows // GATES[op], states[0].shape[2]
    bias_ih, bias_hh = (constants.get(n, np.zeros(rows * directions, F)) for n in ("bias_ih", "bias_hh"))
    starts, y = np.cumsum([0, *sizes]), np.zeros((len(x), directions * state), F)
    last = [s[:directions].copy() for s in states]
    for d in range(directions):
        own = slice(d * rows, (d + 1) * rows)
        late = np.zeros(rows, F)  # the part of the recurrent bias that gru multiplies
        late[2 * hidden if op == "gru" else rows :] = bias_hh[own][2 * hidden if op == "gru" else rows :]
        from_x = times(x, constants, "weight_ih", own, affine(x, per_row)) + (bias_ih[own] + (bias_hh[own] - late))
        for t in range(len(sizes))[:: -1 if d else 1]:
            n, at = sizes[t], slice(starts[t], starts[t] + sizes[t])
            before = last[0][d, :n].copy()
            from_h = times(before, constants, "weight_hh", own, affine(before, per_row)) + late
            c = last[1][d, :n] if op == "lstm" else before
            after, c = CELLS[op](from_x[at], from_h, before, c)
            if "weight_hr" in constants:
                after = times(after, constants, "weight_hr", slice(d * state, (d + 1) * state), affine(after, per_row))
            last[0][d, :n], y[at, d * state : (d + 1) * state] = after, after
            if op == "lstm":
                last[1][d, :n] = c
    return y, *last
