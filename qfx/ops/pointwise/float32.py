"""Functions in numpy float32, operation by operation as the kernels of ``qfx/kernels/core/functions.h`` compute them.

Each takes a float32 array, and keyword arguments. Numbers beside an array are float32 too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from qfx.ops.pointwise import float64

Array: TypeAlias = npt.NDArray[np.float32]

F = np.float32


def _of_hex(*digits: str) -> tuple[float, ...]:
    return tuple(map(float.fromhex, digits))


_EXP = _of_hex("0x1.6a2434p-10", "0x1.1239e4p-7", "0x1.5558f2p-5", "0x1.555492p-3", "0x1.fffffcp-2")
_LOG = _of_hex("0x1.1ed7d2p-2", "0x1.1ebd0ap-2", "0x1.99d208p-2", "0x1.555502p-1")
_ERF = _of_hex(
    "0x1.6c692ep-21", "-0x1.db151ep-17", "0x1.09b2d0p-13", "-0x1.44e8a0p-11", "0x1.a2bcb0p-10",
    "-0x1.0788b8p-14", "-0x1.3acc78p-6", "0x1.a50bc0p-4", "0x1.45f2c4p-1", "0x1.20dd76p+0",
)  # fmt: skip
_GELU = _of_hex(
    "-0x1.7b2834p-26", "0x1.74574ep-21", "-0x1.37faecp-17", "0x1.1ad450p-14", "-0x1.0793e0p-12",
    "-0x1.b688c2p-15", "0x1.cae95cp-8", "-0x1.addbf0p-5", "-0x1.d63bc0p-2", "-0x1.26aed0p+0",
)  # fmt: skip
_EXP2 = _of_hex("0x1.41fba0p-13", "0x1.5f3e80p-10", "0x1.3b2d4ep-7", "0x1.c6aee8p-5", "0x1.ebfbdcp-3", "0x1.62e430p-1")
_LOG2_E, _LN2_HIGH, _LN2_LOW = F(float.fromhex("0x1.715476p+0")), F(355 / 512), F(float.fromhex("-0x1.bd0106p-13"))
_ROUND_AND_BIAS = F(1.5 * 2**23 + 127)
_HALVED_BIAS = _ROUND_AND_BIAS - F(1.0)
_GELU_LINEAR, _GELU_CUBED = F(1.5957691216057308), F(0.07135481627260026)


def rounded(function: Callable[..., Any]) -> Callable[..., Array]:
    """A float64 function, rounded once."""
    return functools.partial(_rounded, function)


def _rounded(function: Callable[..., Any], x: Array, **kwargs: Any) -> Array:
    return np.asarray(function(x.astype(np.float64), **kwargs)).astype(F)


def exp(x: Array) -> Array:
    biased, rest = _exponent(np.minimum(np.maximum(x, F(-88.0)), F(89.0)))
    power, factor = _halved(biased)
    return ((rest + F(1.0)) * power) * factor


def exp_below(x: Array) -> Array:
    """For ``x <= 0``."""
    biased, rest = _exponent(np.maximum(x, F(-88.0)))
    return (rest + F(1.0)) * _power(biased)


def expm1(x: Array) -> Array:
    biased, rest = _exponent(np.minimum(np.maximum(x, F(-88.0)), F(89.0)))
    power, factor = _halved(biased)
    return (power * rest + (power - F(1.0))) * factor


def expm1_below(x: Array) -> Array:
    """For ``x <= 0``."""
    biased, rest = _exponent(np.maximum(x, F(-88.0)))
    power = _power(biased)
    return power * rest + (power - F(1.0))


def log(x: Array) -> Array:
    size = np.abs(x)
    subnormal = size < F(2.0**-126)
    bits = np.where(subnormal, size * F(2.0**23), size).view(np.int32)
    exponent = (bits - np.int32(0x3F3504F3)) >> np.int32(23)
    n = exponent.astype(F) - np.where(subnormal, F(23.0), F(0.0))
    f = (bits - (exponent << np.int32(23))).view(F) - F(1.0)
    y = n * _LN2_HIGH + (_twice_atanh(f / (f + F(2.0))) + n * _LN2_LOW)
    edge = np.where(x == 0, F(-np.inf), np.where(x < 0, F(np.nan), x))
    return np.where((x > 0) & (x < np.inf), y, edge)


def log1p(x: Array) -> Array:
    """For ``x`` in 0 to 1."""
    return _twice_atanh(x / (x + F(2.0)))


def tanh(x: Array) -> Array:
    e = expm1_below(np.abs(x) * F(-2.0))
    return np.copysign(e / (e + F(2.0)), x)


def erf(x: Array) -> Array:
    far = np.minimum(np.abs(x), F(16.0))
    return np.copysign(expm1_below(-(far * _polynomial(far, far * far, _ERF))), x)


def gelu(x: Array, *, approximate: str = "none") -> Array:
    if approximate == "tanh":
        return _times_sigmoid(x, x * ((x * x) * _GELU_CUBED + _GELU_LINEAR))
    size = np.abs(np.minimum(x, F(32.0)))
    t = np.minimum(size, F(11.484))
    y = t * _polynomial(t, t * t, _GELU)
    biased = y + _HALVED_BIAS
    rest = y - (biased - _HALVED_BIAS)
    share = (rest * _polynomial(rest, rest * rest, _EXP2) + F(1.0)) * _power(biased)
    return np.where(x < 0, F(0.0), x) - size * share


def sigmoid(x: Array) -> Array:
    return _times_sigmoid(np.ones_like(x), x)


def silu(x: Array) -> Array:
    return _times_sigmoid(x, x)


def elu(x: Array, *, alpha: float) -> Array:
    return np.where(x > 0, x, expm1_below(x) * F(alpha))


def celu(x: Array, *, alpha: float) -> Array:
    return np.where(x > 0, x, expm1(x / F(alpha)) * F(alpha))


def selu(x: Array) -> Array:
    return elu(x, alpha=float64.SELU_ALPHA) * F(float64.SELU_SCALE)


def softplus(x: Array, *, beta: float, threshold: float) -> Array:
    scaled = x * F(beta)
    return np.where(scaled > F(threshold), x, _softplus(scaled) / F(beta))


def logsigmoid(x: Array) -> Array:
    return -_softplus(-x)


def mish(x: Array) -> Array:
    e = exp_below(-np.abs(x))
    p = np.where(x < 0, e * (e + F(2.0)), (e + e) + F(1.0))
    return x * (p / (p + np.where(x < 0, F(2.0), (e + e) * e)))


def tanhshrink(x: Array) -> Array:
    return x - tanh(x)


def _polynomial(x: Array, squared: Array, coefficients: tuple[float, ...]) -> Array:
    """By pairs of coefficients, highest first."""
    first, *rest = map(F, coefficients)
    y = np.full_like(x, first) if len(rest) % 2 == 0 else x * first + rest.pop(0)
    for high, low in zip(rest[::2], rest[1::2], strict=True):
        y = y * squared + (x * high + low)
    return y


def _exponent(x: Array) -> tuple[Array, Array]:
    """``e**x = 2**n * (1 + rest)``: n plus what rounds it, and rest."""
    biased = x * _LOG2_E + _ROUND_AND_BIAS
    n = biased - _ROUND_AND_BIAS
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    squared = r * r
    return biased, r + squared * _polynomial(r, squared, _EXP)


def _power(biased: Array) -> Array:
    return (biased.view(np.int32) << np.int32(23)).view(F)


def _halved(biased: Array) -> tuple[Array, Array]:
    most = F(_ROUND_AND_BIAS + F(127.0))
    return _power(np.minimum(biased, most)), np.where(biased > most, F(2.0), F(1.0))


def _twice_atanh(z: Array) -> Array:
    s = z * z
    return (z * s) * _polynomial(s, s * s, _LOG) + (z + z)


def _times_sigmoid(x: Array, t: Array) -> Array:
    e = exp_below(-np.abs(t))
    return np.where(t < 0, x * e, x) / (e + F(1.0))


def _softplus(x: Array) -> Array:
    return np.where(x > 0, x, F(0.0)) + log1p(exp_below(-np.abs(x)))
