"""No address is taken before memory of that extent is known to be there, whoever asks."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

import qfx
from qfx import memory
from qfx.quantization import FakeQuantize, HistogramObserver, MinMaxObserver, PACTFakeQuantize
from qfx.runtime import Executable, ProgramBuilder

SHAPE = (2, 3, 4, 4)


def whole(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).to(dtype)


def resized(size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    x = whole(dtype)
    x.untyped_storage().resize_(size)
    return x


def strided_beyond() -> Tensor:
    x = whole()[:, :, ::2]
    x.untyped_storage().resize_(300)
    return x


def offset_beyond() -> Tensor:
    x = whole()[1:]
    x.untyped_storage().resize_(300)
    return x


CUT: dict[str, Callable[[], Tensor]] = {
    "emptied": lambda: resized(0),
    "cut short by one element": lambda: resized(4 * 95),
    "cut short": lambda: resized(100),
    "strided": strided_beyond,
    "offset": offset_beyond,
    "float64": lambda: resized(0, torch.float64),
    "bfloat16": lambda: resized(10, torch.bfloat16),
}


class Wrapper(Tensor):
    """Stands for another tensor, and has no memory."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Wrapper:
        made: Wrapper = Tensor._make_wrapper_subclass(cls, inner.size(), dtype=inner.dtype)
        made.inner = inner
        return made

    def __init__(self, inner: Tensor) -> None:
        super().__init__()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        bare = torch.utils._pytree.tree_map_only(Wrapper, lambda w: w.inner, (args, kwargs or {}))
        return torch.utils._pytree.tree_map_only(Tensor, Wrapper, func(*bare[0], **bare[1]))


class Named(Tensor):
    """A subclass with memory of its own."""


def program() -> Executable:
    builder = ProgramBuilder()
    x, y = builder.value("x", "f32", [-1] * 4), builder.value("y", "u8", [-1] * 4)
    builder.step("quantize", "q", [x], y, ints={"perm": [0, 1, 2, 3], "zero_point": 0}, floats={"scale": 0.1})
    return Executable(builder.build([x], [y]))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 1)).eval()
    return qfx.quantize_fx(net, {"": qfx.get_default_qconfig()}, [whole()])


@pytest.fixture(scope="module")
def with_torch() -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(torch.cumsum(x, 1))

    torch.manual_seed(0)
    return qfx.quantize_fx(Net().eval(), {"": qfx.get_default_qconfig()}, [whole()])


TAKERS: dict[str, Callable[[Any], Any]] = {
    "quantize_per_tensor": lambda x: qfx.quantize_per_tensor(x, 0.1, 3, qfx.quint8),
    "quantize_per_tensor qint32": lambda x: qfx.quantize_per_tensor(x, 0.1, 3, qfx.qint32),
    "quantize_per_channel": lambda x: qfx.quantize_per_channel(x, [0.1] * 3, [0] * 3, 1, qfx.qint8),
    "FakeQuantize": FakeQuantize(),
    "FakeQuantize with gradient": lambda x: FakeQuantize()(x.requires_grad_()),
    "PACT": PACTFakeQuantize(),
    "MinMaxObserver": MinMaxObserver(),
    "HistogramObserver": HistogramObserver(),
    "Executable": program(),
    "Executable.profile": lambda x: program().profile(x, repeats=1),
    "Executable.run_and_fetch": lambda x: program().run_and_fetch([x], []),
}


@pytest.mark.parametrize("take", TAKERS.values(), ids=list(TAKERS))
@pytest.mark.parametrize("cut", CUT.values(), ids=list(CUT))
def test_a_storage_that_is_too_small_is_refused(take: Callable[[Any], Any], cut: Callable[[], Tensor]) -> None:
    with pytest.raises(qfx.InputError) as caught:
        take(cut())
    assert caught.value.remedy or "dtype" in caught.value.what


@pytest.mark.parametrize("cut", CUT.values(), ids=list(CUT))
def test_models_refuse_a_storage_that_is_too_small(
    model: nn.Module, with_torch: nn.Module, cut: Callable[[], Tensor]
) -> None:
    prepared = qfx.prepare_fx(nn.Sequential(nn.Conv2d(3, 4, 1)).eval(), {"": qfx.get_default_qconfig()}, (whole(),))
    for called in (model, with_torch, prepared):
        with pytest.raises(qfx.InputError, match="bytes, and needs"):
            called(cut())
    with pytest.raises(qfx.InputError, match="bytes, and needs"):
        qfx.quantize_fx(nn.Sequential(nn.Conv2d(3, 4, 1)).eval(), {"": qfx.get_default_qconfig()}, [cut()])


def fake() -> Tensor:
    with FakeTensorMode():
        return torch.empty(SHAPE)


WITHOUT_MEMORY: dict[str, Callable[[], Tensor]] = {
    "meta": lambda: whole().to("meta"),
    "sparse": lambda: whole().to_sparse(),
    "csr": whole()[0, 0].to_sparse_csr,
    "mkldnn": lambda: whole().to_mkldnn(),
    "nested": lambda: torch.nested.nested_tensor([whole()[0], whole()[1]]),
    "complex": lambda: torch.complex(whole(), whole()),
    "lazy conjugate": lambda: torch.complex(whole(), whole()).conj(),
    "fake": fake,
    "wrapper": lambda: Wrapper(whole()),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors", "ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("given", WITHOUT_MEMORY.values(), ids=list(WITHOUT_MEMORY))
def test_a_program_takes_only_memory(given: Callable[[], Tensor]) -> None:
    executable = program()
    for call in (executable, executable.profile, lambda x: executable.run_and_fetch([x], [])):
        with pytest.raises(qfx.InputError):
            call(given())


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors", "ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("kind", ["meta", "sparse", "csr", "mkldnn", "nested", "complex", "lazy conjugate"])
def test_models_say_what_they_do_not_take(model: nn.Module, with_torch: nn.Module, kind: str) -> None:
    for called in (model, with_torch):
        with pytest.raises(qfx.InputError) as caught:
            called(WITHOUT_MEMORY[kind]())
        assert caught.value.remedy


def test_stand_ins_are_seen_through(model: nn.Module, with_torch: nn.Module) -> None:
    x = whole()
    for called in (model, with_torch):
        y = called(x)
        assert called(fake()).shape == y.shape
        assert torch.equal(called(Wrapper(x)).inner, y)
        assert torch.equal(called(x.as_subclass(Named)), y)
        assert torch.equal(called(torch._neg_view(x)), called(-x))
        assert torch.equal(called(torch._efficientzerotensor(SHAPE)), called(torch.zeros(SHAPE)))
        assert torch.equal(called(nn.Parameter(x, requires_grad=False)), y)


def test_quantizing_sees_through_stand_ins() -> None:
    x = whole()
    expected = qfx.quantize_per_tensor(x, 0.1, 3, qfx.quint8).int_repr()
    quantize = lambda x: qfx.quantize_per_tensor(x, 0.1, 3, qfx.quint8).int_repr()  # noqa: E731
    assert torch.equal(quantize(torch._neg_view(-x)), expected)
    zeros = torch.full(SHAPE, 3, dtype=torch.uint8)
    assert torch.equal(quantize(torch._efficientzerotensor(SHAPE)), zeros)
    assert torch.equal(torch.vmap(quantize)(x), expected)
    for mode in ("real", "fake", "symbolic"):
        with FakeTensorMode(), pytest.raises(qfx.UnsupportedError, match="records"):
            quantize(torch.empty(SHAPE))
        with pytest.raises(qfx.UnsupportedError, match="records"):
            torch.fx.experimental.proxy_tensor.make_fx(quantize, tracing_mode=mode)(x)


def test_arrays_that_reach_beyond_their_memory_are_refused() -> None:
    executable, base = program(), np.zeros((2, 3, 4, 8), np.float32)
    wide = np.lib.stride_tricks.as_strided(base, (2, 3, 4, 4), tuple(4 * s for s in base.strides))
    below = np.lib.stride_tricks.as_strided(base, (2, 3, 4, 4), (-400, 128, 32, 4))
    for array in (wide, below):
        with pytest.raises(qfx.InputError, match="beyond"):
            executable(array)
    for subclass in (np.ma.masked_array(base[..., :4]), base[..., :4].view(type("Mine", (np.ndarray,), {}))):
        with pytest.raises(qfx.InputError, match="asarray"):
            executable(subclass)


def test_arrays_of_every_order_give_the_same() -> None:
    executable, x = program(), whole().numpy()
    (expected,) = executable(x)
    views = [
        np.asfortranarray(x),
        x[:, ::-1][:, ::-1],
        np.pad(x, 1)[1:-1, 1:-1, 1:-1, 1:-1],
        x.view().__class__(x.shape, np.float32, np.ascontiguousarray(x)),
    ]
    views[2].flags.writeable = False
    for view in views:
        assert np.array_equal(executable(view)[0], expected)


def test_extents() -> None:
    base = torch.zeros(4, 6, 8)
    for view in (
        base,
        base[1:],
        base[:, ::2],
        base.permute(2, 0, 1),
        base[2, 3],
        base[..., 7],
        base[:0],
        base[0, 0, 0],
    ):
        last = max((view.storage_offset() + sum(i * s for i, s in zip(index, view.stride(), strict=True)) + 1
                    for index in np.ndindex(*view.shape)), default=0)  # fmt: skip
        assert memory.extent(view) == last


@pytest.mark.parametrize("source", sorted(Path(qfx.__file__).parent.rglob("*.py")), ids=lambda p: p.name)
def test_addresses_are_taken_in_one_place(source: Path) -> None:
    compared = ("passes/convert.py", "ir/snapshot.py")  # what shares memory, or is the same as before: never read there
    if not source.as_posix().endswith(("qfx/memory.py", *compared)):
        found = re.findall(r"\.data_ptr\(\)|__array_interface__\[|\.ctypes\.data", source.read_text())
        assert not found, f"{source} takes addresses itself: use qfx.memory.address"
