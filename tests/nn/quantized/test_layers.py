"""Quantized layers against the op table's exact integer reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import qfx
import qfx.nn.intrinsic.quantized as nniq
import qfx.nn.quantized as nnq
from qfx.errors import CalibrationError, ConversionError, InputError, QuantizationError
from qfx.ir.types import QDType, QParams
from qfx.ops.arithmetic import quantize
from qfx.quantization import (
    DeQuantStub,
    QConfig,
    QuantStub,
    default_weight_observer,
    get_default_qconfig,
    prepare,
)
from qfx.quantization.observer import MinMaxObserver
from qfx.tensor import QTensor
from tests.nn.quantized.layers import (
    X,
    codes,
    convolution,
    named,
    reference,
    set_random,
    size,
    weighted,
)

CONV_ROWS = {1: "S122", 2: "S123", 3: "S124"}


CONVS = [
    {"kernel_size": 3},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "padding": 2, "dilation": 2, "bias": False},
    {"kernel_size": 3, "padding": 1, "groups": 4},
    {"kernel_size": 1, "groups": 2, "stride": 2},
    {"kernel_size": 3, "padding": "same"},
]


CONV_NAMES = [
    pytest.param("Conv1d", marks=pytest.mark.inventory("S122", "S038", "S042")),
    pytest.param("Conv2d", marks=pytest.mark.inventory("S123", "S038", "S042")),
    pytest.param("Conv3d", marks=pytest.mark.inventory("S124", "S038", "S042")),
    pytest.param("ConvReLU1d", marks=pytest.mark.inventory("S070")),
    pytest.param("ConvReLU2d", marks=pytest.mark.inventory("S071")),
    pytest.param("ConvReLU3d", marks=pytest.mark.inventory("S072")),
]


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("given", CONVS)
@pytest.mark.parametrize("name", CONV_NAMES)
def test_convolutions_equal_the_integer_reference(name: str, given: dict[str, Any], per_channel: bool) -> None:
    module = named(name)(8, 12, scale=0.3, zero_point=97, **given)
    set_random(module, per_channel)
    x = codes(2, 8, *size(name))
    result = module(x)
    settings = {k: v for k, v in given.items() if k not in ("kernel_size", "bias")}
    if given.get("padding") == "same":
        settings["padding"] = (given["kernel_size"] - 1) // 2
    expected = reference("conv", module, x, **convolution(len(size(name)), **settings))
    assert torch.equal(result.int_repr(), expected)
    assert result.dtype is qfx.quint8
    assert (result.q_scale(), result.q_zero_point()) == (module.scale, module.zero_point)
    assert module.scale == pytest.approx(0.3)


@pytest.mark.parametrize("dims", [pytest.param(n, marks=pytest.mark.inventory(row)) for n, row in CONV_ROWS.items()])
def test_asymmetric_kernel_channels_last_and_padding_modes(dims: int) -> None:
    kernel, padding, stride = (3, 5, 2)[:dims], (2, 1, 1)[:dims], (1, 2, 1)[:dims]
    module, *padded = [
        named(f"Conv{dims}d")(
            8, 4, kernel, padding=padding, stride=stride, padding_mode=mode, scale=0.4, zero_point=128
        )
        for mode in ("zeros", "reflect", "replicate", "circular")
    ]
    set_random(module, True)
    x = codes(2, 8, *(9, 11, 5)[:dims])
    expected = reference("conv", module, x, **convolution(dims, stride=stride, padding=padding))
    assert torch.equal(module(x).int_repr(), expected)
    last = QTensor(x.codes.movedim(1, -1).contiguous().movedim(-1, 1), X)
    assert last.codes.stride(1) == 1
    assert torch.equal(module(last).int_repr(), expected)
    for other in padded:
        other.set_weight_bias(*module._weight_bias())
        sides = [amount for amount in reversed(padding) for _ in range(2)]
        around = torch.nn.functional.pad(x.codes.float(), sides, mode=other.padding_mode).to(torch.uint8)
        inside = reference("conv", module, QTensor(around, X), **convolution(dims, stride=stride))
        assert torch.equal(other(x).int_repr(), inside), other.padding_mode


@pytest.mark.inventory("S123", "S124", "S125")
@pytest.mark.parametrize("name", ["Conv2d", "Conv3d", "Linear"])
def test_accumulators_never_saturate_early(name: str) -> None:
    """The largest products there are: 255 times -128, thousands of times."""
    module = nnq.Linear(4096, 4, scale=2.0**22, zero_point=255) if name == "Linear" else named(name)(
        512, 4, 3, scale=2.0**22, zero_point=255
    )  # fmt: skip
    weight = QTensor(torch.full(module.weight().shape, -128, dtype=torch.int8), QParams(1.0, 0, QDType.qint8))
    module.set_weight_bias(weight, torch.zeros(4))
    shape = (1, 4096) if name == "Linear" else (1, 512, *[3] * int(name[-2]))
    x = QTensor(torch.full(shape, 255, dtype=torch.uint8), QParams(1.0, 0, QDType.quint8))
    products = weight[0].numel()
    expected = 255 + round(-128 * 255 * products / 2.0**22)
    assert set(module(x).int_repr().flatten().tolist()) == {expected}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("Linear", marks=pytest.mark.inventory("S125", "S038", "S042")),
        pytest.param("LinearReLU", marks=pytest.mark.inventory("S069")),
    ],
)
class TestLinear:
    @pytest.mark.parametrize("per_channel", [True, False])
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("k", [1, 3, 4, 15, 16, 63, 64, 65, 130])
    def test_equals_the_integer_reference(self, name: str, k: int, bias: bool, per_channel: bool) -> None:
        module = named(name)(k, 7, bias=bias, scale=0.2, zero_point=60)
        set_random(module, per_channel)
        x = codes(5, k)
        result = module(x)
        assert torch.equal(result.int_repr(), reference("linear", module, x))
        assert result.dtype is qfx.quint8

    @pytest.mark.parametrize("leading", [(), (1,), (2, 3), (2, 3, 4), (0,), (0, 3)])
    def test_takes_any_leading_dims(self, name: str, leading: tuple[int, ...]) -> None:
        module = named(name)(12, 7, scale=0.2, zero_point=60)
        set_random(module, True)
        x = codes(*leading, 12)
        result = module(x)
        assert result.shape == (*leading, 7)
        flat = QTensor(x.codes.reshape(-1, 12), X)
        if flat.numel():
            assert torch.equal(result.int_repr().reshape(-1, 7), reference("linear", module, flat))

    def test_relu_is_the_unfused_layer_and_then_relu(self, name: str) -> None:
        fused, plain = nniq.LinearReLU(12, 7, scale=0.2, zero_point=60), nnq.Linear(12, 7, scale=0.2, zero_point=60)
        set_random(fused, True)
        plain.set_weight_bias(*fused._weight_bias())
        x = codes(9, 12)
        assert torch.equal(fused(x).int_repr(), nnq.ReLU()(plain(x)).int_repr())


@pytest.mark.inventory("S070", "S071", "S072")
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_fused_convolution_is_relu_of_the_unfused_one(dims: int) -> None:
    fused = named(f"ConvReLU{dims}d")(8, 6, 3, padding=1, scale=0.2, zero_point=60)
    plain = named(f"Conv{dims}d")(8, 6, 3, padding=1, scale=0.2, zero_point=60)
    set_random(fused, True)
    plain.set_weight_bias(*fused._weight_bias())
    x = codes(2, 8, *size(f"{dims}d"))
    assert torch.equal(fused(x).int_repr(), nnq.ReLU()(plain(x)).int_repr())
    assert int(fused(x).int_repr().min()) == 60


@pytest.mark.inventory("S118", "S119")
class TestQuantize:
    def test_quantizes_and_dequantizes(self) -> None:
        x = torch.randn(5, 6)
        for dtype in (qfx.quint8, qfx.qint8):
            module = nnq.Quantize(0.1, 3, dtype)
            result = module(x)
            assert torch.equal(
                result.int_repr().long(), quantize(x, torch.tensor(0.1), torch.tensor(3), dtype.qmin, dtype.qmax)
            )
            assert (result.q_scale(), result.q_zero_point(), result.dtype) == (module.scale, 3, dtype)
            assert torch.equal(nnq.DeQuantize()(result), result.dequantize())

    @pytest.mark.parametrize("dtype", [qfx.quint8, qfx.qint8], ids=["quint8", "qint8"])
    def test_from_float_takes_the_observed_stub(self, dtype: QDType) -> None:
        stub = prepare(QuantStub(QConfig(MinMaxObserver.with_args(dtype=dtype), default_weight_observer)))
        with pytest.raises(CalibrationError):
            nnq.Quantize.from_float(stub)
        x = torch.randn(5, 6)
        stub(x)
        module, found = nnq.Quantize.from_float(stub), stub.activation_post_process.qparams()
        assert (module.scale, module.zero_point, module.dtype) == (*found.per_tensor(), dtype)
        assert torch.equal(module(x), qfx.quantize_per_tensor(x, *found.per_tensor(), dtype))
        assert torch.equal(nnq.DeQuantize.from_float(DeQuantStub())(module(x)), module(x).dequantize())
        with pytest.raises(ConversionError, match="has no observer"):
            nnq.Quantize.from_float(QuantStub())

    def test_state_and_repr(self) -> None:
        module = nnq.Quantize(torch.tensor([0.1]), torch.tensor([3]), qfx.qint8)
        other = nnq.Quantize()
        other.load_state_dict(module.state_dict())
        assert other.qparams == module.qparams
        assert set(module.state_dict()) == {"scale", "zero_point", "quant_range"}
        assert set(nnq.Quantize().state_dict()) == {"scale", "zero_point"}
        assert repr(module) == f"Quantize(scale={module.scale}, zero_point=3, dtype=qfx.qint8)"
        assert repr(nnq.DeQuantize()) == "DeQuantize()"

    def test_refuses_what_is_not_valid(self) -> None:
        for scale, zero in ((0.0, 0), (-1.0, 0), (float("nan"), 0), (0.1, 256), (0.1, -1)):
            with pytest.raises(QuantizationError):
                nnq.Quantize(scale, zero)
        with pytest.raises(InputError):
            nnq.Quantize(0.1, 0)(nnq.Quantize(0.1, 0)(torch.randn(3)))


@pytest.mark.inventory("S042")
def test_scale_and_zero_point_of_a_module_are_those_of_its_result() -> None:
    module, x = weighted("Conv2d")
    for scale, zero in ((0.5, 0), (0.01, 255), (2.0, 17)):
        module.scale, module.zero_point = scale, zero
        result = module(x)
        assert (result.q_scale(), result.q_zero_point()) == (scale, zero)
        assert torch.equal(result.int_repr(), reference("conv", module, x, **convolution(2, padding=1)))


@pytest.mark.inventory("S039")
@pytest.mark.parametrize("name", ["Conv1d", "Conv2d", "Conv3d", "Linear"])
def test_per_channel_weights_lose_less_on_channels_of_different_range(name: str) -> None:
    layer = nn.Linear(8, 6) if name == "Linear" else getattr(nn, name)(8, 6, 3)
    with torch.no_grad():
        layer.weight.mul_(torch.logspace(-2, 0, 6).reshape(-1, *[1] * (layer.weight.dim() - 1)))
        layer.bias.zero_()
    x = torch.randn(4, 8, *(size(name) if name != "Linear" else ()))
    errors = []
    for weight in (get_default_qconfig().weight, default_weight_observer):
        layer.qconfig = QConfig(get_default_qconfig().activation, weight)
        prepared = prepare(layer)
        prepared(x)
        module = named(name).from_float(prepared)
        assert (module.weight().qscheme() is qfx.per_channel_affine) == (not errors)
        error = module.weight().dequantize() - layer.weight.detach()
        errors.append((error.flatten(1).norm(dim=1) / layer.weight.detach().flatten(1).norm(dim=1)).max())
        given = codes(*x.shape)
        op, attributes = ("linear", {}) if name == "Linear" else ("conv", convolution(int(name[-2])))
        assert torch.equal(module(given).int_repr(), reference(op, module, given, **attributes))
    assert errors[0] * 20 < errors[1]
