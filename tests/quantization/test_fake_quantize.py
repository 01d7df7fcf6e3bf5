from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from qfx.errors import CalibrationError, QConfigError
from qfx.ir.types import QDType, QScheme
from qfx.ops.arithmetic import dequantize, quantize
from qfx.quantization import (
    ChannelMean,
    FakeQuantize,
    FixedQParamsFakeQuantize,
    FixedQParamsObserver,
    HistogramObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    NoopObserver,
    PerChannelMinMaxObserver,
    default_fake_quant,
    default_fixed_qparams_range_0to1_fake_quant,
    default_per_channel_weight_fake_quant,
    default_weight_fake_quant,
    disable_fake_quant,
    disable_observer,
    enable_fake_quant,
    enable_observer,
)

PER_CHANNEL = (PerChannelMinMaxObserver, MovingAveragePerChannelMinMaxObserver)
OBSERVERS = (*PER_CHANNEL, MinMaxObserver, MovingAverageMinMaxObserver, HistogramObserver)


@pytest.mark.parametrize(
    "make",
    [
        default_fake_quant,
        default_weight_fake_quant,
        default_per_channel_weight_fake_quant,
        FakeQuantize.with_args(observer=HistogramObserver),
    ],
    ids=["activation", "weight", "per channel", "histogram"],
)
@pytest.mark.inventory("S117")
def test_values_are_quantized_and_dequantized(make: Any) -> None:
    module = make()
    x = torch.randn(6, 5)
    y = module(x)
    scale, zero_point = module.calculate_qparams()
    axis = 0 if module.qscheme.per_channel else None
    integers = quantize(x, scale, zero_point, module.quant_min, module.quant_max, axis)
    expected = dequantize(integers, scale, zero_point, axis)
    # torch multiplies by the reciprocal of the scale: a tie, as at a symmetric range's end, may land one step away.
    steps = scale.reshape(-1, 1) if axis is not None else scale
    assert bool(((y - expected).abs() <= steps * 1.001).all())
    assert int((y != expected).sum()) <= scale.numel()
    assert torch.equal(module.scale, scale)
    assert module.zero_point.tolist() == zero_point.tolist()


@pytest.mark.inventory("S117")
def test_the_gradient_is_straight_through_and_clipped() -> None:
    module = FakeQuantize(MinMaxObserver)
    module(torch.tensor([-1.0, 1.0]))
    module.disable_observer()
    x = torch.tensor([-5.0, -0.5, 0.3, 7.0], requires_grad=True)
    (module(x) * torch.tensor([2.0, 3.0, 4.0, 5.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 3.0, 4.0, 0.0]


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.inventory("S117")
def test_the_gradient_per_channel_is_clipped_at_each_channels_ends(axis: int) -> None:
    module = FakeQuantize(PerChannelMinMaxObserver, ch_axis=axis)
    ranges, given = torch.tensor([[-1.0, 1.0], [-10.0, 10.0]]), torch.tensor([[-5.0, 0.3, 5.0], [-5.0, 0.3, 50.0]])
    module(ranges.movedim(0, axis))
    module.disable_observer()
    x = given.movedim(0, axis).contiguous().requires_grad_()
    weights = torch.tensor([[2.0, 3.0, 4.0], [5.0, 6.0, 7.0]])
    (module(x) * weights.movedim(0, axis)).sum().backward()
    assert x.grad is not None
    assert x.grad.movedim(0, axis).tolist() == [[0.0, 3.0, 0.0], [5.0, 6.0, 0.0]]


@pytest.mark.inventory("S117")
def test_the_switches() -> None:
    module = default_fake_quant()
    x = torch.randn(50)
    module.disable_fake_quant()
    assert module(x) is x
    scale = module.scale.clone()
    module.enable_fake_quant()
    module.disable_observer()
    assert not torch.equal(module(10 * x), 10 * x)
    assert torch.equal(module.scale, scale)
    assert set(module.state_dict()) >= {"fake_quant_enabled", "observer_enabled", "scale", "zero_point"}


def test_switches_of_a_whole_model() -> None:
    model = nn.Sequential(default_fake_quant(), MinMaxObserver(), ChannelMean())
    x = torch.randn(4, 3)
    model(x)
    model.apply(disable_observer)
    before = copy.deepcopy(model.state_dict())
    model(5 * x)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    model.apply(disable_fake_quant)
    assert torch.equal(model(5 * x), 5 * x)
    model.apply(enable_fake_quant)
    model.apply(enable_observer)
    model(5 * x)
    assert all(not torch.equal(model[i].state_dict()[k], before[f"{i}.{k}"]) for i, k in ((0, "scale"), (1, "max_val")))


def test_the_observer_inside_follows_the_modules_switch_alone() -> None:
    module = default_fake_quant()
    module.apply(disable_observer)
    module.load_state_dict(default_fake_quant().state_dict())
    module(torch.ones(3))
    assert float(module.activation_post_process.max_val) == 1.0


@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.inventory("S117")
def test_state_dict_deepcopy_and_pickle(seen: bool) -> None:
    first, other = default_per_channel_weight_fake_quant(), default_per_channel_weight_fake_quant()
    if seen:
        first(torch.randn(5, 2))
    other(torch.randn(3, 2))
    other.load_state_dict(first.state_dict())
    x = torch.randn(5, 2)
    expected = copy.deepcopy(first)(x)
    for module in (other, pickle.loads(pickle.dumps(first))):
        assert torch.equal(module(x), expected)


def test_empty_input_passes() -> None:
    module = default_fake_quant()
    assert module(torch.empty(0, 3)).shape == (0, 3)
    with pytest.raises(CalibrationError, match="no data"):
        module.qparams()


def test_fixed_qparams_stay_fixed() -> None:
    module = default_fixed_qparams_range_0to1_fake_quant()
    x = torch.rand(100)
    y = module(x)
    assert bool(((y - x).abs() <= 1 / 256).all())
    assert (float(module.scale), int(module.zero_point)) == (1 / 256, 0)


def test_errors_of_the_observer_name_the_place() -> None:
    module = default_fake_quant()
    module.label, module.source = "features.3", "model.py:9"
    with pytest.raises(CalibrationError, match="not finite") as caught:
        module(torch.tensor([float("nan")]))
    assert (caught.value.where, caught.value.source) == ("features.3", "model.py:9")


@pytest.mark.parametrize("observer", [NoopObserver, nn.Identity])
def test_something_that_is_no_observer_is_an_error(observer: Any) -> None:
    with pytest.raises(QConfigError, match="needs an observer"):
        FakeQuantize(observer)


def test_fixed_qparams_need_their_observer() -> None:
    with pytest.raises(QConfigError, match="FixedQParamsObserver"):
        FixedQParamsFakeQuantize(MinMaxObserver)
    assert FixedQParamsFakeQuantize(FixedQParamsObserver.with_args(scale=1.0, zero_point=0)).quant_max == 255


@pytest.mark.inventory("S098", "S099")
def test_the_defaults_follow_a_moving_average() -> None:
    activation, weight = default_fake_quant(), default_weight_fake_quant()
    for module in (activation, weight):
        assert type(module.activation_post_process) is MovingAverageMinMaxObserver
    assert (activation.dtype, activation.qscheme) == (QDType.quint8, QScheme.per_tensor_affine)
    assert (weight.dtype, weight.qscheme) == (QDType.qint8, QScheme.per_tensor_symmetric)
    assert (weight.quant_min, weight.quant_max) == (-128, 127)


@pytest.mark.inventory("S197")
@pytest.mark.parametrize("kind", ["affine", "symmetric"])
@pytest.mark.parametrize("observer", OBSERVERS)
def test_any_observer_can_be_inside(observer: Any, kind: str) -> None:
    scheme = QScheme[f"{'per_channel' if issubclass(observer, PER_CHANNEL) else 'per_tensor'}_{kind}"]
    module = FakeQuantize.with_args(observer=observer, qscheme=scheme, dtype="qint8")()
    alone = observer(qscheme=scheme, dtype="qint8")
    x = torch.randn(4, 5) + 1
    y = module(x)
    alone(x)
    assert module.qparams() == alone.qparams()
    # Half a step, or what a histogram clips at either end of the range.
    low, high = alone.qparams().qmin, alone.qparams().qmax
    shape = (-1, 1) if scheme.per_channel else (1,)
    scale, zero_point = (torch.tensor(v).reshape(shape) for v in (alone.qparams().scale, alone.qparams().zero_point))
    clipped = x.clamp((low - zero_point) * scale, (high - zero_point) * scale)
    assert bool(((y - clipped).abs() <= 0.5001 * scale).all())
    assert (int(torch.as_tensor(module.zero_point).abs().max()) == 0) == (kind == "symmetric")
