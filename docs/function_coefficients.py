"""Prints the coefficients of ``qfx/kernels/core/functions.h``: ``python -m docs.function_coefficients``.

Each has the least maximal error over its range, by Lawson's reweighted least squares in float64.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

HALF_LN2 = math.log(2.0) / 2 * 1.0001
ERF_LIMIT = 4.0
"""Where erf is 1 in float32."""
GELU_LIMIT = 6.0
"""Where GELU of what is below is under 1e-8."""


def chebyshev(low: float, high: float, count: int = 1500) -> Array:
    return (low + high) / 2 - (high - low) / 2 * np.cos(np.linspace(0.0, np.pi, count))


def polynomial(columns: list[Array], rest: Array, scale: Array) -> tuple[float, Array]:
    """Coefficients ``c`` of least ``max |sum c_k columns_k - rest| / scale``, and that maximum."""
    matrix, weight, best = np.stack(columns, 1) / scale[:, None], np.ones(len(rest)), (math.inf, np.zeros(len(columns)))
    for _ in range(100):
        root = np.sqrt(weight)
        c = np.linalg.lstsq(matrix * root[:, None], rest / scale * root, rcond=None)[0]
        error = np.abs(matrix @ c - rest / scale)
        best = min(best, (float(error.max()), c), key=lambda found: found[0])
        weight = weight * (error / error.max() + 1e-3)
        weight /= weight.sum()
    return best


def shown(coefficients: Array) -> str:
    """Highest first."""
    return ", ".join(float(np.float32(c)).hex() for c in coefficients[::-1])


def fitted() -> dict[str, tuple[float, Array]]:
    """For each the greatest error before rounding to float32, and the coefficients."""
    r = chebyshev(-HALF_LN2, HALF_LN2)
    z = chebyshev(1e-4, 1 / 3)
    log = np.log1p(z) - np.log1p(-z)
    t = chebyshev(1e-4, ERF_LIMIT, 3000)
    rest = np.array([math.erfc(v) for v in t])
    tolerance = np.minimum((1 - rest) / rest, 64.0)  # relative errors of erf, and of 1 - erf where that is small
    g = chebyshev(1e-4, GELU_LIMIT, 3000)
    part = np.array([math.erfc(v / math.sqrt(2.0)) for v in g])
    half = chebyshev(-0.5001, 0.5001)
    return {
        "kExp": polynomial([r ** (2 + k) for k in range(5)], np.exp(r) - 1.0 - r, np.exp(r)),
        "kLog": polynomial([z ** (3 + 2 * k) for k in range(4)], log - 2.0 * z, log),
        "kErf": polynomial([t ** (1 + k) for k in range(10)], -np.log(rest), tolerance),
        "kGelu": polynomial([g ** (1 + k) for k in range(10)], np.log2(part), np.minimum((2 - part) / part, 128.0)),
        "kExp2": polynomial([half ** (1 + k) for k in range(6)], np.exp2(half) - 1.0, np.exp2(half)),
    }


def main() -> None:
    for name, (error, coefficients) in fitted().items():
        print(f"{name}  2^{math.log2(error):.1f}  {shown(coefficients)}")


if __name__ == "__main__":
    main()
