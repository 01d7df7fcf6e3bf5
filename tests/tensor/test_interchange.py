"""To and from torch's own quantized tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import qfx
from qfx.errors import QuantizationError, UnsupportedError

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("dtype", ["quint8", "qint8", "qint32"])
def test_both_ways(dtype: str) -> None:
    x = torch.randn(3, 4)
    theirs = torch.quantize_per_tensor(x, 0.1, 7, getattr(torch, dtype))
    ours = qfx.from_torch(theirs)
    assert (ours.q_scale(), ours.q_zero_point(), ours.dtype.name) == (0.1, 7, dtype)
    assert torch.equal(ours.int_repr(), theirs.int_repr())
    back = ours.to_torch()
    assert back.equal(theirs)
    assert back.dtype is theirs.dtype


def test_per_channel() -> None:
    scales, zeros = torch.rand(4) + 0.1, torch.arange(4)
    theirs = torch.quantize_per_channel(torch.randn(3, 4), scales, zeros, 1, torch.qint8)
    ours = qfx.from_torch(theirs)
    assert torch.equal(ours.q_per_channel_scales(), scales)
    assert torch.equal(ours.dequantize(), theirs.dequantize())
    assert ours.to_torch().equal(theirs)
    assert qfx.from_torch(ours) is ours


def test_what_is_not_quantized() -> None:
    with pytest.raises(QuantizationError, match="float32"):
        qfx.from_torch(torch.randn(3))


def test_a_torch_without_quantized_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    q: Any = qfx.quantize_per_tensor(torch.randn(3), 0.1, 0, qfx.quint8)
    monkeypatch.delattr(torch, "_make_per_tensor_quantized_tensor")
    with pytest.raises(UnsupportedError, match="quint8"):
        q.to_torch()
