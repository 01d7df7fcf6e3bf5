from __future__ import annotations

import copy
import io
import itertools
import math
import pickle
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from qfx.errors import CalibrationError, QConfigError
from qfx.ir.types import QDType, QScheme
from qfx.ops.arithmetic import dequantize, quantize
from qfx.quantization import (
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    Observer,
    ObserverBase,
    PerChannelMinMaxObserver,
)
from qfx.quantization import (
    observer as observers,
)
from tests.quantization.peer import own_qparams, peer_module, peer_qparams

PER_TENSOR = ("MinMaxObserver", "MovingAverageMinMaxObserver")
PER_CHANNEL = ("PerChannelMinMaxObserver", "MovingAveragePerChannelMinMaxObserver")
RANGES: tuple[dict[str, Any], ...] = (
    {"dtype": "quint8"},
    {"dtype": "qint8"},
    {"dtype": "quint8", "reduce_range": True},
    {"dtype": "qint8", "reduce_range": True},
    {"dtype": "quint8", "quant_min": 0, "quant_max": 127},
    {"dtype": "quint8", "quant_min": 0, "quant_max": 15},
    {"dtype": "qint8", "quant_min": -127, "quant_max": 127, "eps": 2**-12},
    {"dtype": "quint8", "quant_min": 0, "quant_max": 255, "reduce_range": True},
    {"dtype": "qint8", "quant_min": -8, "quant_max": 7},
    {"dtype": "qint32"},
)


def batches(kind: str) -> list[Tensor]:
    x = torch.randn(3, 6, 5)
    return {
        "normal": [x, 3 * x + 1, x - 2],
        "positive": [x.abs() + 1, x.abs()],
        "negative": [-x.abs() - 1],
        "zeros": [torch.zeros(2, 6, 1)],
        "constant": [torch.full((1, 6, 2), 2.5)],
        "tiny": [1e-12 * x],
        "huge": [1e36 * x],
    }[kind]


def quantized(observer: Any, x: Tensor) -> Tensor:
    scale, zero_point = observer.calculate_qparams()
    return dequantize(quantize(x, scale, zero_point, observer.quant_min, observer.quant_max), scale, zero_point)


def comparable(scheme: str, arguments: dict[str, Any], kind: str) -> bool:
    """Not where the peer refuses (a reduced symmetric quint8) or its int32 zero point overflows."""
    refused = scheme == "symmetric" and arguments["dtype"] == "quint8" and arguments.get("reduce_range", False)
    return not refused and not (arguments["dtype"] == "qint32" and kind == "huge")


KINDS = ("normal", "positive", "negative", "zeros", "constant", "tiny", "huge")
CASES = [case for case in itertools.product(("affine", "symmetric"), RANGES, KINDS) if comparable(*case)]


@pytest.mark.parametrize(("scheme", "arguments", "kind"), CASES)
@pytest.mark.parametrize("name", PER_TENSOR + PER_CHANNEL)
@pytest.mark.inventory("S110", "S111", "S112", "S113")
def test_qparams_equal_the_peers(name: str, arguments: dict[str, Any], scheme: str, kind: str) -> None:
    prefix = "per_channel_" if name in PER_CHANNEL else "per_tensor_"
    kwargs = {**arguments, "qscheme": prefix + scheme, **({"ch_axis": 1} if name in PER_CHANNEL else {})}
    if name.startswith("MovingAverage"):
        kwargs["averaging_constant"] = 0.3
    data = batches(kind)
    assert own_qparams(getattr(observers, name)(**kwargs), data) == peer_qparams(peer_module(name, **kwargs), data)


@pytest.mark.inventory("S110")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "huge"])
@pytest.mark.parametrize("arguments", RANGES)
@pytest.mark.parametrize("scheme", ["affine", "symmetric"])
def test_qparams_are_those_of_exact_arithmetic(scheme: str, arguments: dict[str, Any], kind: str) -> None:
    """The definition in rational numbers of what the data's ends are as float32."""
    data = batches(kind)
    observer = MinMaxObserver(qscheme=f"per_tensor_{scheme}", **arguments)
    for x in data:
        observer(x)
    scale, zero_point = observer.calculate_qparams()
    values = torch.cat([x.reshape(-1) for x in data])
    low, high = min(Fraction(float(values.min())), Fraction(0)), max(Fraction(float(values.max())), Fraction(0))
    bottom, top = observer.quant_min, observer.quant_max
    width = high - low if scheme == "affine" else 2 * max(-low, high)
    wanted = max(width / (top - bottom), Fraction(observer.eps))
    # float32 rounds the width and the quotient, each by 2**-24 of itself.
    assert abs(Fraction(float(scale)) - wanted) <= wanted * Fraction(1, 2**23)
    if scheme == "affine":
        position = max(min(bottom - low / wanted, Fraction(top)), Fraction(bottom))
        # Half a step, and what the rounding of the scale and of the quotient move the position.
        assert abs(int(zero_point) - position) <= Fraction(1, 2) + (top - bottom) * Fraction(3, 2**24)
    elif observer.dtype is QDType.quint8:
        assert int(zero_point) == (bottom + top + (0 if "quant_min" in arguments else 1)) // 2
    else:
        assert int(zero_point) == 0


@pytest.mark.inventory("S221")
def test_reduce_range_halves_the_integers() -> None:
    for dtype, expected in (("quint8", (0, 127)), ("qint8", (-64, 63))):
        observer = MinMaxObserver(dtype=dtype, reduce_range=True)
        assert (observer.quant_min, observer.quant_max) == expected


def test_symmetric_quint8_with_reduced_range_is_centred() -> None:
    observer = MinMaxObserver(qscheme="per_tensor_symmetric", reduce_range=True)
    observer(torch.tensor([-2.0, 1.0]))
    scale, zero_point = observer.calculate_qparams()
    assert (float(scale), int(zero_point)) == (pytest.approx(4 / 127), 64)


@settings(deadline=None)
@given(
    st.floats(-(2.0**100), 2.0**100, width=32),
    st.floats(-(2.0**100), 2.0**100, width=32),
    st.sampled_from(["quint8", "qint8"]),
    st.sampled_from(["per_tensor_affine", "per_tensor_symmetric"]),
    st.booleans(),
)
@pytest.mark.inventory("S034", "S040", "S110")
def test_zero_is_exact_and_the_range_is_covered(
    a: float, b: float, dtype: str, qscheme: str, reduce_range: bool
) -> None:
    observer = MinMaxObserver(dtype, qscheme, reduce_range=reduce_range)
    x = torch.tensor([a, b])
    observer(x)
    scale, zero_point = observer.calculate_qparams()
    assert quantized(observer, torch.zeros(1)).item() == 0.0
    assert observer.quant_min <= int(zero_point) <= observer.quant_max
    # Half a step of rounding and half a step of the zero point's, both of a float32 scale.
    assert bool(((quantized(observer, x) - x).abs() <= float(scale) * 1.001).all())


def test_a_range_that_float32_cannot_span_has_a_finite_scale() -> None:
    observer = MinMaxObserver()
    observer(torch.tensor([-3e38, 3e38]))
    scale, zero_point = observer.calculate_qparams()
    assert float(scale) == pytest.approx(6e38 / 255)
    assert int(zero_point) in (127, 128)


def test_dtypes_and_schemes_of_torch_are_accepted_by_name() -> None:
    observer = MinMaxObserver(torch.quint8, torch.per_tensor_symmetric)
    assert (observer.dtype, observer.qscheme) == (QDType.quint8, QScheme.per_tensor_symmetric)


@pytest.mark.inventory("S111")
def test_moving_average_is_exact() -> None:
    observer = MovingAverageMinMaxObserver(averaging_constant=0.25)
    for low in (-1.0, -2.0, -4.0):
        observer(torch.tensor([low, -low]))
    assert float(observer.min_val) == -1.9375
    assert float(observer.max_val) == 1.9375


@pytest.mark.inventory("S113")
def test_moving_average_per_channel_is_exact() -> None:
    observer = MovingAveragePerChannelMinMaxObserver(averaging_constant=0.5)
    observer(torch.tensor([[0.0, 2.0], [-4.0, 0.0]]))
    observer(torch.tensor([[0.0, 4.0], [-8.0, 0.0]]))
    assert observer.max_val.tolist() == [3.0, 0.0]
    assert observer.min_val.tolist() == [0.0, -6.0]


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.inventory("S112")
def test_per_channel_statistics_follow_the_axis(axis: int) -> None:
    x = torch.randn(3, 4, 5)
    observer = PerChannelMinMaxObserver(ch_axis=axis)
    observer(x)
    others = [d for d in range(3) if d != axis % 3]
    assert torch.equal(observer.min_val, x.amin(others))
    assert torch.equal(observer.max_val, x.amax(others))


@pytest.mark.parametrize("make", [MinMaxObserver, MovingAverageMinMaxObserver, PerChannelMinMaxObserver])
@pytest.mark.inventory("S110")
def test_empty_input_is_ignored(make: Any) -> None:
    observer = make()
    assert observer(torch.empty(0, 3)).shape == (0, 3)
    with pytest.raises(CalibrationError, match="has seen no data"):
        observer.calculate_qparams()
    observer(torch.ones(2, 3))
    before = observer.calculate_qparams()
    observer(torch.empty(2, 0))
    assert torch.equal(observer.calculate_qparams()[0], before[0])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("make", [MinMaxObserver, MovingAverageMinMaxObserver, PerChannelMinMaxObserver])
def test_data_that_is_not_finite_is_an_error_that_names_the_place(make: Any, value: float) -> None:
    observer = make()
    observer.label, observer.source = "layer1.conv", "model.py:3, in forward: y = self.conv(x)"
    x = torch.ones(2, 3)
    x[1, 1] = value
    with pytest.raises(CalibrationError, match="not finite") as caught:
        observer(x)
    assert caught.value.where == "layer1.conv"
    assert "model.py:3" in str(caught.value)
    with pytest.raises(CalibrationError, match="has seen no data"):
        observer.qparams()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_layout_and_float_dtype_do_not_matter(layout: torch.memory_format, dtype: torch.dtype) -> None:
    x = torch.randn(2, 4, 3, 3).to(dtype)
    observer = MinMaxObserver()
    observer(x.to(memory_format=layout)[:, 1:])
    assert float(observer.min_val) == x[:, 1:].min().item()
    assert observer.min_val.dtype == torch.float32


def test_qparams_carry_dtype_axis_and_range() -> None:
    observer = PerChannelMinMaxObserver(1, "qint8", "per_channel_symmetric", quant_min=-127, quant_max=127)
    observer(torch.tensor([[127.0, -254.0]]))
    qparams = observer.qparams()
    assert (qparams.scale, qparams.zero_point, qparams.axis) == ((1.0, 2.0), (0, 0), 1)
    assert (qparams.dtype, qparams.qmin, qparams.qmax) == (QDType.qint8, -127, 127)


@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize("name", PER_TENSOR + PER_CHANNEL)
@pytest.mark.inventory("S112")
def test_state_dict_deepcopy_and_pickle(name: str, seen: bool) -> None:
    first = getattr(observers, name)()
    if seen:
        first(torch.randn(5, 3))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    loaded = getattr(observers, name)()
    loaded(torch.randn(7, 2))
    loaded.load_state_dict(torch.load(file, weights_only=True))
    for other in (loaded, copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        assert torch.equal(other.min_val, first.min_val)
        assert torch.equal(other.max_val, first.max_val)
        other(torch.randn(5, 3))
        other.calculate_qparams()


def test_statistics_gathered_in_inference_mode_can_be_changed_outside() -> None:
    observer = PerChannelMinMaxObserver()
    with torch.inference_mode():
        observer(torch.randn(4, 2))
    observer.load_state_dict(PerChannelMinMaxObserver().state_dict())
    observer(torch.ones(3, 2))
    assert observer.max_val.tolist() == [1.0, 1.0, 1.0]


def test_reset_forgets_the_data() -> None:
    for observer in (MinMaxObserver(), PerChannelMinMaxObserver()):
        observer(torch.ones(3, 2))
        observer.reset_min_max_vals()
        with pytest.raises(CalibrationError):
            observer.calculate_qparams()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MinMaxObserver(qscheme="per_channel_affine"), "takes a per-tensor scheme"),
        (lambda: PerChannelMinMaxObserver(qscheme="per_tensor_affine"), "takes a per-channel scheme"),
        (lambda: MinMaxObserver(eps=0.0), "smallest scale"),
        (lambda: MinMaxObserver(quant_min=0), "go together"),
        (lambda: MinMaxObserver(quant_min=10, quant_max=20), "not a range"),
        (lambda: MinMaxObserver(quant_min=0, quant_max=256), "not a range"),
        (lambda: PerChannelMinMaxObserver(ch_axis=2)(torch.ones(2, 2)), "ch_axis=2"),
    ],
)
def test_arguments_that_do_not_fit_are_errors(make: Any, message: str) -> None:
    with pytest.raises(QConfigError, match=message):
        make()


def test_a_changed_channel_count_is_an_error() -> None:
    observer = PerChannelMinMaxObserver()
    observer(torch.ones(3, 2))
    with pytest.raises(CalibrationError, match="met 4 channels after 3"):
        observer(torch.ones(4, 2))


@pytest.mark.inventory("S107", "S108")
def test_observer_is_abstract_and_open_to_subclasses() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Observer("quint8")  # type: ignore[abstract]
    with pytest.raises(TypeError, match="abstract"):
        ObserverBase()  # type: ignore[abstract]

    class Constant(Observer):
        def forward(self, x: Tensor) -> Tensor:
            return x

        def calculate_qparams(self) -> tuple[Tensor, Tensor]:
            return torch.tensor([0.5]), torch.tensor([3])

    qparams = Constant.with_args(dtype="quint8")().qparams()
    assert (qparams.scale, qparams.zero_point) == (0.5, 3)


@pytest.mark.inventory("S109", "S220")
def test_every_observer_can_be_had_from_one_module_and_makes_factories() -> None:
    for name in (*PER_TENSOR, *PER_CHANNEL, "HistogramObserver", "RecordingObserver", "NoopObserver"):
        kind = getattr(observers, name)
        assert issubclass(kind, Observer)
        assert kind.with_args(dtype="qint8").with_args(dtype="quint8")().dtype is QDType.quint8
