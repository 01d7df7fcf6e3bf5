from __future__ import annotations

from typing import Any

import pytest
import torch

from qfx.errors import CalibrationError, QConfigError
from qfx.ir.types import QDType, QParams
from qfx.quantization import (
    ChannelMean,
    FixedQParamsObserver,
    NoopObserver,
    PlaceholderObserver,
    RecordingObserver,
    default_dynamic_quant_observer,
    default_fixed_qparams_range_0to1_observer,
    default_fixed_qparams_range_neg1to1_observer,
    per_tensor_dynamic_quant_observer,
)


def test_fixed_qparams() -> None:
    for factory, scale, zero_point in (
        (default_fixed_qparams_range_0to1_observer, 1 / 256, 0),
        (default_fixed_qparams_range_neg1to1_observer, 2 / 256, 128),
    ):
        observer = factory()
        x = torch.randn(3)
        assert observer(x) is x
        assert observer.qparams() == QParams(scale, zero_point, QDType.quint8, None, 0, 255)


@pytest.mark.parametrize("arguments", [(0.0, 0), (-1.0, 0), (float("nan"), 0), (float("inf"), 0), (1.0, 256)])
def test_fixed_qparams_must_be_valid(arguments: tuple[float, int]) -> None:
    with pytest.raises(QConfigError):
        FixedQParamsObserver(*arguments)


@pytest.mark.parametrize("make", [PlaceholderObserver, NoopObserver, RecordingObserver])
@pytest.mark.inventory("S115", "S116")
def test_no_qparams(make: Any) -> None:
    observer = make(dtype="quint8")
    x = torch.randn(3)
    assert observer(x) is x
    for asked in (observer.calculate_qparams, observer.qparams):
        with pytest.raises(CalibrationError, match="computes no quantization parameters"):
            asked()


@pytest.mark.inventory("S116")
def test_float_dtypes_have_no_qparams() -> None:
    observer = NoopObserver(dtype=torch.float16)
    assert observer.dtype is torch.float16
    with pytest.raises(QConfigError, match=r"torch\.float16"):
        observer.qparams()


@pytest.mark.inventory("S115")
def test_recording_keeps_copies_in_order() -> None:
    observer = RecordingObserver()
    x = torch.zeros(2)
    observer(x)
    x += 1
    observer(x)
    assert [t.tolist() for t in observer.get_tensor_value()] == [[0.0, 0.0], [1.0, 1.0]]


def test_dynamic_placeholder() -> None:
    observer = default_dynamic_quant_observer()
    assert observer.is_dynamic
    assert observer.per_row
    assert observer.dtype is QDType.quint8
    assert not per_tensor_dynamic_quant_observer().per_row


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("axis", [1, -3])
def test_channel_mean_of_images(axis: int, layout: torch.memory_format) -> None:
    x, y = torch.randn(2, 3, 5, 4), torch.randn(6, 3, 5, 4) + 2
    mean = ChannelMean(axis)
    for batch in (x, torch.empty(0, 3, 5, 4), y):
        assert mean(batch.to(memory_format=layout)) is not None
    expected = torch.cat([x, y]).double().mean((0, 2, 3))
    assert mean.mean().dtype == torch.float64
    # float32 sums of 20 values, each below 8 in magnitude.
    torch.testing.assert_close(mean.mean(), expected, rtol=0, atol=20 * 8 * 2**-24)


@pytest.mark.parametrize("shape", [(7,), (4, 7), (2, 4, 7)])
def test_channel_mean_of_features(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    mean = ChannelMean(-1)
    mean(x)
    torch.testing.assert_close(mean.mean(), x.double().reshape(-1, 7).mean(0), rtol=0, atol=8 * 8 * 2**-24)


def test_channel_mean_state_round_trip() -> None:
    first, other = ChannelMean(), ChannelMean()
    first(torch.randn(2, 3))
    other(torch.randn(2, 5))
    other.load_state_dict(first.state_dict())
    assert torch.equal(other.mean(), first.mean())
    other.load_state_dict(ChannelMean().state_dict())
    with pytest.raises(CalibrationError, match="no data"):
        other.mean()


def test_channel_mean_in_inference_mode() -> None:
    mean = ChannelMean()
    with torch.inference_mode():
        mean(torch.ones(2, 3))
    mean(torch.zeros(2, 3))
    assert mean.mean().tolist() == [0.5, 0.5, 0.5]


def test_channel_mean_errors_name_the_place() -> None:
    mean = ChannelMean()
    mean.label = "layer1.conv"
    with pytest.raises(CalibrationError, match="no data") as caught:
        mean.mean()
    assert caught.value.where == "layer1.conv"
    with pytest.raises(CalibrationError, match="not finite"):
        mean(torch.tensor([[1.0, float("nan")]]))
    mean(torch.ones(1, 2))
    with pytest.raises(CalibrationError, match="met 3 channels after 2"):
        mean(torch.ones(1, 3))
