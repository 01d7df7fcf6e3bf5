"""The recurrent steps in numpy, straight from their definitions; float32 operations are rounded one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

F = np.float32
GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
P = (1.1223048204556108e-05, 0.0029320293106138706, 0.1290798932313919, 0.9999998211860657)
Q = (2.393595650573843e-07, 0.00023598337429575622, 0.023737873882055283, 0.4624117910861969, 1.0)
LIMIT = F(7.7021604)
Fraction = tuple[np.ndarray, np.ndarray]
Constants = Mapping[str, np.ndarray]


def horner(s: np.ndarray, coefficients: tuple[float, ...]) -> np.ndarray:
    value = np.full_like(s, F(coefficients[0]))
    for c in coefficients[1:]:
        value = value * s + F(c)
    return value


def tanh(x: np.ndarray) -> Fraction:
    x = np.clip(x, -LIMIT, LIMIT)
    return horner(x * x, P) * x, horner(x * x, Q)


def sigmoid(x: np.ndarray) -> Fraction:
    p, q = tanh(x * F(0.5))
    return (q + p) * F(0.5), q  # halving is exact


def value(f: Fraction) -> np.ndarray:
    return f[0] / f[1]


def product(a: Fraction, b: Fraction) -> np.ndarray:
    return (a[0] * b[0]) / (a[1] * b[1])


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
    c = value(sigmoid(f)) * c + product(sigmoid(i), tanh(g))
    return product(sigmoid(o), tanh(c)), c


def gru(x: np.ndarray, h: np.ndarray, before: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    (xr, xz, xn), (hr, hz, hn) = np.split(x, 3, axis=1), np.split(h, 3, axis=1)
    n = value(tanh(xn + value(sigmoid(xr + hr)) * hn))
    return n + value(sigmoid(xz + hz)) * (before - n), c


CELLS: dict[str, Callable[..., tuple[np.ndarray, np.ndarray]]] = {
    "lstm": lstm,
    "gru": gru,
    "rnn_tanh": lambda x, h, before, c: (value(tanh(x + h)), c),
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
