"""Which class takes the place of which: the tables of prepare_qat, convert, quantize_dynamic and fuse_modules.

Classes of :mod:`qfx.nn` lie above this package, so the rows name them; they are imported when a table is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, TypeAlias

from torch import nn

ClassMapping: TypeAlias = Mapping[type[nn.Module], Any]
"""From the class of a module to the class whose ``from_float`` makes its counterpart."""

_INTRINSIC, _INTRINSIC_QAT, _QAT = "qfx.nn.intrinsic", "qfx.nn.intrinsic.qat", "qfx.nn.qat"
_QUANTIZED, _FUSED, _DYNAMIC = "qfx.nn.quantized", "qfx.nn.intrinsic.quantized", "qfx.nn.quantized.dynamic"

_QAT_ROWS = (
    *(("torch.nn", name, _QAT, name) for name in ("Conv1d", "Conv2d", "Conv3d", "Linear")),
    *(
        (_INTRINSIC, f"{name}{d}d", _INTRINSIC_QAT, f"{name}{d}d")
        for name in ("ConvBn", "ConvBnReLU", "ConvReLU")
        for d in (1, 2, 3)
    ),
    (_INTRINSIC, "LinearReLU", _INTRINSIC_QAT, "LinearReLU"),
)

_SAME_NAME = (
    "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "CELU", "Conv1d", "Conv2d", "Conv3d", "ELU", "GELU", "GroupNorm",
    "Hardswish", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "LayerNorm", "LeakyReLU", "Linear", "Mish",
    "ReLU", "ReLU6", "SELU", "SiLU", "Softplus",
)  # fmt: skip
_FLOAT_LAYERS = (
    "Bilinear", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "GRU", "GRUCell", "LSTM", "LSTMCell",
    "MultiheadAttention", "PReLU", "RNN", "RNNCell",
)  # fmt: skip
"""Layers of float inputs, with weights, that eager mode has no quantized version of."""
_STATIC_ROWS = (
    *(("torch.nn", name, _QUANTIZED, name) for name in _SAME_NAME),
    ("torch.nn.modules.linear", "NonDynamicallyQuantizableLinear", _QUANTIZED, "Linear"),
    *((_QAT, name, _QUANTIZED, name) for name in ("Conv1d", "Conv2d", "Conv3d", "Linear")),
    *((package, f"ConvBn{d}d", _QUANTIZED, f"Conv{d}d") for package in (_INTRINSIC, _INTRINSIC_QAT) for d in (1, 2, 3)),
    *(
        (package, f"{name}{d}d", _FUSED, f"ConvReLU{d}d")
        for package in (_INTRINSIC, _INTRINSIC_QAT)
        for name in ("ConvReLU", "ConvBnReLU")
        for d in (1, 2, 3)
    ),
    *((package, "LinearReLU", _FUSED, "LinearReLU") for package in (_INTRINSIC, _INTRINSIC_QAT)),
    *(("torch.nn", name, f"{_QUANTIZED}.float_layer", "FloatLayer") for name in _FLOAT_LAYERS),
    ("qfx.quantization.stubs", "QuantStub", _QUANTIZED, "Quantize"),
    ("qfx.quantization.stubs", "DeQuantStub", _QUANTIZED, "DeQuantize"),
    (_QUANTIZED, "FloatFunctional", _QUANTIZED, "QFunctional"),
)

_DYNAMIC_ROWS = tuple(
    ("torch.nn", name, _DYNAMIC, name)
    for name in (
        "Linear", "LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell", "MultiheadAttention", "Embedding",
        "EmbeddingBag",
    )
)  # fmt: skip
_ASKED_FOR = ("Embedding", "EmbeddingBag")
"""Dynamic rows that quantize_dynamic takes where it is told to: nothing in them is quantized by call."""


def default_static_mapping() -> dict[type[nn.Module], Any]:
    """What ``convert`` swaps: float, fused and trained layers to their int8 versions. A new dict, to be extended."""
    return _resolved(_STATIC_ROWS)


def default_qat_mapping() -> dict[type[nn.Module], Any]:
    """What ``prepare_qat`` swaps: float layers to layers that round their weights. A new dict, to be extended."""
    return _resolved(_QAT_ROWS)


def default_dynamic_mapping() -> dict[type[nn.Module], Any]:
    """What ``quantize_dynamic`` swaps: linear and recurrent layers, attention, embeddings. A new dict, to extend."""
    return _resolved(_DYNAMIC_ROWS)


def get_default_qconfig_propagation_list() -> set[type[nn.Module]]:
    """The classes of modules that a qconfig does something to: those of all three mappings. A new set."""
    return {*default_static_mapping(), *default_qat_mapping(), *default_dynamic_mapping()}


def swapped_by_default(cls: type[nn.Module]) -> bool:
    """Whether ``quantize_dynamic`` swaps modules of ``cls``, which its mapping has, without being told so."""
    return cls not in [getattr(nn, name) for name in _ASKED_FOR]


def named(module: str, name: str) -> Any:
    """``name`` of the module ``module``, imported now."""
    return getattr(importlib.import_module(module), name)


def _resolved(rows: tuple[tuple[str, str, str, str], ...]) -> dict[type[nn.Module], Any]:
    return {named(module, name): named(to_module, to_name) for module, name, to_module, to_name in rows}
