"""The functions of :mod:`qfx.ops.pointwise.reference` in numpy float64: what lookup tables are built from.

Each takes a float64 array and the keyword arguments of its twin. Poles give infinities, undefined points NaN, and NaN
what torch makes of it; :mod:`qfx.ops.lookup` says what becomes of them.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]

_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


def relu(x: Array) -> Array:
    return np.maximum(x, 0.0)


def clamp(x: Array, *, min: float | None = None, max: float | None = None) -> Array:
    low = x if min is None else np.maximum(x, min)
    return low if max is None else np.minimum(low, max)


def sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


def tanh(x: Array) -> Array:
    return np.tanh(x)


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def erf(x: Array) -> Array:
    return np.array([math.erf(v) for v in x.ravel()], dtype=np.float64).reshape(x.shape)


def gelu(x: Array, *, approximate: str = "none") -> Array:
    if approximate == "tanh":
        return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1.0 + erf(x / math.sqrt(2.0)))


def hardsigmoid(x: Array) -> Array:
    return np.clip(x + 3.0, 0.0, 6.0) / 6.0


def hardswish(x: Array) -> Array:
    return x * np.clip(x + 3.0, 0.0, 6.0) / 6.0


def leaky_relu(x: Array, *, negative_slope: float) -> Array:
    return np.where(x > 0.0, x, x * negative_slope)


def elu(x: Array, *, alpha: float) -> Array:
    return np.where(x > 0.0, x, alpha * np.expm1(x))


def celu(x: Array, *, alpha: float) -> Array:
    return np.where(x > 0.0, x, alpha * np.expm1(x / alpha))


def selu(x: Array) -> Array:
    return _SELU_SCALE * np.where(x > 0.0, x, _SELU_ALPHA * np.expm1(x))


def softplus(x: Array, *, beta: float, threshold: float) -> Array:
    return np.where(x * beta > threshold, x, np.logaddexp(0.0, x * beta) / beta)


def mish(x: Array) -> Array:
    return x * np.tanh(np.logaddexp(0.0, x))


def logsigmoid(x: Array) -> Array:
    return -np.logaddexp(0.0, -x)


def softsign(x: Array) -> Array:
    return x / (1.0 + np.abs(x))


def tanhshrink(x: Array) -> Array:
    return x - np.tanh(x)


def hardshrink(x: Array, *, lambd: float) -> Array:
    return np.where(np.abs(x) <= lambd, 0.0, x)


def softshrink(x: Array, *, lambd: float) -> Array:
    return np.where(np.abs(x) <= lambd, 0.0, x - np.sign(x) * lambd)


def threshold(x: Array, *, threshold: float, value: float) -> Array:
    return np.where(x <= threshold, value, x)


def exp(x: Array) -> Array:
    return np.exp(x)


def log(x: Array) -> Array:
    return np.log(x)


def sqrt(x: Array) -> Array:
    return np.sqrt(x)


def rsqrt(x: Array) -> Array:
    return 1.0 / np.sqrt(x)


def reciprocal(x: Array) -> Array:
    return 1.0 / x


def abs_(x: Array) -> Array:
    return np.abs(x)


def neg(x: Array) -> Array:
    return -x


def square(x: Array) -> Array:
    return x * x


def pow_scalar(x: Array, *, exponent: float) -> Array:
    return np.power(x, float(exponent))


def sin(x: Array) -> Array:
    return np.sin(x)


def cos(x: Array) -> Array:
    return np.cos(x)


def add_scalar(x: Array, *, value: float) -> Array:
    return x + value


def rsub_scalar(x: Array, *, value: float) -> Array:
    return value - x


def mul_scalar(x: Array, *, value: float) -> Array:
    return x * value


def rdiv_scalar(x: Array, *, value: float) -> Array:
    return value / x


def floor(x: Array) -> Array:
    return np.floor(x)


def ceil(x: Array) -> Array:
    return np.ceil(x)


def round_(x: Array) -> Array:
    return np.rint(x)


def sign(x: Array) -> Array:
    return np.nan_to_num(np.sign(x), nan=0.0)
