"""Quantized layers: each takes QTensors, the arguments of its float layer, and the result's scale and zero point.

``functional`` has the stateless ones, ``dynamic`` the layers that quantize their input at each call.
"""

from __future__ import annotations

import importlib
from typing import Any

from torch.nn import MaxPool2d

from qfx.nn.quantized.float_layer import FloatLayer
from qfx.nn.quantized.functional_modules import FloatFunctional, QFunctional
from qfx.nn.quantized.layer import QuantizedLayer, WeightedLayer
from qfx.nn.quantized.rows import (
    CELU,
    ELU,
    GELU,
    SELU,
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    Conv1d,
    Conv2d,
    Conv3d,
    GroupNorm,
    Hardswish,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
    LayerNorm,
    LeakyReLU,
    Linear,
    Mish,
    ReLU,
    ReLU6,
    SiLU,
    Softplus,
    quantized_layer,
)
from qfx.nn.quantized.stubs import DeQuantize, Quantize

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "SELU",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "DeQuantize",
    "FloatFunctional",
    "FloatLayer",
    "GroupNorm",
    "Hardswish",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "Mish",
    "QFunctional",
    "Quantize",
    "QuantizedLayer",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Softplus",
    "WeightedLayer",
    "quantized_layer",
]

_LATER = ("dynamic", "functional")


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
