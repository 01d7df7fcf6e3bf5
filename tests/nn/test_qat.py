"""Layers for quantization-aware training, against the fake-quantized computation written out."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import qfx.nn.intrinsic as nni
import qfx.nn.intrinsic.qat as nniqat
import qfx.nn.intrinsic.quantized as nniq
import qfx.nn.qat as nnqat
import qfx.nn.quantized as nnq
from qfx.errors import ConversionError, QConfigError
from qfx.quantization import (
    FakeQuantize,
    QConfig,
    convert,
    default_qconfig,
    disable_observer,
    get_default_qat_qconfig,
    prepare_qat,
)
from tests.nn.quantized.layers import codes, convolution
from tests.nn.quantized.layers import reference as integer_reference
from tests.nn.test_intrinsic import members, shape

QCONFIG = get_default_qat_qconfig()
PLAIN = [
    pytest.param("Linear", marks=pytest.mark.inventory("S073", "S216")),
    pytest.param("Conv2d", marks=pytest.mark.inventory("S074", "S216")),
    "Conv1d",
    "Conv3d",
]
WITH_NORM = [
    pytest.param("ConvBn2d", marks=pytest.mark.inventory("S065")),
    pytest.param("ConvBnReLU2d", marks=pytest.mark.inventory("S066")),
    "ConvBn1d",
    "ConvBnReLU1d",
    "ConvBn3d",
    "ConvBnReLU3d",
]
WITH_RELU = [
    pytest.param("ConvReLU2d", marks=pytest.mark.inventory("S067")),
    pytest.param("LinearReLU", marks=pytest.mark.inventory("S068")),
    "ConvReLU1d",
    "ConvReLU3d",
]


def layer(name: str, **kwargs: Any) -> nn.Module:
    return nn.Linear(6, 4, **kwargs) if name == "Linear" else getattr(nn, name)(3, 4, 3, padding=1, **kwargs)


def inputs(name: str) -> Tensor:
    return torch.randn(shape("LinearReLU" if name == "Linear" else name))


def trained(name: str, training: bool = True) -> Any:
    """The training version of the fused container ``name``."""
    container = getattr(nni, name)(*members(name))
    container.qconfig = QCONFIG
    return getattr(nniqat, name).from_float(container.train(training)).train(training)


def rounded(weight: Tensor, fake_quant: Any) -> Tensor:
    """What the module's fake quantization makes of ``weight`` without observing it again."""
    quiet = copy.deepcopy(fake_quant)
    quiet.disable_observer()
    return quiet(weight)


def computed(module: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if isinstance(module, nn.Linear):
        return F.linear(x, weight, bias)
    return getattr(F, f"conv{weight.dim() - 2}d")(x, weight, bias, padding=1)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_layer_multiplies_the_rounded_weight(name: str, bias: bool) -> None:
    source = layer(name, bias=bias)
    source.qconfig = QCONFIG
    module = getattr(nnqat, name).from_float(source)
    x = inputs(name)
    result = module(x)
    assert torch.equal(result, computed(module, x, rounded(module.weight, module.weight_fake_quant), module.bias))
    assert not torch.equal(result, source(x))
    assert module.weight is source.weight


@pytest.mark.parametrize("name", PLAIN)
def test_the_gradient_passes_the_rounding_straight_through(name: str) -> None:
    module = getattr(nnqat, name)(*((6, 4) if name == "Linear" else (3, 4, 3)), qconfig=QCONFIG)
    x = inputs(name)
    module(x)
    weight = rounded(module.weight, module.weight_fake_quant).detach().requires_grad_()
    plain = F.linear if name == "Linear" else getattr(F, f"conv{name[-2]}d")
    (expected,) = torch.autograd.grad(plain(x, weight, module.bias).square().sum(), weight)
    module.zero_grad()
    module(x).square().sum().backward()
    low, high = module.weight_fake_quant.quant_min, module.weight_fake_quant.quant_max
    scale = module.weight_fake_quant.scale.reshape(-1, *[1] * (module.weight.dim() - 1))
    steps = module.weight.double() / scale.double()
    inside = (steps.round() >= low) & (steps.round() <= high)
    torch.testing.assert_close(module.weight.grad, expected * inside)


@pytest.mark.parametrize("name", PLAIN)
def test_to_float_gives_the_float_layer_back(name: str) -> None:
    source = layer(name)
    source.qconfig = QCONFIG
    back = getattr(nnqat, name).from_float(source).to_float()
    assert type(back) is type(source)
    x = inputs(name)
    assert torch.equal(back(x), source(x))
    assert repr(back) == repr(source)


@pytest.mark.parametrize("name", PLAIN)
def test_a_layer_needs_a_qconfig_that_fake_quantizes(name: str) -> None:
    cls = getattr(nnqat, name)
    with pytest.raises(QConfigError, match="has no qconfig"):
        cls.from_float(layer(name))
    with pytest.raises(QConfigError, match="has no qconfig"):
        cls(6, 4, 1) if name != "Linear" else cls(6, 4)
    observing = layer(name)
    observing.qconfig = default_qconfig
    with pytest.raises(QConfigError, match="fake-quantize"):
        cls.from_float(observing)
    with pytest.raises(ConversionError, match="does not take a ReLU"):
        cls.from_float(nn.ReLU())


@pytest.mark.parametrize("name", WITH_RELU)
def test_a_layer_with_relu_is_relu_of_the_layer(name: str) -> None:
    module = trained(name)
    x = torch.randn(shape(name))
    result = module(x)
    expected = torch.relu(computed(module, x, rounded(module.weight, module.weight_fake_quant), module.bias))
    assert torch.equal(result, expected)
    result.sum().backward()
    assert module.weight.grad is not None
    assert bool(module.weight.grad.abs().sum() > 0)
    assert type(module.to_float()) is getattr(nni, name)


@pytest.mark.parametrize("name", [*PLAIN, *WITH_RELU])
def test_the_result_is_rounded_and_converts_to_the_same_integers(name: str) -> None:
    model = nn.Sequential(getattr(nni, name)(*members(name)) if "ReLU" in name else layer(name)).train()
    model.qconfig = QCONFIG
    prepared = prepare_qat(model)
    module = prepared[0]
    assert type(module) is getattr(nniqat if "ReLU" in name else nnqat, name)
    given = codes(*inputs(name).shape)
    x = given.dequantize()
    prepared(x)
    prepared.apply(disable_observer)
    weight = rounded(module.weight, module.weight_fake_quant)
    y = computed(module, x, weight, module.bias)
    y = torch.relu(y) if "ReLU" in name else y
    result = module(x)
    assert torch.equal(result, rounded(y, module.activation_post_process))
    assert not torch.equal(result, y)
    made = convert(prepared.eval())[0]
    assert type(made) is getattr(nniq if "ReLU" in name else nnq, name)
    assert torch.equal(made.weight().dequantize(), weight)
    op, attributes = ("linear", {}) if "Linear" in name else ("conv", convolution(weight.dim() - 2, padding=1))
    integers = made(given)
    assert torch.equal(integers.int_repr(), integer_reference(op, made, given, **attributes))
    # The bias is rounded to units of the products' scale: a sum next to a half goes another way.
    assert float((integers.dequantize() - result).detach().abs().max()) <= 1.001 * made.scale


def reference(module: Any, x: Tensor) -> Tensor:
    """Batch norm of the convolution whose weight is rounded as it will be folded."""
    factor = module.bn.weight / torch.sqrt(module.bn.running_var + module.bn.eps)
    across = (-1, *[1] * (module.weight.dim() - 1))
    weight = rounded(module.weight * factor.reshape(across), module.weight_fake_quant) / factor.reshape(across)
    y = copy.deepcopy(module.bn)(computed(module, x, weight, module.bias))
    return torch.relu(y) if "ReLU" in type(module).__name__ else y


@pytest.mark.parametrize("name", WITH_NORM)
class TestWithBatchNorm:
    def test_training_normalizes_the_rounded_convolution_by_the_batch(self, name: str) -> None:
        module = trained(name)
        x = torch.randn(shape(name))
        module(x)
        module.apply(disable_observer)
        expected = reference(module, x)
        # Dividing the weight or the result by the factor differs in float rounding only.
        torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-5)

    def test_statistics_follow_the_convolution_itself(self, name: str) -> None:
        """With weights that are hardly rounded, running statistics are those of the float layers."""
        fine = QConfig(QCONFIG.activation, FakeQuantize.with_args(dtype="qint32", qscheme="per_tensor_symmetric"))
        container = getattr(nni, name)(*members(name)).train()
        container.qconfig = fine
        module = getattr(nniqat, name).from_float(copy.deepcopy(container)).train()
        x = torch.randn(shape(name))
        container(x)
        module(x)
        torch.testing.assert_close(module.bn.running_mean, container[1].running_mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(module.bn.running_var, container[1].running_var, rtol=1e-4, atol=1e-5)

    def test_evaluation_equals_the_folded_convolution(self, name: str) -> None:
        module = trained(name, training=False)
        x = torch.randn(shape(name))
        result = module(x)
        folded = module.plain()
        step = float(module.weight_fake_quant.scale.max())
        y = computed(module, x, rounded(folded.weight, module.weight_fake_quant), folded.bias)
        expected = torch.relu(y) if "ReLU" in name else y
        # Folding in float64 may round another way a weight that lies between two integers, as the largest always does.
        torch.testing.assert_close(result, expected.detach(), rtol=1e-4, atol=2 * step * float(x.abs().max()))

    def test_gradients_reach_weight_and_batch_norm(self, name: str) -> None:
        module = trained(name)
        module(torch.randn(shape(name))).square().sum().backward()
        for parameter in (module.weight, module.bn.weight, module.bn.bias):
            assert parameter.grad is not None
            assert bool(parameter.grad.isfinite().all())
        assert bool((module.bn.weight.grad != 0).any())

    def test_a_channel_with_gamma_zero_can_still_be_trained(self, name: str) -> None:
        module = trained(name)
        with torch.no_grad():
            module.bn.weight[0] = 0.0
            module.bn.bias[0] = 1.0
        x = torch.randn(shape(name))
        result = module(x)
        assert bool(result.isfinite().all())
        torch.testing.assert_close(result[:, 0], torch.ones_like(result[:, 0]))
        # The square of one element: the sum over a channel of what batch norm makes zero-mean would have no gradient.
        result[0, 0].flatten()[0].square().backward()
        assert float(module.bn.weight.grad[0]) != 0.0

    def test_a_channel_with_gamma_zero_converts_to_zeros(self, name: str) -> None:
        model = nn.Sequential(getattr(nni, name)(*members(name))).train()
        model.qconfig = QCONFIG
        prepared = prepare_qat(model)
        with torch.no_grad():
            prepared[0].bn.weight[0] = 0.0
        prepared(torch.randn(shape(name)))
        assert int(convert(prepared.eval())[0].weight().int_repr()[0].abs().max()) == 0

    def test_frozen_statistics_stay_and_normalize(self, name: str) -> None:
        module = trained(name)
        x = torch.randn(shape(name))
        module.apply(nniqat.freeze_bn_stats)
        before = copy.deepcopy(module.bn.state_dict())
        module.train()
        frozen = module(x)
        assert all(torch.equal(v, before[k]) for k, v in module.bn.state_dict().items())
        module.apply(disable_observer)
        assert torch.equal(frozen, module.eval()(x))
        module.train().apply(nniqat.update_bn_stats)
        module(x)
        assert not torch.equal(module.bn.running_mean, before["running_mean"])
        module.reset_running_stats()
        assert module.bn.running_mean.abs().sum() == 0

    def test_converts_to_its_quantized_module(self, name: str) -> None:
        model = nn.Sequential(getattr(nni, name)(*members(name))).train()
        model.qconfig = QCONFIG
        prepared = prepare_qat(model)
        assert type(prepared[0]) is getattr(nniqat, name)
        prepared(torch.randn(shape(name)))
        converted = convert(prepared.eval())
        plain = name.replace("Bn", "")
        assert type(converted[0]) is (getattr(nniq, plain) if "ReLU" in name else getattr(nnq, plain))
        factor = prepared[0].bn.weight / torch.sqrt(prepared[0].bn.running_var + prepared[0].bn.eps)
        bias = (prepared[0].bias - prepared[0].bn.running_mean) * factor + prepared[0].bn.bias
        torch.testing.assert_close(converted[0].bias(), bias.detach())
        assert torch.equal(converted[0].weight().q_per_channel_scales(), prepared[0].weight_fake_quant.scale)


@pytest.mark.parametrize("name", [*WITH_NORM, *WITH_RELU])
def test_state_copies_and_pickles(name: str) -> None:
    module, other = trained(name), trained(name)
    x = torch.randn(shape(name))
    module(x)
    module.apply(disable_observer)
    other.load_state_dict(module.state_dict())
    module.eval()
    expected = module(x)
    for twin in (other.eval(), copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin(x), expected)
    names = {"weight", "bias", "weight_fake_quant.scale", "weight_fake_quant.zero_point"}
    assert names | ({"bn.running_var"} if "Bn" in name else set()) <= set(module.state_dict())


@pytest.mark.parametrize("name", ["ConvBn2d", "ConvBnReLU1d"])
def test_constructors_take_the_arguments_of_the_convolution(name: str) -> None:
    module = getattr(nniqat, name)(
        3, 8, 3, stride=2, bias=False, eps=1e-3, momentum=0.2, freeze_bn=True, qconfig=QCONFIG
    )
    assert (module.stride[0], module.bias, module.bn.eps, module.bn.momentum) == (2, None, 1e-3, 0.2)
    assert not module.bn.training
    assert module(torch.randn(2, 3, *[9] * (module.weight.dim() - 2))).shape[1] == 8


@pytest.mark.inventory("S184")
def test_training_runs_on_another_device() -> None:
    """The meta device stands for any that is not the CPU: shapes and devices are right, nothing is computed."""
    module = trained("ConvBnReLU2d")
    module.apply(disable_observer)  # a range check reads values, which meta tensors do not have
    module.to("meta")
    module.weight_fake_quant.enable_fake_quant(False)
    assert {t.device.type for t in module.state_dict().values()} == {"meta"}
