"""Fake quantization on the CPU's kernels, against exact arithmetic and against the same in torch operations."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from qfx.errors import CalibrationError, QConfigError
from qfx.ops.arithmetic import dequantize, quantize
from qfx.quantization import (
    FakeQuantize,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    PerChannelMinMaxObserver,
    default_fake_quant,
    default_per_channel_weight_fake_quant,
)
from qfx.quantization.fake_quantize import formula, kernel

OBSERVERS = [
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    PerChannelMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
]
LAYOUTS = ["contiguous", "channels last", "permuted", "slice", "expanded"]
HALF_TYPES = [torch.bfloat16, torch.float16]


def laid_out(x: Tensor, layout: str) -> Tensor:
    """The values of ``x`` ``[N, C, H, W]`` in another layout of memory."""
    if layout == "channels last":
        return x.contiguous(memory_format=torch.channels_last)
    if layout == "permuted":
        return x.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0)
    if layout == "slice":
        return torch.cat([x, x], dim=3)[..., : x.shape[3]]
    if layout == "expanded":
        return x[:1].expand(3, *x.shape[1:])
    return x


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["affine", "symmetric"])
@pytest.mark.parametrize("observer", OBSERVERS)
def test_statistics_values_and_gradients_are_exact(observer: Any, kind: str, layout: str, threads: int) -> None:
    per_channel = issubclass(observer, PerChannelMinMaxObserver)
    scheme = f"per_{'channel' if per_channel else 'tensor'}_{kind}"
    extra = {"ch_axis": 1} if per_channel else {}
    module = FakeQuantize(observer, qscheme=scheme, dtype="qint8", **extra)
    alone = observer(qscheme=scheme, dtype="qint8", **extra)
    axis = 1 if per_channel else None
    for factor in (1.0, 0.5, 3.0):
        x = laid_out(torch.randn(4, 5, 9, 33) * factor + 0.3, layout).requires_grad_()
        g = torch.randn(x.shape)
        y = module(x)
        alone(x)
        (gradient,) = torch.autograd.grad(y, x, g)
        scale, zero_point = alone.calculate_qparams()
        assert torch.equal(module.scale, scale)
        assert module.zero_point.tolist() == zero_point.tolist()
        low, high = module.quant_min, module.quant_max
        one = (scale, zero_point) if per_channel else (scale[0], zero_point[0])
        assert torch.equal(y, dequantize(quantize(x, *one, low, high, axis), *one, axis))
        integers = quantize(x, *one, -(2**31), 2**31, axis)
        assert torch.equal(gradient, torch.where((integers >= low) & (integers <= high), g, 0.0))
        assert (float(g.sum() - gradient.sum()) != 0) == bool(((integers < low) | (integers > high)).any())


@pytest.mark.parametrize("layout", ["contiguous", "channels last", "permuted"])
def test_a_dense_input_is_not_copied_and_keeps_its_layout(layout: str) -> None:
    x = laid_out(torch.randn(4, 5, 6, 7), layout)
    assert kernel.dense(x) is x
    assert default_fake_quant()(x).stride() == x.stride()


@pytest.mark.parametrize("dtype", HALF_TYPES)
@pytest.mark.parametrize("per_channel", [False, True])
def test_half_types_are_rounded_as_their_float32_values(dtype: torch.dtype, per_channel: bool) -> None:
    make = default_per_channel_weight_fake_quant if per_channel else default_fake_quant
    module, wide = make(), make()
    for factor in (1.0, 2.0):
        x = (torch.randn(7, 300) * factor).to(dtype).requires_grad_()
        same = x.detach().float().requires_grad_()
        y, expected = module(x), wide(same)
        assert y.dtype == dtype
        assert torch.equal(y, expected.to(dtype))
        assert torch.equal(module.scale, wide.scale)
        assert module.scale.dtype == torch.float32
        g = torch.randn(x.shape).to(dtype)
        (ours,), (theirs,) = torch.autograd.grad(y, x, g), torch.autograd.grad(expected, same, g.float())
        assert torch.equal(ours.float(), theirs)


def test_under_autocast_the_dtype_is_the_inputs() -> None:
    module, layer = default_fake_quant(), torch.nn.Linear(8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        y = module(layer(torch.randn(4, 8)))
    assert y.dtype == torch.bfloat16
    assert module.activation_post_process.min_val.dtype == torch.float32
    y.float().sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize("dtype", [torch.float32, *HALF_TYPES])
def test_kernel_and_formula_agree(dtype: torch.dtype) -> None:
    rounding = formula.Rounding(-8, 7, None)
    scale, zero_point = torch.tensor([0.173]), torch.tensor([3], dtype=torch.int32)
    x = torch.cat([(torch.arange(-40, 40) + 0.5) * scale, torch.randn(1000), torch.tensor([math.inf, -math.inf, -0.0])])
    x = x.to(dtype)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    outcomes: list[int] = []
    y = kernel.Rounded.apply(ours, kernel.Grid(scale, zero_point, rounding), None, False, outcomes)
    z = formula.fake_quantize(theirs, scale, zero_point, rounding)
    assert torch.equal(y, z)
    assert outcomes == [kernel.SOME_BLOCKED]
    g = torch.randn(x.shape).to(dtype)
    assert torch.equal(torch.autograd.grad(y, ours, g)[0], torch.autograd.grad(z, theirs, g)[0])


def test_nan_stays_nan_where_nothing_observes() -> None:
    module = default_fake_quant()
    module(torch.randn(10))
    module.disable_observer()
    x = torch.tensor([0.0, math.nan, math.inf])
    assert module(x).isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("make", [default_fake_quant, default_per_channel_weight_fake_quant])
def test_a_value_that_is_not_finite_is_named_and_changes_no_statistics(make: Any, bad: float) -> None:
    module = make()
    module.label = "layer1.0"
    module(torch.randn(3, 4))
    before = copy.deepcopy(module.state_dict())
    x = torch.randn(3, 4)
    x[2, 1] = bad
    with pytest.raises(CalibrationError, match="not finite") as caught:
        module(x)
    assert caught.value.where == "layer1.0"
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_another_number_of_channels_is_an_error() -> None:
    module = default_per_channel_weight_fake_quant()
    module(torch.randn(3, 4))
    with pytest.raises(CalibrationError, match="met 5 channels after 3"):
        module(torch.randn(5, 4))
    with pytest.raises(QConfigError, match="ch_axis=2"):
        FakeQuantize(PerChannelMinMaxObserver, ch_axis=2)(torch.randn(3, 4))


def test_the_gradient_can_be_differentiated_again() -> None:
    module = default_fake_quant()
    module(torch.randn(50))
    x = (3 * torch.randn(50)).requires_grad_()
    w = torch.ones(50, requires_grad=True)
    (g,) = torch.autograd.grad((module(x) * w * w).sum(), x, create_graph=True)
    (again,) = torch.autograd.grad(g.sum(), w)
    assert set(again.tolist()) == {0.0, 2.0}


def test_a_gradient_of_another_layout_lands_where_it_belongs() -> None:
    module = FakeQuantize(MinMaxObserver)
    module(torch.tensor([-1.0, 1.0]))
    module.disable_observer()
    x = (2 * torch.randn(2, 3, 4, 5)).contiguous(memory_format=torch.channels_last).requires_grad_()
    g = torch.randn(2, 3, 4, 5)
    (gradient,) = torch.autograd.grad(module(x), x, g)
    inside = (torch.round(x.double() / module.scale.double()) + module.zero_point).clamp(0, 255)
    assert torch.equal(
        gradient, torch.where(inside == torch.round(x.double() / module.scale.double()) + module.zero_point, g, 0.0)
    )


@pytest.mark.parametrize(("lo", "hi"), [(0.0, 6.0), (0.0, math.inf), (-1.0, 1.0), (-math.inf, 2.0)])
@pytest.mark.parametrize("in_place", [False, True])
def test_an_activation_in_front_is_part_of_the_pass(lo: float, hi: float, in_place: bool) -> None:
    fused, apart = default_fake_quant(), default_fake_quant()
    for factor in (1.0, 4.0):
        x = factor * torch.randn(6, 700)
        ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
        given = ours * 1.0
        y = fused.activated(given, lo, hi, in_place=in_place)
        z = apart(formula.Gate(lo, hi).apply(theirs))
        assert torch.equal(y, z)
        assert (y.data_ptr() == given.data_ptr()) == in_place
        assert torch.equal(fused.scale, apart.scale)
        g = torch.randn(x.shape)
        assert torch.equal(torch.autograd.grad(y, ours, g)[0], torch.autograd.grad(z, theirs, g)[0])


def test_a_switch_written_by_hand_is_seen() -> None:
    module = default_fake_quant()
    module(torch.ones(3))
    module.observer_enabled[0] = 0
    module(5 * torch.ones(3))
    assert float(module.activation_post_process.max_val) == 1.0
    module.fake_quant_enabled.zero_()
    x = torch.randn(3)
    assert module(x) is x
    other = default_fake_quant()
    other.load_state_dict(module.state_dict())
    assert other(x) is x
    for same in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        same.observer_enabled[0] = 1
        same(x)
        assert float(same.activation_post_process.max_val) != 1.0


def test_what_all_processes_observed_is_observed() -> None:
    here, joint = FakeQuantize(PerChannelMinMaxObserver, ch_axis=1), FakeQuantize(PerChannelMinMaxObserver, ch_axis=1)
    other = torch.randn(6, 3)
    seen: list[Tensor] = []

    def together(extremes: Tensor) -> None:
        seen.append(extremes.clone())
        theirs = torch.stack([other.amin(0), -other.amax(0)])
        extremes.copy_(torch.minimum(extremes, theirs))

    here.synchronize = together
    x = torch.randn(4, 3)
    y = here(x)
    joint(torch.cat([x, other]))
    assert torch.equal(seen[0], torch.stack([x.amin(0), -x.amax(0)]))
    assert torch.equal(here.scale, joint.scale)
    assert torch.equal(y, joint.rounded(x))


def test_an_empty_batch_takes_part_in_what_all_observe() -> None:
    module = default_fake_quant()

    def together(extremes: Tensor) -> None:
        extremes.copy_(torch.minimum(extremes, torch.tensor([[-1.0], [-2.0]])))

    module.synchronize = together
    assert module(torch.empty(0, 3)).shape == (0, 3)
    assert float(module.activation_post_process.min_val) == -1.0
    assert float(module.activation_post_process.max_val) == 2.0
    assert float(module.scale) == pytest.approx(3 / 127)


def test_an_observer_of_a_subclass_is_asked_itself() -> None:
    class Halved(MinMaxObserver):
        def _merged(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
            return low / 2, high / 2

    module = FakeQuantize(Halved)
    module(torch.tensor([-1.0, 1.0]))
    module(torch.tensor([-4.0, 4.0]))
    assert float(module.activation_post_process.max_val) == 2.0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_range_that_kernels_cannot_take_is_rounded_all_the_same(dtype: torch.dtype) -> None:
    module = FakeQuantize(MinMaxObserver, dtype="qint32", quant_min=-1000, quant_max=1000)
    x = torch.randn(100, dtype=dtype)
    y = module(x)
    assert y.dtype == dtype
    assert bool(((y - x).abs() <= float(module.scale) * 0.5001).all())


def test_rounding_alone_observes_nothing_and_ignores_the_switches() -> None:
    module = default_fake_quant()
    x = torch.randn(20)
    expected = module(x)
    module.disable_fake_quant()
    before = copy.deepcopy(module.state_dict())
    assert torch.equal(module.rounded(x), expected)
    module.rounded(9 * x)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
