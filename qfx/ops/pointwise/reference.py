"""THE functions of one value: for each its row, in torch, and in numpy float64, from which lookup tables are built.

``@function`` takes the float64 function and the row's cells. Poles give infinities, undefined points NaN, and NaN what
torch makes of it; :mod:`qfx.ops.lookup` says what becomes of them.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from qfx.ir.types import QDType, QParams
from qfx.ops.pointwise import float32, float64, row
from qfx.ops.pointwise.row import function
from qfx.ops.sample import normal, refused
from qfx.ops.table import Spread, always

UNIT = QParams(1.0 / 256.0, 0, QDType.quint8)
"""The parameters of what lies between 0 and 1."""

SIGNED_UNIT = QParams(2.0 / 256.0, 128, QDType.quint8)
"""The parameters of what lies between -1 and 1."""

ROWS = row.ROWS
"""One of each function below."""


def _power(x: float64.Array, *, exponent: float) -> float64.Array:
    return np.sqrt(x) if exponent == 0.5 else np.power(x, float(exponent))  # as torch: NaN for -inf


def _power_spread(x: object, *, exponent: float) -> Spread | None:
    if exponent < 0:
        return "divides"
    return "expands" if exponent > 1 else ("contracts" if 0 < exponent < 1 else None)


@function(lambda x: np.maximum(x, 0.0), keeps_range=True, keeps_dtype=True)
def relu(x: Tensor) -> Tensor:
    """``max(x, 0)``."""
    return torch.relu(x)


@function(
    float64.clamp,
    keeps_range=True,
    keeps_dtype=True,
    does_nothing=lambda *, min, max: min is None and max is None,
    samples=[{"min": 0.0, "max": 6.0}, {"min": -1.0}, {"min": None, "max": 0.5}, {}],
)
def clamp(x: Tensor, *, min: float | None = None, max: float | None = None) -> Tensor:
    """``x`` within ``min..max``; None is open."""
    if min is None and max is None:
        return x
    return torch.clamp(x, min, max)


@function(float64.silu, single=float32.silu, keeps_range=True, has_outliers=True)
def silu(x: Tensor) -> Tensor:
    """``x * sigmoid(x)``."""
    return F.silu(x)


@function(
    float64.gelu, single=float32.gelu, keeps_range=True, has_outliers=True,
    samples=[{}, {"approximate": "none"}, {"approximate": "tanh"}],
    bad=lambda: [refused(RuntimeError, "approximate", normal(3), approximate="cubic")],
)  # fmt: skip
def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """``x * Phi(x)``, exact (``"none"``) or by the tanh approximation (``"tanh"``)."""
    return F.gelu(x, approximate=approximate)


@function(lambda x: x * np.clip(x + 3.0, 0.0, 6.0) / 6.0, keeps_range=True)
def hardswish(x: Tensor) -> Tensor:
    """``x * clamp(x + 3, 0, 6) / 6``."""
    return F.hardswish(x)


@function(
    lambda x, *, negative_slope: np.where(x > 0.0, x, x * negative_slope),
    keeps_range=True,
    samples=[{"negative_slope": 0.01}, {"negative_slope": 0.3}],
)
def leaky_relu(x: Tensor, *, negative_slope: float) -> Tensor:
    """``x``, times ``negative_slope`` where negative."""
    return F.leaky_relu(x, negative_slope)


@function(
    lambda x, *, alpha: np.where(x > 0.0, x, alpha * np.expm1(x)),
    single=float32.elu,
    keeps_range=True,
    samples=[{"alpha": 1.0}, {"alpha": 0.4}],
)
def elu(x: Tensor, *, alpha: float) -> Tensor:
    """``x``, ``alpha * (exp(x) - 1)`` where negative."""
    return F.elu(x, alpha)


@function(
    lambda x, *, alpha: np.where(x > 0.0, x, alpha * np.expm1(x / alpha)),
    single=float32.celu,
    keeps_range=True,
    samples=[{"alpha": 1.0}, {"alpha": 0.4}],
)
def celu(x: Tensor, *, alpha: float) -> Tensor:
    """``max(x, 0) + min(0, alpha * (exp(x / alpha) - 1))``."""
    return F.celu(x, alpha)


@function(lambda x: float64.SELU_SCALE * np.where(x > 0.0, x, float64.SELU_ALPHA * np.expm1(x)), single=float32.selu)
def selu(x: Tensor) -> Tensor:
    """The self-normalizing elu."""
    return torch.selu(x)


@function(
    lambda x, *, beta, threshold: np.where(x * beta > threshold, x, np.logaddexp(0.0, x * beta) / beta),
    single=float32.softplus,
    samples=[{"beta": 1.0, "threshold": 20.0}, {"beta": 2.0, "threshold": 3.0}],
)
def softplus(x: Tensor, *, beta: float, threshold: float) -> Tensor:
    """``log(1 + exp(beta * x)) / beta``; ``x`` where ``beta * x > threshold``."""
    return F.softplus(x, beta, threshold)


@function(lambda x: x * np.tanh(np.logaddexp(0.0, x)), single=float32.mish, keeps_range=True)
def mish(x: Tensor) -> Tensor:
    """``x * tanh(log(1 + exp(x)))``."""
    return F.mish(x)


@function(lambda x: -np.logaddexp(0.0, -x), single=float32.logsigmoid)
def logsigmoid(x: Tensor) -> Tensor:
    """``log(sigmoid(x))``."""
    return F.logsigmoid(x)


@function(lambda x: x / (1.0 + np.abs(x)))
def softsign(x: Tensor) -> Tensor:
    """``x / (1 + |x|)``."""
    return F.softsign(x)


@function(lambda x: x - np.tanh(x), single=float32.tanhshrink)
def tanhshrink(x: Tensor) -> Tensor:
    """``x - tanh(x)``."""
    return F.tanhshrink(x)


@function(
    lambda x, *, lambd: np.where(np.abs(x) <= lambd, 0.0, x),
    keeps_range=True,
    samples=[{"lambd": 0.5}, {"lambd": 1.25}],
)
def hardshrink(x: Tensor, *, lambd: float) -> Tensor:
    """``x``, 0 where ``|x| <= lambd``."""
    return F.hardshrink(x, lambd)


@function(
    lambda x, *, lambd: np.where(np.abs(x) <= lambd, 0.0, x - np.sign(x) * lambd),
    keeps_range=True,
    samples=[{"lambd": 0.5}, {"lambd": 1.25}],
)
def softshrink(x: Tensor, *, lambd: float) -> Tensor:
    """``x`` moved towards 0 by ``lambd``, 0 where ``|x| <= lambd``."""
    return F.softshrink(x, lambd)


@function(
    lambda x, *, threshold, value: np.where(x <= threshold, value, x),
    keeps_range=True,
    keeps_dtype=True,
    samples=[{"threshold": 0.1, "value": 0.0}, {"threshold": -1.0, "value": 2.0}],
)
def threshold(x: Tensor, *, threshold: float, value: float) -> Tensor:
    """``x`` where ``x > threshold``, else ``value``."""
    return F.threshold(x, threshold, value)


@function(np.abs, name="abs", keeps_dtype=True)
def abs_(x: Tensor) -> Tensor:
    """``|x|``."""
    return torch.abs(x)


@function(lambda x: -x, keeps_dtype=True)
def neg(x: Tensor) -> Tensor:
    """``-x``."""
    return torch.neg(x)


@function(lambda x: x * x, spread=always("expands"), keeps_dtype=True)
def square(x: Tensor) -> Tensor:
    """``x * x``."""
    return torch.square(x)


@function(
    _power,
    single=float32.rounded(_power),
    spread=_power_spread,
    does_nothing=lambda *, exponent: exponent == 1.0,
    keeps_dtype=True,
    positive=True,
    samples=[{"exponent": 2.0}, {"exponent": 3}, {"exponent": 0.5}, {"exponent": 0}, {"exponent": -1.0}],
)
def pow_scalar(x: Tensor, *, exponent: float) -> Tensor:
    """``x ** exponent``."""
    return torch.pow(x, exponent)


@function(float64.erf, single=float32.erf)
def erf(x: Tensor) -> Tensor:
    """Error function."""
    return torch.erf(x)


@function(np.sin, single=float32.rounded(np.sin))
def sin(x: Tensor) -> Tensor:
    """Sine."""
    return torch.sin(x)


@function(np.cos, single=float32.rounded(np.cos))
def cos(x: Tensor) -> Tensor:
    """Cosine."""
    return torch.cos(x)


@function(np.exp, single=float32.exp, spread=always("expands"))
def exp(x: Tensor) -> Tensor:
    """Exponential."""
    return torch.exp(x)


@function(np.sqrt, spread=always("contracts"), positive=True)
def sqrt(x: Tensor) -> Tensor:
    """Square root."""
    return torch.sqrt(x)


@function(
    lambda x, *, value: x + value,
    keeps_dtype=True,
    does_nothing=lambda *, value: value == 0.0,
    functional="add_scalar",
    samples=[{"value": 3.0}, {"value": -0.5}],
)
def add_scalar(x: Tensor, *, value: float) -> Tensor:
    """``x + value``."""
    return torch.add(x, value)


@function(lambda x, *, value: value - x, keeps_dtype=True, samples=[{"value": 1.0}])
def rsub_scalar(x: Tensor, *, value: float) -> Tensor:
    """``value - x``."""
    return torch.rsub(x, value)


@function(
    lambda x, *, value: x * value,
    keeps_dtype=True,
    does_nothing=lambda *, value: value == 1.0,
    functional="mul_scalar",
    samples=[{"value": 0.5}, {"value": -3}],
)
def mul_scalar(x: Tensor, *, value: float) -> Tensor:
    """``x * value``."""
    return torch.mul(x, value)


@function(np.floor, keeps_dtype=True)
def floor(x: Tensor) -> Tensor:
    """The integer below."""
    return torch.floor(x)


@function(np.ceil, keeps_dtype=True)
def ceil(x: Tensor) -> Tensor:
    """The integer above."""
    return torch.ceil(x)


@function(np.rint, name="round", keeps_dtype=True)
def round_(x: Tensor) -> Tensor:
    """The nearest integer, ties to even."""
    return torch.round(x)


@function(lambda x: np.nan_to_num(np.sign(x), nan=0.0), keeps_dtype=True)
def sign(x: Tensor) -> Tensor:
    """-1, 0 or 1."""
    return torch.sign(x)


@function(np.log, single=float32.log, qparams="float", spread=always("contracts"), positive=True)
def log(x: Tensor) -> Tensor:
    """Natural logarithm."""
    return torch.log(x)


@function(lambda x: 1.0 / np.sqrt(x), qparams="float", spread=always("divides"), positive=True)
def rsqrt(x: Tensor) -> Tensor:
    """``1 / sqrt(x)``."""
    return torch.rsqrt(x)


@function(lambda x: 1.0 / x, qparams="float", spread=always("divides"), positive=True)
def reciprocal(x: Tensor) -> Tensor:
    """``1 / x``."""
    return torch.reciprocal(x)


@function(
    lambda x, *, value: value / x, qparams="float", spread=always("divides"), positive=True, samples=[{"value": 2.0}]
)
def rdiv_scalar(x: Tensor, *, value: float) -> Tensor:
    """``value / x``."""
    return value / x


@function(lambda x: 1.0 / (1.0 + np.exp(-x)), single=float32.sigmoid, fixed=UNIT)
def sigmoid(x: Tensor) -> Tensor:
    """``1 / (1 + exp(-x))``."""
    return torch.sigmoid(x)


@function(lambda x: np.clip(x + 3.0, 0.0, 6.0) / 6.0, fixed=UNIT)
def hardsigmoid(x: Tensor) -> Tensor:
    """``clamp(x + 3, 0, 6) / 6``."""
    return F.hardsigmoid(x)


@function(np.tanh, single=float32.tanh, fixed=SIGNED_UNIT)
def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return torch.tanh(x)
