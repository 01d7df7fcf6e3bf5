"""Which class takes the place of which: the rows behind prepare_qat, convert, quantize_dynamic and fuse_modules."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from qfx.nn import intrinsic, qat, quantized
from qfx.nn.intrinsic import qat as intrinsic_qat
from qfx.nn.intrinsic import quantized as fused
from qfx.nn.quantized import dynamic
from qfx.nn.quantized.float_layer import FloatLayer
from qfx.quantization.mappings import Layers
from qfx.quantization.stubs import DeQuantStub, QuantStub

_DIMS = (1, 2, 3)

_SAME_NAME = (
    "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "CELU", "Conv1d", "Conv2d", "Conv3d", "ELU", "GELU", "GroupNorm",
    "Hardswish", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "LayerNorm", "LeakyReLU", "Linear", "Mish",
    "ReLU", "ReLU6", "SELU", "SiLU", "Softplus",
)  # fmt: skip
_FLOAT_LAYERS = (
    nn.Bilinear, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.GRU, nn.GRUCell, nn.LSTM, nn.LSTMCell,
    nn.MultiheadAttention, nn.PReLU, nn.RNN, nn.RNNCell,
)  # fmt: skip
"""Layers of float inputs, with weights, that eager mode has no quantized version of."""
_DYNAMIC = (
    "Linear", "LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell", "MultiheadAttention", "Embedding",
    "EmbeddingBag",
)  # fmt: skip
_TRAINED = ("Conv1d", "Conv2d", "Conv3d", "Linear")
_FUSED_AND_TRAINED = (
    *(f"{name}{d}d" for name in ("ConvBn", "ConvBnReLU", "ConvReLU") for d in _DIMS),
    "LinearReLU",
)


def _same(names: tuple[str, ...], source: Any, target: Any) -> dict[type[nn.Module], Any]:
    return {getattr(source, name): getattr(target, name) for name in names}


def _static() -> dict[type[nn.Module], Any]:
    rows = {
        **_same(_SAME_NAME, nn, quantized),
        NonDynamicallyQuantizableLinear: quantized.Linear,
        **_same(_TRAINED, qat, quantized),
    }
    for package in (intrinsic, intrinsic_qat):
        rows.update({getattr(package, f"ConvBn{d}d"): getattr(quantized, f"Conv{d}d") for d in _DIMS})
    for package in (intrinsic, intrinsic_qat):
        for name in ("ConvReLU", "ConvBnReLU"):
            rows.update({getattr(package, f"{name}{d}d"): getattr(fused, f"ConvReLU{d}d") for d in _DIMS})
    rows.update({package.LinearReLU: fused.LinearReLU for package in (intrinsic, intrinsic_qat)})
    rows.update(dict.fromkeys(_FLOAT_LAYERS, FloatLayer))
    rows.update({QuantStub: quantized.Quantize, DeQuantStub: quantized.DeQuantize})
    return {**rows, quantized.FloatFunctional: quantized.QFunctional}


LAYERS = Layers(
    static=_static(),
    trained={**_same(_TRAINED, nn, qat), **_same(_FUSED_AND_TRAINED, intrinsic, intrinsic_qat)},
    dynamic=_same(_DYNAMIC, nn, dynamic),
    containers={name: getattr(intrinsic, name) for name in intrinsic.__all__},
    fused=intrinsic.Fused,
    quantize=quantized.Quantize,
)
