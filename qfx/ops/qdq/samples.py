"""Samples of the ops that quantize."""

from __future__ import annotations

from typing import Any

import torch

from qfx.errors import QuantizationError
from qfx.ops.sample import Sample, Samples, call, normal, refused


def quantize() -> list[Sample]:
    scale, zero_point = torch.tensor(0.02), torch.tensor(7)
    scales, zero_points = torch.tensor([0.01, 0.02, 0.03]), torch.tensor([0, 1, -1])
    return [
        call(normal(2, 3, 4), scale, zero_point, dtype="quint8"),
        call(normal(2, 3, 4), scale, zero_point, dtype="qint8"),
        call(normal(2, 3, 4), scale, zero_point, dtype="quint8", quant_min=0, quant_max=127),
        call(normal(3, 4), scales, zero_points, dtype="qint8", axis=0),
        call(normal(2, 3, 4), scales, zero_points, dtype="qint32", axis=1),
    ]


def quantize_bad() -> list[Sample]:
    return [
        refused(QuantizationError, "not a quantized dtype", normal(2), torch.tensor(1.0), torch.tensor(0), dtype="q4"),
        refused(
            RuntimeError, "size of tensor", normal(2, 4), torch.ones(3), torch.zeros(3), dtype="qint8", axis=0
        ),
    ]  # fmt: skip


def dequantize() -> list[Sample]:
    q = torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4)
    return [
        call(q, torch.tensor(0.02), torch.tensor(7)),
        call(q.to(torch.int8), torch.tensor([0.01, 0.02, 0.03]), torch.tensor([0, 1, -1]), axis=1),
    ]


def dequantize_bad() -> list[Sample]:
    q = torch.zeros(2, 4, dtype=torch.uint8)
    return [refused(RuntimeError, "size of tensor", q, torch.ones(3), torch.zeros(3, dtype=torch.int64), axis=0)]


def requantize_dynamic() -> list[Sample]:
    inputs = (normal(4, 6) + 1.0, normal(2, 3, 5).abs(), -normal(7).abs(), normal(0, 3), torch.zeros(2, 2))
    settings: tuple[dict[str, Any], ...] = ({}, {"per_row": False}, {"per_row": True}, {"group_size": 4})
    return [call(x, reduce_range=half, **given) for x in inputs for half in (False, True) for given in settings]


def requantize_dynamic_bad() -> list[Sample]:
    return [refused(TypeError, "reduce_range", normal(3))]


def decode_weight() -> list[Sample]:
    codes, bytes_ = torch.arange(-64, 64).reshape(4, 32).to(torch.int8), torch.arange(48, dtype=torch.uint8) * 5
    scale = normal(4, 2).abs() + 0.1
    return [
        call(normal(3, 5).half()),
        call(normal(3, 5).bfloat16()),
        call(codes, scale),
        call(codes, scale.half(), codes[:, :2]),
        call(codes, scale[:, :1], codes[:, :1]),
        call(bytes_, scale.half(), shape=(4, 24)),
        call(bytes_[:28], scale, bytes_[:4], shape=(4, 14)),
        call(bytes_[:8], scale[:3, :1], bytes_[:2], shape=(3, 5)),
    ]


def decode_weight_bad() -> list[Sample]:
    codes, bytes_ = torch.zeros(4, 32, dtype=torch.int8), torch.zeros(9, dtype=torch.uint8)
    return [
        refused(RuntimeError, "invalid for input of size", codes, torch.ones(4, 3)),
        refused(RuntimeError, "invalid for input of size", bytes_, torch.ones(2, 2), shape=(2, 10)),
    ]


GOOD: dict[str, Samples] = {
    "quantize": quantize,
    "dequantize": dequantize,
    "requantize_dynamic": requantize_dynamic,
    "decode_weight": decode_weight,
}
BAD: dict[str, Samples] = {
    "quantize": quantize_bad,
    "dequantize": dequantize_bad,
    "requantize_dynamic": requantize_dynamic_bad,
    "decode_weight": decode_weight_bad,
}
