"""Fused quantized layers: the quantized layer with a clamp behind its sums."""

from __future__ import annotations

from typing import Any

from torch import nn

from qfx.nn import intrinsic
from qfx.nn.intrinsic import qat
from qfx.nn.quantized.rows import LINEAR, RELU, weighted


def _conv(dims: int) -> type[Any]:
    name, of = f"ConvReLU{dims}d", getattr(nn, f"Conv{dims}d")
    sources = tuple(getattr(package, fused) for package in (intrinsic, qat) for fused in (name, f"ConvBnReLU{dims}d"))
    return weighted(name, of, sources, activation=RELU, module=__name__)


ConvReLU1d, ConvReLU2d, ConvReLU3d = map(_conv, (1, 2, 3))
LinearReLU = weighted(
    "LinearReLU",
    nn.Linear,
    (intrinsic.LinearReLU, qat.LinearReLU),
    activation=RELU,
    order=LINEAR,
    module=__name__,
)
