"""Quantized layers against the op table's exact integer reference."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import qfx
import qfx.nn.intrinsic as nni
import qfx.nn.intrinsic.qat as nniqat
import qfx.nn.intrinsic.quantized as nniq
import qfx.nn.quantized as nnq
from qfx.errors import CalibrationError, ConversionError, InputError, QuantizationError, UnsupportedError
from qfx.ir.types import QArray, QDType, QParams
from qfx.nn.quantized import dynamic
from qfx.nn.quantized.layer import QuantizedLayer, WeightedLayer
from qfx.ops.arithmetic import quantize
from qfx.ops.table import TABLE
from qfx.quantization import (
    DeQuantStub,
    QConfig,
    QConfigDynamic,
    QuantStub,
    default_qconfig,
    default_weight_observer,
    get_default_qat_qconfig,
    get_default_qconfig,
    prepare,
    prepare_qat,
)
from qfx.quantization.observer import MinMaxObserver
from qfx.tensor import QTensor, quantize_per_channel, quantize_per_tensor
from tests.nn.test_intrinsic import members, shape

X = QParams(0.05, 101, QDType.quint8)


def codes(*shape: int, qparams: QParams = X) -> QTensor:
    values = torch.randint(qparams.qmin, qparams.qmax + 1, shape).to(qparams.dtype.storage)
    return QTensor(values, qparams)


def random_weight(shape: tuple[int, ...], per_channel: bool) -> QTensor:
    w = torch.randn(shape)
    if per_channel:
        scales = torch.rand(shape[0]) * 0.01 + 0.005
        return quantize_per_channel(w, scales, torch.zeros(shape[0], dtype=torch.int64), 0, qfx.qint8)
    return quantize_per_tensor(w, 0.02, 3, qfx.qint8)


def reference(op: str, module: WeightedLayer, x: QTensor, **attributes: Any) -> Tensor:
    """The integers of ``op.integer`` for the module's weight and its bias in units of the products' scale."""
    weight, bias = module.weight().array, module.bias()
    units = torch.tensor(x.q_scale(), dtype=torch.float32).double() * weight.scale.double()
    whole = None
    if bias is not None:
        whole = QArray(torch.round(bias.double() / units).to(torch.int32), units.float(), torch.tensor(0), 0)
    integer = TABLE[op].integer
    assert integer is not None
    return integer(x.array, weight, whole, out=module.qparams, activation=module.activation, **attributes)


def set_random(module: WeightedLayer, per_channel: bool) -> None:
    shape = tuple(module.weight().shape)
    bias = None if module.bias() is None else torch.randn(shape[0])
    module.set_weight_bias(random_weight(shape, per_channel), bias)


def convolution(dims: int, *, stride: Any = 1, padding: Any = 0, dilation: int = 1, groups: int = 1) -> dict[str, Any]:
    """Attributes of the op ``conv`` for the arguments of a layer of ``dims`` dims, each one int or one a dim."""
    strides, sides, steps = (v if isinstance(v, tuple) else (v,) * dims for v in (stride, padding, dilation))
    return {"stride": strides, "padding": tuple((s, s) for s in sides), "dilation": steps, "groups": groups}


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


def named(name: str) -> type[Any]:
    return getattr(nnq if hasattr(nnq, name) else nniq, name)


def size(name: str) -> tuple[int, ...]:
    return {"1d": (17,), "2d": (9, 7), "3d": (5, 6, 4)}[name[-2:]]


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


WEIGHTED = ["Conv1d", "Conv2d", "Conv3d", "Linear", "ConvReLU1d", "ConvReLU2d", "ConvReLU3d", "LinearReLU"]
WEIGHTED_ROWS = ["S122", "S123", "S124", "S125", "S070", "S071", "S072", "S069"]
WEIGHTED_PARAMS = [
    pytest.param(name, marks=pytest.mark.inventory(row)) for name, row in zip(WEIGHTED, WEIGHTED_ROWS, strict=True)
]


def weighted(name: str, per_channel: bool = True) -> tuple[Any, QTensor]:
    module = named(name)(8, 6, scale=0.2, zero_point=60) if "Linear" in name else named(name)(
        8, 6, 3, padding=1, scale=0.2, zero_point=60
    )  # fmt: skip
    set_random(module, per_channel)
    return module, codes(2, 8) if "Linear" in name else codes(2, 8, *size(name))


@pytest.mark.parametrize("name", WEIGHTED_PARAMS)
@pytest.mark.parametrize("per_channel", [True, False])
class TestState:
    def test_state_dict_holds_plain_tensors_and_round_trips(self, name: str, per_channel: bool) -> None:
        module, x = weighted(name, per_channel)
        expected = module(x)
        state = module.state_dict()
        assert {k: v.dtype for k, v in state.items()} == {
            "weight": torch.int8,
            "weight_scale": torch.float32,
            "weight_zero_point": torch.int64,
            "bias": torch.float32,
            "scale": torch.float32,
            "zero_point": torch.int64,
        }
        assert all(type(v) is Tensor for v in state.values())
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        other, _ = weighted(name)
        other.set_weight_bias(random_weight(tuple(module.weight().shape), True), other.bias())
        assert other.load_state_dict(torch.load(file, weights_only=True)) == torch.nn.modules.module._IncompatibleKeys(
            [], []
        )
        result = other(x)
        assert torch.equal(result.int_repr(), expected.int_repr())
        assert (result.q_scale(), result.q_zero_point()) == (expected.q_scale(), expected.q_zero_point())

    def test_copies_and_pickles(self, name: str, per_channel: bool) -> None:
        module, x = weighted(name, per_channel)
        expected = module(x).int_repr()
        for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), copy.copy(module)):
            assert type(twin) is type(module)
            assert torch.equal(twin(x).int_repr(), expected)

    def test_a_missing_or_misshapen_entry_is_named(self, name: str, per_channel: bool) -> None:
        module, _ = weighted(name, per_channel)
        state = module.state_dict()
        del state["scale"]
        with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "scale"'):
            module.load_state_dict(state)
        state = module.state_dict()
        state["weight"] = state["weight"][:3]
        with pytest.raises(RuntimeError, match=r"takes a weight of shape|scales"):
            module.load_state_dict(state)
        with pytest.raises(RuntimeError, match="Unexpected"):
            module.load_state_dict({**module.state_dict(), "other": torch.zeros(1)})

    def test_repr_shows_layer_and_qparams(self, name: str, per_channel: bool) -> None:
        module, _ = weighted(name, per_channel)
        text = repr(module)
        scheme = "per_channel_affine" if per_channel else "per_tensor_affine"
        start = (
            f"{name}(in_features=8, out_features=6, bias=True" if "Linear" in name else f"{name}(8, 6, kernel_size=(3"
        )
        assert text.startswith(start)
        assert text.endswith(f"scale={module.scale}, zero_point=60, qscheme=qfx.{scheme})")


@pytest.mark.parametrize("name", WEIGHTED_PARAMS)
def test_set_and_get_weight_and_bias(name: str) -> None:
    module, x = weighted(name)
    weight, bias = module.weight(), module.bias()
    assert module._weight_bias() == (weight, bias) or module._weight_bias()[0] is weight
    other = random_weight(tuple(weight.shape), True)
    before = module(x).int_repr()
    module.set_weight_bias(other, bias + 1)
    assert torch.equal(module.weight(), other)
    assert module.weight().qparams == other.qparams
    assert not torch.equal(module(x).int_repr(), before)
    module.set_weight_bias(weight, bias)
    assert torch.equal(module(x).int_repr(), before)


@pytest.mark.inventory("S037")
@pytest.mark.parametrize("name", WEIGHTED)
def test_weights_are_qint8_and_nothing_else(name: str) -> None:
    module, _ = weighted(name)
    assert module.weight().dtype is qfx.qint8
    w = torch.randn(module.weight().shape)
    for wrong in (quantize_per_tensor(w, 0.1, 0, qfx.quint8), quantize_per_tensor(w, 0.1, 0, qfx.qint32), w):
        with pytest.raises(QuantizationError, match="takes a qint8 weight"):
            module.set_weight_bias(wrong, None)
    with pytest.raises(QuantizationError, match="takes a weight of shape"):
        module.set_weight_bias(quantize_per_tensor(w[:2], 0.1, 0, qfx.qint8), None)
    layer = nn.Linear(8, 6)
    layer.qconfig = QConfig(MinMaxObserver, MinMaxObserver.with_args(dtype="quint8"))
    prepared = prepare(layer)
    prepared(torch.randn(2, 8))
    with pytest.raises(ConversionError, match="Weights must be qint8"):
        nnq.Linear.from_float(prepared)
    state = module.state_dict()
    with pytest.raises(RuntimeError, match=r"torch\.uint8 can't be qfx\.qint8"):
        module.load_state_dict({**state, "weight": state["weight"].to(torch.uint8)})


@pytest.mark.inventory("S037")
@pytest.mark.parametrize("name", dynamic.__all__)
def test_dynamic_weights_are_qint8_or_float16_and_nothing_else(name: str) -> None:
    module, layer = getattr(dynamic, name)(8, 6), getattr(nn, name)(8, 6)
    integers = [key for key, value in module.state_dict().items() if value.dtype is torch.int8]
    assert integers
    with pytest.raises(UnsupportedError, match=r"can't be qfx\.quint8"):
        getattr(dynamic, name)(8, 6, dtype=qfx.quint8)
    layer.qconfig = QConfigDynamic(weight=MinMaxObserver.with_args(dtype="quint8"))
    with pytest.raises(UnsupportedError, match=r"can't be qfx\.quint8"):
        getattr(dynamic, name).from_float(layer)
    for dtype in (torch.uint8, torch.int32, torch.float32, torch.float16):
        state = module.state_dict()
        with pytest.raises(QuantizationError, match=f"is {dtype} in the state_dict, but torch.int8 here"):
            module.load_state_dict({**state, integers[-1]: state[integers[-1]].to(dtype)})


FUSED_ROWS = {"LinearReLU": "S069", "ConvReLU1d": "S070", "ConvReLU2d": "S071", "ConvReLU3d": "S072"}


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize(
    ("name", "source"),
    [
        pytest.param(name, source, marks=pytest.mark.inventory(row))
        for name, row in FUSED_ROWS.items()
        for source in ([name, name.replace("Conv", "ConvBn")] if "Conv" in name else [name])
    ],
)
def test_from_float_takes_the_fused_float_layer_and_the_trained_one(name: str, source: str, trained: bool) -> None:
    layers = [layer.eval() for layer in members(source)]
    plain: Any = fuse_conv_bn_eval(*copy.deepcopy(layers[:2])) if "Bn" in source else copy.deepcopy(layers[0])
    model = nn.Sequential(getattr(nni, source)(*layers)).train(trained)
    model.qconfig = get_default_qat_qconfig() if trained else get_default_qconfig()
    prepared = (prepare_qat if trained else prepare)(model).eval()[0]
    x = codes(*shape(source))
    prepared(x.dequantize())
    assert type(prepared) is getattr(nniqat if trained else nni, source)
    module = named(name).from_float(prepared)
    assert module.qparams.per_tensor() == prepared.activation_post_process.qparams().per_tensor()
    scales = module.weight().q_per_channel_scales().reshape(-1, *[1] * (plain.weight.dim() - 1))
    # Half a step, and the float32 rounding of folding: up to 128 steps times a few times 2^-24.
    assert bool(((module.weight().dequantize() - plain.weight).abs() <= scales * (0.5 + 1e-4)).all())
    torch.testing.assert_close(module.bias(), plain.bias.detach())
    op, attributes = ("linear", {}) if name == "LinearReLU" else ("conv", convolution(int(name[-2]), padding=1))
    result = module(x)
    assert torch.equal(result.int_repr(), reference(op, module, x, **attributes))
    assert int(result.int_repr().min()) == module.zero_point


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


SIGNATURES = [name for name in nnq.__all__ if isinstance(getattr(nnq, name), type) and hasattr(nn, name)]


@pytest.mark.inventory("S217")
@pytest.mark.parametrize("name", [n for n in SIGNATURES if n != "MaxPool2d"])
def test_constructors_take_the_arguments_of_the_float_layer(name: str) -> None:
    cls = getattr(nnq, name)
    arguments = {"Linear": (8, 6, False), "LayerNorm": ((3, 4), 1e-3), "GroupNorm": (2, 6, 1e-3, False)}
    given = arguments.get(name, (8, 6, 3, 2) if "Conv" in name else (6, 1e-3) if "Norm" in name else ())
    layer = getattr(nn, name)(*given)
    state = torch.get_rng_state()
    module = cls(*given, scale=0.1, zero_point=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert issubclass(cls, QuantizedLayer)
    assert module.extra_repr().startswith(layer.extra_repr())
    assert (module.scale, module.zero_point) == (pytest.approx(0.1), 2)
    assert f"``{name}``" in cls.__doc__
    with pytest.raises(TypeError):
        cls(*given, nonsense=1)


@pytest.mark.parametrize("name", ["Conv2d", "Linear", "ReLU", "LayerNorm"])
class TestBadInput:
    def make(self, name: str) -> Any:
        return {"Conv2d": (8, 6, 3), "Linear": (8, 6), "ReLU": (), "LayerNorm": (8,)}[name]

    def test_a_float_tensor(self, name: str) -> None:
        module = getattr(nnq, name)(*self.make(name))
        with pytest.raises(InputError, match=f"quantized {name} got a float tensor"):
            module(torch.randn(2, 8, 5, 8))

    def test_from_float_of_another_class_or_without_observer(self, name: str) -> None:
        cls = getattr(nnq, name)
        with pytest.raises(ConversionError, match="does not take a Sigmoid"):
            cls.from_float(nn.Sigmoid())
        if name != "ReLU":
            layer = getattr(nn, name)(*self.make(name))
            layer.qconfig = default_qconfig
            with pytest.raises(ConversionError, match="has no observer"):
                cls.from_float(layer)

    def test_moving_away_from_the_cpu_or_float32(self, name: str) -> None:
        module = getattr(nnq, name)(*self.make(name))
        with pytest.raises(UnsupportedError, match="can't become"):
            module.half()
        with pytest.raises(UnsupportedError, match="can't become"):
            module.to("meta")
        assert module.cpu().float() is module


def test_settings_that_the_op_table_has_no_row_for_raise() -> None:
    layer = nn.BatchNorm2d(4, track_running_stats=False).eval()
    layer.qconfig = get_default_qconfig()
    prepared = prepare(layer)
    prepared(torch.randn(2, 4, 3, 3))
    with pytest.raises(ConversionError, match="normalizes by batch statistics"):
        nnq.BatchNorm2d.from_float(prepared)
