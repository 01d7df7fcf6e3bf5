"""Views, moves and indexing: what torch does to the integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import qfx
from qfx.errors import QuantizationError, UnsupportedError
from qfx.tensor import QTensor


def per_tensor(*shape: int, dtype: Any = qfx.quint8) -> QTensor:
    return qfx.quantize_per_tensor(torch.randn(shape), 0.05, 60, dtype)


def per_channel(*shape: int, axis: int = 1) -> QTensor:
    count = shape[axis]
    return qfx.quantize_per_channel(torch.randn(shape), torch.rand(count) + 0.1, [0] * count, axis, qfx.qint8)


def assert_same_view(q: QTensor, call: Callable[[Tensor], Any]) -> None:
    """``call`` of a QTensor is ``call`` of its integers, with its parameters, and shares memory where that does."""
    codes = q.codes
    want, got = call(codes), call(q)
    pairs = zip(got, want, strict=True) if isinstance(want, tuple) else [(got, want)]
    for mine, theirs in pairs:
        assert isinstance(mine, QTensor)
        assert mine.qparams == q.qparams
        assert mine.stride() == theirs.stride()
        assert torch.equal(mine.int_repr(), theirs)
        shares = theirs.untyped_storage().data_ptr() == codes.untyped_storage().data_ptr()
        assert (mine.untyped_storage().data_ptr() == codes.untyped_storage().data_ptr()) == shares


VIEWS: list[Any] = [
    *(pytest.param(c, marks=pytest.mark.inventory("S003"), id=f"view-{i}") for i, c in enumerate([
        lambda x: x.view(6, -1), lambda x: x.view([2, 60]), lambda x: x.view_as(torch.empty(4, 30)),
        lambda x: x.view((-1,)),
    ])),
    *(pytest.param(c, marks=pytest.mark.inventory("S004"), id=f"as_strided-{i}") for i, c in enumerate([
        lambda x: x.as_strided((3, 4), (2, 5)), lambda x: torch.as_strided(x, (2, 2), (1, 3), 7),
    ])),
    *(pytest.param(c, marks=pytest.mark.inventory("S005"), id=f"expand-{i}") for i, c in enumerate([
        lambda x: x.expand(7, -1, -1, -1, -1), lambda x: x[:, :1].expand(2, 9, 4, 5),
        lambda x: x[:1].expand_as(torch.empty(8, 3, 4, 5)), lambda x: torch.broadcast_to(x, (2, 2, 3, 4, 5)),
    ])),
    *(pytest.param(c, marks=pytest.mark.inventory("S006"), id=f"flatten-{i}") for i, c in enumerate([
        lambda x: x.flatten(), lambda x: torch.flatten(x, 1), lambda x: x.flatten(1, 2), torch.nn.Flatten(),
        lambda x: x.ravel(), lambda x: x.unflatten(2, (2, 2)),
    ])),
    *(pytest.param(c, marks=pytest.mark.inventory("S007"), id=f"select-{i}") for i, c in enumerate([
        lambda x: x.select(1, 2), lambda x: torch.select(x, -1, 0), lambda x: x.narrow(2, 1, 2),
    ])),
    *(pytest.param(c, marks=pytest.mark.inventory("S008"), id=f"index-{i}") for i, c in enumerate([
        lambda x: x[0], lambda x: x[-1, 1:3], lambda x: x[..., ::2], lambda x: x[:, None, 1], lambda x: x[1, ..., 3],
        lambda x: x[torch.tensor([1, 0, 1])], lambda x: x[:, torch.tensor([2, 0]), 1], lambda x: x[x.size(0) - 1],
        lambda x: x[torch.ones(2, 3, dtype=torch.bool)], lambda x: x[[0, 1], [2, 0]], lambda x: x[0, 0, 0, 0],
        lambda x: x.index_select(1, torch.tensor([0, 2])), lambda x: x[()], lambda x: x[True],
    ])),
    *(pytest.param(c, marks=pytest.mark.inventory("S009"), id=f"other-{i}") for i, c in enumerate([
        lambda x: x.reshape(6, 20), lambda x: x.reshape(-1), lambda x: x.transpose(1, 3),
        lambda x: x.permute(3, 0, 1, 2),
        lambda x: torch.permute(x, (0, 2, 3, 1)), lambda x: x.unsqueeze(0), lambda x: x[:, :1].squeeze(1),
        lambda x: x.contiguous(), lambda x: x.unbind(1), lambda x: x.split(2, dim=1),
        lambda x: torch.split(x, [1, 2], 1),
        lambda x: x.chunk(2, 2), lambda x: torch.chunk(x, 3, 1), lambda x: x[0, 0].t(), lambda x: x.movedim(1, -1),
        lambda x: x.permute(0, 3, 1, 2).contiguous(), lambda x: x.contiguous(memory_format=torch.channels_last),
        lambda x: x.swapaxes(0, 1), lambda x: x[0, 0].T, lambda x: x.mT, lambda x: x.flip(1), lambda x: x.roll(1, 2),
        lambda x: x.repeat(1, 2, 1, 1), lambda x: x.detach(), lambda x: x.data, lambda x: x.unfold(2, 2, 1),
        lambda x: torch.pixel_shuffle(x.transpose(1, 2), 2), lambda x: torch.channel_shuffle(x, 3),
        lambda x: x.to("cpu"), lambda x: x.cpu(), tuple, lambda x: x.tensor_split(2, 1),
    ])),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [qfx.quint8, qfx.qint32], ids=lambda d: d.name)
@pytest.mark.parametrize("call", VIEWS)
def test_views(call: Callable[[Tensor], Any], dtype: Any) -> None:
    assert_same_view(per_tensor(2, 3, 4, 5, dtype=dtype), call)


@pytest.mark.inventory("S003", "S009")
def test_a_view_is_written_through() -> None:
    q = per_tensor(2, 6)
    q.view(3, 4)[0] = 1.0
    q.t()[5] = -1.0
    assert q.int_repr()[0, :4].tolist() == [80] * 4
    assert q.int_repr()[:, 5].tolist() == [40, 40]


def test_view_of_channels_last_memory_copies() -> None:
    q = per_tensor(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    assert torch.equal(q.view(2, -1), q.reshape(2, -1))
    assert torch.equal(q.view_as(torch.empty(6, 20)), q.reshape(6, 20))


@pytest.mark.inventory("S003", "S004", "S005", "S006", "S007", "S008", "S029")
@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.view(-1), lambda x: x.as_strided((2,), (1,)), lambda x: x.expand(2, 2, 3, 4), lambda x: x.flatten(),
        lambda x: x.select(0, 0), lambda x: x[0], lambda x: x.reshape(-1), lambda x: x.unbind(), lambda x: x.split(1),
        lambda x: x.squeeze(), lambda x: x.resize_(3), lambda x: x.__setitem__(0, 1.0), lambda x: x.max(),
        lambda x: x.sort(), lambda x: x.fill_(1.0), lambda x: torch.pixel_shuffle(x, 1),
    ],
)  # fmt: skip
def test_per_channel_is_refused(call: Callable[[Tensor], Any]) -> None:
    with pytest.raises(QuantizationError, match="per channel"):
        call(per_channel(2, 3, 4))


@pytest.mark.inventory("S009")
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(
    "call",
    [lambda x: x.permute(2, 0, 1), lambda x: x.transpose(0, 2), lambda x: x.movedim(0, 2), lambda x: x.contiguous(),
     lambda x: x.clone(), lambda x: x.detach()],
)  # fmt: skip
def test_the_channel_axis_moves_along(axis: int, call: Callable[[Tensor], Any]) -> None:
    q = per_channel(2, 3, 4, axis=axis)
    assert torch.equal(call(q).dequantize(), call(q.dequantize()))


@pytest.mark.inventory("S029")
@pytest.mark.parametrize("shape", [(2, 3), (4, 2), (1,), (5, 4, 3)])
def test_resize(shape: tuple[int, ...]) -> None:
    q = per_tensor(4, 2)
    before = q.int_repr().flatten()
    assert q.resize_(shape) is q
    assert tuple(q.shape) == shape
    assert (q.q_scale(), q.q_zero_point(), q.dtype) == (0.05, 60, qfx.quint8)
    count = min(8, q.numel())
    assert torch.equal(q.int_repr().flatten()[:count], before[:count])
    assert q.dequantize().shape == shape


def test_an_index_is_no_quantized_tensor() -> None:
    q, x = per_tensor(3), torch.randn(300, 4)
    for call in (lambda: x[q], lambda: per_tensor(300)[q], lambda: x.index_select(0, q), lambda: x[1, q]):
        with pytest.raises(UnsupportedError, match="as an index"):
            call()


def test_the_tensor_may_be_named() -> None:
    q = per_tensor(2, 3)
    assert torch.equal(torch.flatten(input=q), q.flatten())
    assert torch.equal(torch.relu(input=q), torch.relu(q))
    assert torch.max(input=q).dequantize() == q.dequantize().max()


def test_queries() -> None:
    q = per_tensor(2, 3, 4)
    assert (q.dim(), q.ndim, q.numel(), len(q), q.size(1), q.stride(), q.device.type) == (
        3,
        3,
        24,
        2,
        3,
        (12, 4, 1),
        "cpu",
    )
    assert not q.requires_grad
    assert q.is_leaf
    assert not q.is_floating_point()
    assert torch.is_tensor(q)
    assert q.mT.shape == (2, 4, 3)
    assert torch.empty(3, 4).expand_as(q).shape == (2, 3, 4)


@pytest.mark.parametrize(
    "call",
    [lambda x: x.view(torch.int8), lambda x: x.to(torch.float32), lambda x: x.float(), lambda x: x.numpy(),
     lambda x: x.to(qfx.qint8), lambda x: x.cuda(), torch.fft.fft, torch.linalg.norm,
     lambda x: torch.where(x > 0, x, x), lambda x: x.type(torch.uint8), lambda x: x.random_(), lambda x: x + 1,
     lambda x: x.float().mean(), lambda x: torch.einsum("ij->i", x), lambda x: x.std(), lambda x: x.sum()],
)  # fmt: skip
def test_what_is_not_defined_says_so(call: Callable[[Tensor], Any]) -> None:
    with pytest.raises(UnsupportedError) as caught:
        call(per_tensor(2, 3))
    assert caught.value.remedy
    assert "dequantize" in caught.value.remedy or "int_repr" in caught.value.remedy or "qfx." in caught.value.remedy
