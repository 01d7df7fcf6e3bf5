"""Quantized layers with random weights, and the integers that they are to give."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import qfx
import qfx.nn.intrinsic.quantized as nniq
import qfx.nn.quantized as nnq
from qfx.ir.types import QArray, QDType, QParams
from qfx.nn.quantized.layer import WeightedLayer
from qfx.ops.table import TABLE
from qfx.tensor import QTensor, quantize_per_channel, quantize_per_tensor

X = QParams(0.05, 101, QDType.quint8)


def codes(*shape: int, qparams: QParams = X) -> QTensor:
    values = torch.randint(qparams.qmin, qparams.qmax + 1, shape).to(qparams.dtype.storage)
    return QTensor(values, qparams)


def random_weight(shape: tuple[int, ...], per_channel: bool) -> QTensor:
    w = torch.randn(shape)
    if per_channel:
        scales = torch.rand(shape[0]) * 0.01 + 0.005
        return quantize_per_channel(w, scales, torch.zeros(shape[0], dtype=torch.int64), 0, qfx.qint8)
    return quantize_per_tensor(w, 0.02, 3, qfx.qint8)


def reference(op: str, module: WeightedLayer, x: QTensor, **attributes: Any) -> Tensor:
    """The integers of ``op.integer`` for the module's weight and its bias in units of the products' scale."""
    weight, bias = module.weight().array, module.bias()
    units = torch.tensor(x.q_scale(), dtype=torch.float32).double() * weight.scale.double()
    whole = None
    if bias is not None:
        whole = QArray(torch.round(bias.double() / units).to(torch.int32), units.float(), torch.tensor(0), 0)
    integer = TABLE[op].integer
    assert integer is not None
    return integer(x.array, weight, whole, out=module.qparams, activation=module.activation, **attributes)


def set_random(module: WeightedLayer, per_channel: bool) -> None:
    shape = tuple(module.weight().shape)
    bias = None if module.bias() is None else torch.randn(shape[0])
    module.set_weight_bias(random_weight(shape, per_channel), bias)


def convolution(dims: int, *, stride: Any = 1, padding: Any = 0, dilation: int = 1, groups: int = 1) -> dict[str, Any]:
    """Attributes of the op ``conv`` for the arguments of a layer of ``dims`` dims, each one int or one a dim."""
    strides, sides, steps = (v if isinstance(v, tuple) else (v,) * dims for v in (stride, padding, dilation))
    return {"stride": strides, "padding": tuple((s, s) for s in sides), "dilation": steps, "groups": groups}


def named(name: str) -> type[Any]:
    return getattr(nnq if hasattr(nnq, name) else nniq, name)


def size(name: str) -> tuple[int, ...]:
    return {"1d": (17,), "2d": (9, 7), "3d": (5, 6, 4)}[name[-2:]]


WEIGHTED = ["Conv1d", "Conv2d", "Conv3d", "Linear", "ConvReLU1d", "ConvReLU2d", "ConvReLU3d", "LinearReLU"]


WEIGHTED_ROWS = ["S122", "S123", "S124", "S125", "S070", "S071", "S072", "S069"]


WEIGHTED_PARAMS = [
    pytest.param(name, marks=pytest.mark.inventory(row)) for name, row in zip(WEIGHTED, WEIGHTED_ROWS, strict=True)
]


def weighted(name: str, per_channel: bool = True) -> tuple[Any, QTensor]:
    module = named(name)(8, 6, scale=0.2, zero_point=60) if "Linear" in name else named(name)(
        8, 6, 3, padding=1, scale=0.2, zero_point=60
    )  # fmt: skip
    set_random(module, per_channel)
    return module, codes(2, 8) if "Linear" in name else codes(2, 8, *size(name))
