"""Float references of the functions of one value. Each has its float64 twin in :mod:`qfx.ops.pointwise.float64`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def relu(x: Tensor) -> Tensor:
    """``max(x, 0)``."""
    return torch.relu(x)


def clamp(x: Tensor, *, min: float | None = None, max: float | None = None) -> Tensor:
    """``x`` within ``min..max``; None is open."""
    if min is None and max is None:
        return x
    return torch.clamp(x, min, max)


def sigmoid(x: Tensor) -> Tensor:
    """``1 / (1 + exp(-x))``."""
    return torch.sigmoid(x)


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return torch.tanh(x)


def silu(x: Tensor) -> Tensor:
    """``x * sigmoid(x)``."""
    return F.silu(x)


def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """``x * Phi(x)``, exact (``"none"``) or by the tanh approximation (``"tanh"``)."""
    return F.gelu(x, approximate=approximate)


def hardsigmoid(x: Tensor) -> Tensor:
    """``clamp(x + 3, 0, 6) / 6``."""
    return F.hardsigmoid(x)


def hardswish(x: Tensor) -> Tensor:
    """``x * clamp(x + 3, 0, 6) / 6``."""
    return F.hardswish(x)


def leaky_relu(x: Tensor, *, negative_slope: float) -> Tensor:
    """``x``, times ``negative_slope`` where negative."""
    return F.leaky_relu(x, negative_slope)


def elu(x: Tensor, *, alpha: float) -> Tensor:
    """``x``, ``alpha * (exp(x) - 1)`` where negative."""
    return F.elu(x, alpha)


def celu(x: Tensor, *, alpha: float) -> Tensor:
    """``max(x, 0) + min(0, alpha * (exp(x / alpha) - 1))``."""
    return F.celu(x, alpha)


def selu(x: Tensor) -> Tensor:
    """The self-normalizing elu."""
    return torch.selu(x)


def softplus(x: Tensor, *, beta: float, threshold: float) -> Tensor:
    """``log(1 + exp(beta * x)) / beta``; ``x`` where ``beta * x > threshold``."""
    return F.softplus(x, beta, threshold)


def mish(x: Tensor) -> Tensor:
    """``x * tanh(log(1 + exp(x)))``."""
    return F.mish(x)


def logsigmoid(x: Tensor) -> Tensor:
    """``log(sigmoid(x))``."""
    return F.logsigmoid(x)


def softsign(x: Tensor) -> Tensor:
    """``x / (1 + |x|)``."""
    return F.softsign(x)


def tanhshrink(x: Tensor) -> Tensor:
    """``x - tanh(x)``."""
    return F.tanhshrink(x)


def hardshrink(x: Tensor, *, lambd: float) -> Tensor:
    """``x``, 0 where ``|x| <= lambd``."""
    return F.hardshrink(x, lambd)


def softshrink(x: Tensor, *, lambd: float) -> Tensor:
    """``x`` moved towards 0 by ``lambd``, 0 where ``|x| <= lambd``."""
    return F.softshrink(x, lambd)


def threshold(x: Tensor, *, threshold: float, value: float) -> Tensor:
    """``x`` where ``x > threshold``, else ``value``."""
    return F.threshold(x, threshold, value)


def exp(x: Tensor) -> Tensor:
    """Exponential."""
    return torch.exp(x)


def log(x: Tensor) -> Tensor:
    """Natural logarithm."""
    return torch.log(x)


def sqrt(x: Tensor) -> Tensor:
    """Square root."""
    return torch.sqrt(x)


def rsqrt(x: Tensor) -> Tensor:
    """``1 / sqrt(x)``."""
    return torch.rsqrt(x)


def reciprocal(x: Tensor) -> Tensor:
    """``1 / x``."""
    return torch.reciprocal(x)


def abs_(x: Tensor) -> Tensor:
    """``|x|``."""
    return torch.abs(x)


def neg(x: Tensor) -> Tensor:
    """``-x``."""
    return torch.neg(x)


def square(x: Tensor) -> Tensor:
    """``x * x``."""
    return torch.square(x)


def pow_scalar(x: Tensor, *, exponent: float) -> Tensor:
    """``x ** exponent``."""
    return torch.pow(x, exponent)


def erf(x: Tensor) -> Tensor:
    """Error function."""
    return torch.erf(x)


def sin(x: Tensor) -> Tensor:
    """Sine."""
    return torch.sin(x)


def cos(x: Tensor) -> Tensor:
    """Cosine."""
    return torch.cos(x)


def add_scalar(x: Tensor, *, value: float) -> Tensor:
    """``x + value``."""
    return torch.add(x, value)


def rsub_scalar(x: Tensor, *, value: float) -> Tensor:
    """``value - x``."""
    return torch.rsub(x, value)


def mul_scalar(x: Tensor, *, value: float) -> Tensor:
    """``x * value``."""
    return torch.mul(x, value)


def rdiv_scalar(x: Tensor, *, value: float) -> Tensor:
    """``value / x``."""
    return value / x


def floor(x: Tensor) -> Tensor:
    """The integer below."""
    return torch.floor(x)


def ceil(x: Tensor) -> Tensor:
    """The integer above."""
    return torch.ceil(x)


def round_(x: Tensor) -> Tensor:
    """The nearest integer, ties to even."""
    return torch.round(x)


def sign(x: Tensor) -> Tensor:
    """-1, 0 or 1."""
    return torch.sign(x)
