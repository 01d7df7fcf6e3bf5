"""Every observer on values at the ends of float32, and on what has no values to observe."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

import qfx
import qfx.quantization.observer as observers
from qfx.errors import CalibrationError, InputError, QfxError
from qfx.quantization import FakeQuantize, QuantStub, prepare

LARGEST = torch.finfo(torch.float32).max
PASSIVE = {"FixedQParamsObserver", "NoopObserver", "PlaceholderObserver", "RecordingObserver"}
ABSTRACT = {"Observer", "ObserverBase", "Window"}
"""Bases, and what is none."""
SPECIAL: dict[str, Callable[[], nn.Module]] = {
    "WindowMoments": lambda: observers.WindowMoments(observers.Window(2)),
    "FixedQParamsObserver": lambda: observers.FixedQParamsObserver(0.1, 0),
    "PerGroupMinMaxObserver": observers.PerGroupMinMaxObserver.with_args(group_size=None),
    "FixedOrObserved": lambda: observers.FixedOrObserved(0.1, 0, qfx.quint8, observers.HistogramObserver()),
}


def _classes() -> dict[str, Callable[[], nn.Module]]:
    found = {n: getattr(observers, n) for n in observers.__all__ if isinstance(getattr(observers, n), type)}
    named = {cls.__name__: cls for cls in found.values() if cls.__name__ not in ABSTRACT}
    return {**named, **SPECIAL, "FakeQuantize": FakeQuantize}


OBSERVERS = _classes()
COMPUTING = [name for name in OBSERVERS if name not in PASSIVE]
FIXED = "FixedOrObserved"
"""Answers by fixed parameters where it has seen nothing that calls for others, and leaves out what is not finite."""
NEEDING_DATA = [name for name in COMPUTING if name != FIXED]
WITH_QPARAMS = [name for name in COMPUTING if name not in ("ChannelMean", "ChannelSample", "WindowMoments")]


def _fake() -> Tensor:
    with FakeTensorMode():
        return torch.randn(3, 2)


def _nested() -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor([torch.randn(2), torch.randn(3)])


def _csr() -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.eye(2).to_sparse_csr()


UNOBSERVABLE: dict[str, Callable[[], Any]] = {
    "complex": lambda: torch.randn(3, 2, dtype=torch.complex64),
    "complex half": lambda: torch.randn(3, 2, dtype=torch.complex128),
    "int64": lambda: torch.ones(3, 2, dtype=torch.int64),
    "uint8": lambda: torch.ones(3, 2, dtype=torch.uint8),
    "bool": lambda: torch.ones(3, 2, dtype=torch.bool),
    "sparse": lambda: torch.eye(2).to_sparse(),
    "csr": _csr,
    "mkldnn": lambda: torch.randn(2, 2).to_mkldnn(),
    "meta": lambda: torch.empty(3, 2, device="meta"),
    "fake": _fake,
    "nested": _nested,
    "codes": lambda: qfx.quantize_per_tensor(torch.randn(3, 2), 0.1, 0, qfx.quint8),
    "list": lambda: [1.0, 2.0],
    "none": lambda: None,
}


@pytest.mark.parametrize("kind", UNOBSERVABLE)
@pytest.mark.parametrize("name", COMPUTING)
def test_what_has_no_values_is_refused_by_name(name: str, kind: str) -> None:
    observer = OBSERVERS[name]()
    with pytest.raises(QfxError) as caught:
        observer(UNOBSERVABLE[kind]())
    assert caught.value.remedy
    observer(torch.randn(3, 2))  # and left no trace
    if name in WITH_QPARAMS:
        assert bool(torch.isfinite(observer.calculate_qparams()[0]).all())


@pytest.mark.parametrize("name", sorted(PASSIVE))
def test_passive_observers_take_what_they_do_not_read(name: str) -> None:
    x = UNOBSERVABLE["complex"]()
    assert OBSERVERS[name]()(x) is x


def test_where_it_was_met_is_told() -> None:
    net = nn.Sequential(QuantStub()).eval()
    net.qconfig = qfx.get_default_qconfig()
    with pytest.raises(InputError, match=r"HistogramObserver met a value that holds torch.int64(.|\n)*where: 0"):
        prepare(net)(torch.ones(3, dtype=torch.int64))


# ---------------------------------------------------------------- ends of float32

EXTREME: dict[str, list[float]] = {
    "both ends": [-LARGEST, LARGEST],
    "beyond half": [-3e38, 3e38, 1.0, -2.0],
    "one end": [LARGEST, 3e38, 1.0, 2.0],
    "negative": [-LARGEST, -1.0, -2.0, -3e38],
    "large": [-1e20, 3e19, 5e18, 0.0],
    "square overflows": [1e15, -3e15, 2e14, 1.0],
    "denormal": [1e-42, -1e-44, 0.0, 1e-45],
    "zero": [0.0, 0.0, -0.0, 0.0],
}


@pytest.mark.parametrize("kind", EXTREME)
@pytest.mark.parametrize("name", WITH_QPARAMS)
def test_ranges_up_to_the_ends_of_float32(name: str, kind: str) -> None:
    x = torch.tensor(EXTREME[kind]).reshape(2, -1)
    observer = OBSERVERS[name]()
    for batch in (x[:, :1], x, -x):  # the range grows and turns
        observer(batch.contiguous())
    scale, zero_point = observer.calculate_qparams()
    assert bool(((scale > 0) & torch.isfinite(scale)).all())
    assert bool(((zero_point >= 0) & (zero_point <= 255)).all())


@pytest.mark.parametrize("name", [name for name in WITH_QPARAMS if name != FIXED])
@pytest.mark.parametrize("power", [120, 60, -20])
def test_qparams_scale_with_the_values(name: str, power: int) -> None:
    """A power of two changes no rounding, so neither does it change the range that is found."""
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(4, 500, generator=generator), torch.randn(4, 500, generator=generator) * 3.0]
    make: Any = OBSERVERS[name]
    make = make.with_args(eps=2.0**-120)
    plain, scaled = make(), make()
    for batch in batches:
        plain(batch)
        scaled(batch * 2.0**power)
    (scale, zero_point), (other, other_zero) = plain.calculate_qparams(), scaled.calculate_qparams()
    assert torch.equal(scale.double() * 2.0**power, other.double())
    assert torch.equal(zero_point, other_zero)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", NEEDING_DATA)
def test_values_that_are_not_finite_are_refused(name: str, bad: float) -> None:
    with pytest.raises(CalibrationError, match="not finite"):
        OBSERVERS[name]()(torch.tensor([[1.0, bad]]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
@pytest.mark.parametrize("name", WITH_QPARAMS)
def test_every_float_dtype_is_observed_as_its_values(name: str, dtype: torch.dtype) -> None:
    if name == "FakeQuantize" and dtype is torch.float8_e4m3fn:
        pytest.skip("it computes in the dtype of its input, in which torch computes nothing")
    x = torch.randn(4, 40, generator=torch.Generator().manual_seed(0)).to(dtype)
    given, plain = OBSERVERS[name](), OBSERVERS[name]()
    given(x)
    plain(x.float())
    assert torch.equal(given.calculate_qparams()[0], plain.calculate_qparams()[0])


@pytest.mark.parametrize("name", NEEDING_DATA)
def test_empty_values_are_ignored(name: str) -> None:
    observer = OBSERVERS[name]()
    observer(torch.empty(0, 2))
    observer(torch.empty(3, 0))
    with pytest.raises(CalibrationError, match="no data"):
        observer.calculate_qparams() if name in WITH_QPARAMS else observer.mean()


def test_means_of_large_values() -> None:
    mean = observers.ChannelMean(ch_axis=1)
    mean(torch.full((2, 3, 4, 4), 3e38))
    torch.testing.assert_close(mean.mean(), torch.full((3,), 3e38, dtype=torch.float32).double())


@pytest.mark.parametrize("x", [torch.empty(0), torch.tensor([math.nan, math.inf, -math.inf])])
def test_fixed_parameters_hold_where_nothing_finite_was_seen(x: Tensor) -> None:
    observer = OBSERVERS[FIXED]()
    assert observer(x) is x
    assert (observer.qparams().scale, observer.gave_way) == (pytest.approx(0.1), False)
    observer(torch.tensor([0.25, math.nan]))
    assert observer.gave_way
    assert observer.qparams().scale < 0.25 / 200
