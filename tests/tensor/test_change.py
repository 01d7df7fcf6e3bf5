"""Changes in place, copies, and tensors made like another."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qfx
from qfx.errors import QuantizationError, UnsupportedError
from qfx.tensor import QTensor


def make(*shape: int, scale: float = 0.5, zero_point: int = 10, dtype: Any = qfx.quint8) -> QTensor:
    return qfx.quantize_per_tensor(torch.randn(shape), scale, zero_point, dtype)


def per_channel(*shape: int) -> QTensor:
    scales, zeros = torch.rand(shape[0]) + 0.1, list(range(shape[0]))
    return qfx.quantize_per_channel(torch.randn(shape), scales, zeros, 0, qfx.qint8)


@pytest.mark.inventory("S016")
def test_copy_from_floats_quantizes() -> None:
    x = torch.randn(3, 4)
    q, c = make(3, 4), per_channel(3, 4)
    assert q.copy_(x) is q
    assert torch.equal(q, qfx.quantize_per_tensor(x, 0.5, 10, qfx.quint8))
    scales, zeros = c.q_per_channel_scales(), c.q_per_channel_zero_points()
    assert torch.equal(c.copy_(x), qfx.quantize_per_channel(x, scales, zeros, 0, qfx.qint8))
    assert torch.equal(q.copy_(torch.tensor(1.5)).dequantize(), torch.full((3, 4), 1.5))


@pytest.mark.inventory("S016")
@pytest.mark.filterwarnings("ignore")
def test_copy_from_a_quantized_tensor_takes_over_its_parameters() -> None:
    q, source = make(3, 4), make(3, 4, scale=0.25, zero_point=3)
    theirs = q.to_torch().copy_(source.to_torch())
    assert q.copy_(source) is q
    assert torch.equal(q, source)
    assert torch.equal(q, qfx.from_torch(theirs))
    q[0] = 0.0
    assert not torch.equal(q, source)
    c = per_channel(3, 4)
    assert torch.equal(make(3, 4, dtype=qfx.qint8).copy_(c), c)


@pytest.mark.inventory("S016")
def test_copies_that_are_refused() -> None:
    with pytest.raises(QuantizationError, match="qint8"):
        make(3).copy_(make(3, zero_point=0, dtype=qfx.qint8))
    with pytest.raises(UnsupportedError, match="into a float tensor"):
        torch.zeros(3).copy_(make(3))
    with pytest.raises(QuantizationError, match="per channel"):
        make(2, 3, 4, dtype=qfx.qint8).copy_(per_channel(3, 4))


@pytest.mark.inventory("S017")
@pytest.mark.parametrize(
    "copied", [Tensor.clone, torch.clone, copy.copy, copy.deepcopy], ids=["m", "f", "copy", "deepcopy"]
)
def test_clone(copied: Any) -> None:
    q = make(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    twin = copied(q)
    assert torch.equal(twin, q)
    assert (twin.qscheme(), twin.dtype, twin.stride()) == (q.qscheme(), q.dtype, q.stride())
    if copied is not copy.copy:
        q.fill_(3.0)
        assert not torch.equal(twin, q)
    c = per_channel(3, 4)
    assert torch.equal(copied(c), c)


@pytest.mark.inventory("S008")
@pytest.mark.parametrize(
    "index",
    [0, (slice(None), 1), (..., slice(None, None, 2)), torch.tensor([0, 2]), torch.eye(3, 4).bool(), None, [1, 2]],
    ids=str,
)
def test_assignment(index: Any) -> None:
    q, x = make(3, 4), torch.randn(3, 4)
    value = x[index]
    want = q.int_repr()
    want[index] = qfx.quantize_per_tensor(value, 0.5, 10, qfx.quint8).int_repr()
    for source in (value, qfx.quantize_per_tensor(value, 0.5, 10, qfx.quint8)):
        q = q.clone()
        q[index] = source
        assert torch.equal(q.int_repr(), want)
    other = qfx.quantize_per_tensor(value, 0.125, 60, qfx.quint8)
    q[index] = other
    want[index] = qfx.quantize_per_tensor(other.dequantize(), 0.5, 10, qfx.quint8).int_repr()
    assert torch.equal(q.int_repr(), want)
    q[index] = 1.5
    assert (q.int_repr()[index] == 13).all()
    assert (q.q_scale(), q.q_zero_point()) == (0.5, 10)


def test_filling() -> None:
    q = make(3, 4)
    assert q.fill_(1.0) is q
    assert (q == 1.0).all()
    assert (q.zero_() == 0.0).all()
    assert (q.masked_fill_(torch.eye(3, 4).bool(), 2.0).dequantize() == torch.eye(3, 4) * 2).all()
    assert (q.masked_fill(torch.ones(3, 4).bool(), value=1.0) == 1.0).all()
    assert (torch.zeros_like(q) == 0.0).all()
    assert (torch.ones_like(q) == 1.0).all()
    assert (torch.full_like(q, 1.5) == 1.5).all()
    like = torch.empty_like(q)
    assert (like.qparams, like.shape) == (q.qparams, q.shape)


def test_transposing_in_place() -> None:
    q = make(3, 4)
    want = q.int_repr().t()
    assert q.t_() is q
    assert torch.equal(q.int_repr(), want)


def test_as_a_buffer() -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("q", make(3, 4))

    source, target = Holder(), Holder()
    target.load_state_dict(source.state_dict())
    assert torch.equal(target.q, source.q)
    assert torch.equal(copy.deepcopy(source).q, source.q)
    assert torch.equal(source.cpu().eval().q, source.q)
    for same in (source.float(), source.to(torch.float64), source.share_memory(), source.requires_grad_(False)):
        assert torch.equal(same.q, source.q)
    assert source.q.is_shared()
    with pytest.raises(UnsupportedError, match="float tensor"):
        torch.zeros(3, 4)[0] = make(4)
