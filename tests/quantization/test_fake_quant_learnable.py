"""LSQ, LSQ+ and PACT: gradients against a float64 reference, initialization, and what conversion takes."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from qfx.errors import CalibrationError, QConfigError
from qfx.quantization import (
    FixedQParamsObserver,
    HistogramObserver,
    LearnableFakeQuantize,
    MinMaxObserver,
    PACTFakeQuantize,
    PerChannelMinMaxObserver,
    default_lsq_fake_quant,
    default_lsq_plus_fake_quant,
    default_lsq_weight_fake_quant,
    default_pact_fake_quant,
)

DEFAULTS = [default_lsq_fake_quant, default_lsq_plus_fake_quant, default_lsq_weight_fake_quant]


def surrogate(
    x: Tensor, scale: Tensor, zero_point: Tensor, at: tuple[Tensor, Tensor, Tensor], low: int, high: int
) -> Any:
    """The function whose derivative the straight-through estimator is: rounding moves by what it did ``at`` a point.

    In range ``(x / scale + residual) * scale``, clamped ``(end - zero_point) * scale``.
    """
    x0, scale0, zero0 = (t.detach() for t in at)
    steps = x0 / scale0
    residual, whole = torch.round(steps) - steps, torch.round(steps) + zero0
    inside = (x / scale + residual) * scale
    return torch.where(
        whole < low, (low - zero_point) * scale, torch.where(whole > high, (high - zero_point) * scale, inside)
    )


def learnable(per_channel: bool, factor: bool = False) -> LearnableFakeQuantize:
    observer: Any = PerChannelMinMaxObserver if per_channel else MinMaxObserver
    extra = {"ch_axis": 1, "qscheme": "per_channel_affine"} if per_channel else {}
    return LearnableFakeQuantize(observer, -8, 7, dtype="qint8", learn_zero_point=True, scale_gradients=factor, **extra)


def initialized(per_channel: bool, dtype: torch.dtype) -> LearnableFakeQuantize:
    module = learnable(per_channel)
    module(torch.randn(6, 3, 5))
    module = module.to(dtype)
    module.scale.data.mul_(0.6)
    module.zero_point.data.copy_(torch.tensor([1.0, -3.0, 2.0])[: module.zero_point.numel()])
    return module


@pytest.mark.parametrize("per_channel", [False, True])
def test_the_reference_is_differentiated_right(per_channel: bool) -> None:
    module = initialized(per_channel, torch.float64)
    shape = (1, -1, 1) if per_channel else (1,)
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    given = x, module.scale.reshape(shape).detach().requires_grad_(), module.zero_point.reshape(shape).detach()
    point = tuple(t.detach().clone() for t in given)
    given = *given[:2], given[2].requires_grad_()
    assert torch.autograd.gradcheck(lambda *t: surrogate(*t, point, -8, 7), given)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
def test_gradients_are_those_of_the_straight_through_estimator(
    per_channel: bool, dtype: torch.dtype, layout: str
) -> None:
    module = initialized(per_channel, dtype)
    x = (1.5 * torch.randn(5, 3, 40)).to(dtype)
    x = (x.transpose(1, 2).contiguous().transpose(1, 2) if layout == "channels last" else x).requires_grad_()
    g = torch.randn(x.shape).to(dtype)
    gradients = torch.autograd.grad(module(x), (x, module.scale, module.zero_point), g)
    shape = (1, -1, 1) if per_channel else (1,)
    held = [t.detach().double() for t in (x, module.scale, module.zero_point)]
    wide = [held[0].requires_grad_(), held[1].reshape(shape).requires_grad_(), held[2].reshape(shape).requires_grad_()]
    y = surrogate(*wide, tuple(wide), -8, 7)
    expected = torch.autograd.grad(y, wide, g.double())
    blocked = expected[0] == 0
    assert bool(blocked.any())
    assert not bool(blocked.all())
    # Sums of 600 terms, each rounded once in the module's dtype.
    tolerance = 600 * torch.finfo(dtype).eps
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours.double().flatten(), theirs.flatten(), rtol=tolerance, atol=tolerance)


def test_gradients_of_scale_and_zero_point_are_scaled_by_count_and_range() -> None:
    plain, scaled = learnable(False), learnable(False, factor=True)
    x, g = torch.randn(6, 50), torch.randn(6, 50)
    for module in (plain, scaled):
        module(x)
        module.scale.data.mul_(0.5)
        module(x).backward(g)
    assert plain.scale.grad is not None
    assert scaled.scale.grad is not None
    torch.testing.assert_close(scaled.scale.grad, plain.scale.grad / math.sqrt(300 * 7))
    torch.testing.assert_close(scaled.zero_point.grad, plain.zero_point.grad / math.sqrt(300 * 7))


@pytest.mark.parametrize("threads", [1, 2])
def test_sums_do_not_depend_on_the_number_of_threads(threads: int) -> None:
    before = torch.get_num_threads()
    module = default_lsq_plus_fake_quant()
    x, g = torch.randn(64, 3000), torch.randn(64, 3000)
    module(x[:1] / 2)

    def gradient() -> Tensor:
        return torch.autograd.grad(module(x), module.scale, g)[0]

    try:
        torch.set_num_threads(threads)
        ours = gradient()
        torch.set_num_threads(3 - threads)
        assert torch.equal(ours, gradient())
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_train(dtype: torch.dtype) -> None:
    module, wide = default_lsq_plus_fake_quant(), default_lsq_plus_fake_quant()
    x = torch.randn(40, 50).to(dtype)
    y, z = module(x), wide(x.float())
    assert torch.equal(y, z.to(dtype))
    g = torch.randn(x.shape).to(dtype)
    y.backward(g)
    z.backward(g.float())
    assert torch.equal(module.scale.grad, wide.scale.grad)


def test_first_values_come_from_the_mean_magnitude() -> None:
    x = torch.relu(torch.randn(8, 30))
    module = default_lsq_fake_quant()
    module(x)
    assert float(module.scale.detach()) == pytest.approx(float(2 * x.mean() / math.sqrt(255)))
    assert module.qparams().zero_point == 0
    weight = torch.randn(5, 3, 3, 3)
    per_channel = default_lsq_weight_fake_quant()
    per_channel(weight)
    torch.testing.assert_close(per_channel.scale.detach(), 2 * weight.abs().mean((1, 2, 3)) / math.sqrt(127))


@pytest.mark.parametrize("observer", [MinMaxObserver, HistogramObserver])
def test_first_values_come_from_the_observer(observer: Any) -> None:
    x = torch.randn(300) + 1
    module, alone = LearnableFakeQuantize(observer, learn_zero_point=True), observer()
    module(x)
    alone(x)
    assert module.qparams() == alone.qparams()
    module(10 * x)
    assert module.qparams() == alone.qparams()


def test_the_parameter_that_an_optimizer_holds_is_the_one_initialized() -> None:
    module = default_lsq_weight_fake_quant()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    module(torch.randn(4, 9)).square().sum().backward()
    before = module.scale.detach().clone()
    optimizer.step()
    assert module.scale.shape == (4,)
    assert not torch.equal(module.scale, before)


@pytest.mark.parametrize("make", DEFAULTS)
def test_training_lowers_the_error_and_ends_in_valid_qparams(make: Any) -> None:
    torch.manual_seed(1)
    module, x = make(quant_min=-8, quant_max=7, dtype="qint8"), torch.randn(8, 200)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    errors = []
    for _ in range(60):
        optimizer.zero_grad()
        error = (module(x) - x).square().mean()
        error.backward()
        optimizer.step()
        errors.append(float(error.detach()))
    assert errors[-1] < 0.9 * errors[0]
    qparams = module.qparams()
    scales = qparams.scale if isinstance(qparams.scale, tuple) else (qparams.scale,)
    zeros = qparams.zero_point if isinstance(qparams.zero_point, tuple) else (qparams.zero_point,)
    assert all(s > 0 for s in scales)
    assert all(isinstance(z, int) and -8 <= z <= 7 for z in zeros)


def test_a_scale_below_zero_and_a_zero_point_outside_give_valid_qparams() -> None:
    module = default_lsq_plus_fake_quant()
    module(torch.randn(10))
    module.scale.data.fill_(-1.0)
    module.zero_point.data.fill_(300.4)
    assert module.qparams().scale > 0
    assert module.qparams().zero_point == 255
    x = torch.randn(10, requires_grad=True)
    module(x).sum().backward()
    assert bool(module.scale.grad.isfinite().all())


def test_an_uninitialized_one_has_no_qparams() -> None:
    module = default_lsq_fake_quant()
    module.label = "fc"
    assert module(torch.empty(0, 3)).shape == (0, 3)
    with pytest.raises(CalibrationError, match="no data") as caught:
        module.qparams()
    assert caught.value.where == "fc"
    with pytest.raises(CalibrationError, match="not finite"):
        module(torch.tensor([math.nan]))


@pytest.mark.parametrize("make", DEFAULTS)
def test_state_travels(make: Any) -> None:
    first, second = make(), make()
    x = torch.randn(4, 7)
    expected = first(x)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second(x), expected)
    assert torch.equal(copy.deepcopy(first)(x), expected)
    assert second.qparams() == first.qparams()


def test_the_switches_of_a_learnable_one() -> None:
    module = default_lsq_fake_quant()
    x = torch.randn(30)
    module.disable_fake_quant()
    assert module(x) is x
    module.enable_fake_quant()
    before = module.scale.detach().clone()
    assert not torch.equal(module(3 * x), 3 * x)
    assert torch.equal(module.scale, before)


@pytest.mark.parametrize(
    "arguments",
    [
        {"observer": FixedQParamsObserver.with_args(scale=1.0, zero_point=0)},
        {"init": "median"},
        {"qscheme": "per_tensor_symmetric", "learn_zero_point": True},
        {"dtype": "qint8", "quant_min": -8, "quant_max": 0},
    ],
)
def test_arguments_that_do_not_fit_are_errors(arguments: dict[str, Any]) -> None:
    with pytest.raises(QConfigError, match="LearnableFakeQuantize needs"):
        LearnableFakeQuantize(**arguments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pact_clips_and_learns_its_end(dtype: torch.dtype) -> None:
    module = PACTFakeQuantize(alpha=2.0, quant_max=15).to(dtype)
    x = torch.cat([3 * torch.randn(300), torch.tensor([0.0, 2.0, 2.01, -0.0])]).to(dtype).requires_grad_()
    y = module(x)
    g = torch.randn(x.shape).to(dtype)
    y.backward(g)
    step = module.alpha.detach() / 15
    assert torch.equal(y, torch.round(x.detach().double().clamp(0, 2) / step.double().float()).to(dtype) * step.float())
    assert x.grad is not None
    assert torch.equal(x.grad, torch.where((x > 0) & (x < 2), g, 0.0))
    assert module.alpha.grad is not None
    eps = torch.finfo(torch.float32).eps
    expected = torch.where(x >= 2, g, 0.0).double().sum()
    torch.testing.assert_close(module.alpha.grad.double()[0], expected, rtol=1000 * eps, atol=1000 * eps)
    assert (module.qparams().quant_min, module.qparams().quant_max) == (0, 15)
    assert module.qparams().zero_point == 0


def test_pact_without_rounding_is_a_clipping_activation() -> None:
    module = default_pact_fake_quant()
    module.disable_fake_quant()
    x = torch.tensor([-1.0, 0.0, 3.0, 6.0, 9.0], requires_grad=True)
    module(x).sum().backward()
    assert x.grad is not None
    assert module(x).tolist() == [0.0, 0.0, 3.0, 6.0, 6.0]
    assert x.grad.tolist() == [0.0, 0.0, 1.0, 0.0, 0.0]
    assert module.alpha.grad.tolist() == [2.0]


def test_the_penalty_of_pact_is_a_weight_decay() -> None:
    module = PACTFakeQuantize(alpha=3.0, decay=0.1)
    module.penalty().backward()
    assert float(module.alpha.grad) == pytest.approx(2 * 0.1 * 3.0)


@pytest.mark.parametrize("arguments", [{"alpha": 0.0}, {"alpha": math.inf}, {"quant_max": 256}, {"decay": -1.0}])
def test_numbers_that_pact_cannot_use_are_errors(arguments: dict[str, Any]) -> None:
    with pytest.raises(QConfigError, match="PACTFakeQuantize can't use"):
        PACTFakeQuantize(**arguments)


def test_learned_qparams_train_in_a_layer() -> None:
    weight, activation = default_lsq_weight_fake_quant(), default_lsq_plus_fake_quant()
    layer = nn.Linear(6, 4)
    x = torch.randn(10, 6)
    nn.functional.linear(activation(x), weight(layer.weight), layer.bias).square().sum().backward()
    for parameter in (*weight.parameters(), *activation.parameters(), *layer.parameters()):
        assert parameter.grad is not None
        assert bool(parameter.grad.isfinite().all())
