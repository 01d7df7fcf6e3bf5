"""Functions in numpy float64 that take more than an expression to write.

Each takes a float64 array, and keyword arguments.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]

SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def clamp(x: Array, *, min: float | None = None, max: float | None = None) -> Array:
    low = x if min is None else np.maximum(x, min)
    return low if max is None else np.minimum(low, max)


def sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def erf(x: Array) -> Array:
    return np.array([math.erf(v) for v in x.ravel()], dtype=np.float64).reshape(x.shape)


def gelu(x: Array, *, approximate: str = "none") -> Array:
    if approximate == "tanh":
        return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1.0 + erf(x / math.sqrt(2.0)))
