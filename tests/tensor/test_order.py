"""Comparisons, extremes, sorting and equality: those of the dequantized values."""

from __future__ import annotations

import operator
from typing import Any

import pytest
import torch
from torch import Tensor

import qfx
from qfx.errors import UnsupportedError
from qfx.ir.types import QParams
from qfx.tensor import QTensor

COMPARISONS = {
    "ne": "S010", "eq": "S011", "ge": "S012", "le": "S013", "gt": "S014", "lt": "S015",
}  # fmt: skip
MARKED = [pytest.param(name, marks=pytest.mark.inventory(row), id=name) for name, row in COMPARISONS.items()]


def make(*shape: int, scale: float = 0.5, zero_point: int = 10, dtype: Any = qfx.quint8) -> QTensor:
    return qfx.quantize_per_tensor(torch.randn(shape), scale, zero_point, dtype)


OTHERS = {
    "other qparams": lambda: make(3, 4, scale=0.25, zero_point=3, dtype=qfx.qint8),
    "qint32": lambda: make(3, 4, scale=0.125, zero_point=-5, dtype=qfx.qint32),
    "broadcast": lambda: make(4),
    "per channel": lambda: qfx.quantize_per_channel(torch.randn(3, 4), [0.5, 0.25, 1.0], [0, 1, 2], 0, qfx.qint8),
    "float": lambda: torch.randint(-2, 3, (3, 4)) * 0.5,
    "float broadcast": lambda: torch.tensor([[0.5], [0.0], [-0.5]]),
    "scalar": lambda: 0.5,
    "int": lambda: 0,
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("name", MARKED)
def test_comparisons(name: str, other: str) -> None:
    x, y = make(3, 4), OTHERS[other]()
    value = y.dequantize() if isinstance(y, QTensor) else y
    want = getattr(x.dequantize(), name)(value)
    got = [getattr(x, name)(y), getattr(operator, name)(x, y), getattr(torch, name)(x, y)]
    if isinstance(y, Tensor):
        mirrored = getattr(operator, {"ge": "le", "le": "ge", "gt": "lt", "lt": "gt"}.get(name, name))
        got.append(mirrored(y, x))
    for result in got:
        assert type(result) is Tensor
        assert result.dtype is torch.bool
        assert torch.equal(result, want)


@pytest.mark.inventory("S019")
def test_equal_compares_everything() -> None:
    x = torch.randn(3, 4)
    q = qfx.quantize_per_tensor(x, 0.5, 10, qfx.quint8)
    assert q.equal(q.clone())
    assert torch.equal(q, q.clone())
    changed = q.clone()
    changed[0, 0] = 3.0 if changed[0, 0].item() != 3.0 else 2.0
    codes = q.int_repr()
    others = [
        changed,
        QTensor(codes, QParams(0.25, 10, qfx.quint8)),
        QTensor(codes, QParams(0.5, 11, qfx.quint8)),
        QTensor(codes.view(torch.int8), QParams(0.5, 10, qfx.qint8)),
        QTensor(codes, QParams((0.5,) * 3, (10,) * 3, qfx.quint8, 0)),
        q.reshape(4, 3),
        q.dequantize(),
        q.int_repr(),
    ]
    assert not any(torch.equal(q, other) or torch.equal(other, q) for other in others)
    codes = torch.randint(-9, 9, (3, 3), dtype=torch.int8)

    def channels(
        scales: tuple[float, ...] = (0.5, 0.25, 1.0), zeros: tuple[int, ...] = (0, 1, 2), axis: int = 0
    ) -> Any:
        return QTensor(codes, QParams(scales, zeros, qfx.qint8, axis))

    assert channels().equal(channels())
    for other in (channels(scales=(0.5, 0.25, 2.0)), channels(zeros=(0, 1, 3)), channels(axis=1)):
        assert not channels().equal(other)
        assert not torch.equal(other, channels())


@pytest.mark.parametrize("dtype", [qfx.quint8, qfx.qint8, qfx.qint32], ids=lambda d: d.name)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("max", marks=pytest.mark.inventory("S021")),
        pytest.param("min", marks=pytest.mark.inventory("S022")),
    ],
)
def test_extremes(name: str, dtype: Any) -> None:
    q = make(3, 4, 5, dtype=dtype)
    for value in (getattr(q, name)(), getattr(torch, name)(q)):
        assert value.qparams == q.qparams
        assert value.shape == ()
        assert value.dequantize() == getattr(q.dequantize(), name)()
    for call in (lambda x: getattr(x, name)(1), lambda x: getattr(torch, name)(x, dim=-1, keepdim=True)):
        got, want = call(q), call(q.dequantize())
        assert got.values.qparams == q.qparams
        assert torch.equal(got.values.dequantize(), want.values)
        assert torch.equal(got.indices, want.indices)
    with pytest.raises(UnsupportedError, match="two tensors"):
        getattr(torch, name)(q, q)


ORDERS = {
    "sort": lambda x: x.sort(),
    "sort dim": lambda x: torch.sort(x, 0),
    "sort descending": lambda x: x.sort(dim=1, descending=True),
    "sort stable": lambda x: torch.sort(x, dim=1, stable=True),
}
TOPS = {
    "topk": lambda x: x.topk(3),
    "topk smallest": lambda x: torch.topk(x, 2, dim=0, largest=False),
    "topk unsorted": lambda x: x.topk(3, 1, sorted=False),
    "kthvalue": lambda x: x.kthvalue(2),
}


@pytest.mark.parametrize("dtype", [qfx.quint8, qfx.qint8, qfx.qint32], ids=lambda d: d.name)
@pytest.mark.parametrize(
    "call",
    [pytest.param(c, marks=pytest.mark.inventory("S030"), id=n) for n, c in ORDERS.items()]
    + [pytest.param(c, marks=pytest.mark.inventory("S031"), id=n) for n, c in TOPS.items()],
)
def test_order(call: Any, dtype: Any) -> None:
    q = make(4, 30, dtype=dtype)  # few distinct values: ties must resolve as they do for floats
    got, want = call(q), call(q.dequantize())
    assert got.values.qparams == q.qparams
    assert torch.equal(got.values.dequantize(), want.values)
    assert got.indices.dtype is torch.int64
    assert torch.equal(got.indices, want.indices)


def test_other_functions_of_values() -> None:
    q = make(3, 4)
    value = q.dequantize()
    assert torch.equal(q.argmax(1), value.argmax(1))
    assert torch.equal(torch.argsort(q, dim=0), torch.argsort(value, dim=0))
    assert torch.equal(q.nonzero(), value.nonzero())
    assert q[0, 0].item() == float(q[0, 0]) == value[0, 0].item()
    assert bool(q[0, 0]) == bool(value[0, 0])
    assert q.tolist() == value.tolist()
    assert torch.allclose(q, value)
    assert torch.equal(q.msort(), q.sort(0).values)
    assert not torch.isnan(q).any()
