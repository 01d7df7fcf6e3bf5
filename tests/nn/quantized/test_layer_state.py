"""Quantized layers: how they are made, what they store, and what they refuse."""

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
import qfx.nn.quantized as nnq
from qfx.errors import ConversionError, InputError, QuantizationError, UnsupportedError
from qfx.nn.quantized import dynamic
from qfx.nn.quantized.layer import QuantizedLayer
from qfx.quantization import (
    QConfig,
    QConfigDynamic,
    default_qconfig,
    get_default_qat_qconfig,
    get_default_qconfig,
    prepare,
    prepare_qat,
)
from qfx.quantization.observer import MinMaxObserver
from qfx.tensor import quantize_per_tensor
from tests.nn.quantized.layers import (
    WEIGHTED,
    WEIGHTED_PARAMS,
    codes,
    convolution,
    named,
    random_weight,
    reference,
    weighted,
)
from tests.nn.test_intrinsic import members, shape


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
        module.load_state_dict({**state, "weight": state["weight"].clamp(min=0).to(torch.uint8)})


@pytest.mark.inventory("S037")
@pytest.mark.parametrize("name", dynamic.__all__)
def test_dynamic_weights_are_qint8_or_float16_and_nothing_else(name: str) -> None:
    module, layer = getattr(dynamic, name)(8, 2), getattr(nn, name)(8, 2)
    integers = [key for key, value in module.state_dict().items() if value.dtype is torch.int8]
    assert integers
    with pytest.raises(UnsupportedError, match=r"can't be qfx\.quint8"):
        getattr(dynamic, name)(8, 2, dtype=qfx.quint8)
    layer.qconfig = QConfigDynamic(weight=MinMaxObserver.with_args(dtype="quint8"))
    with pytest.raises(UnsupportedError, match=r"can't be qfx\.quint8"):
        getattr(dynamic, name).from_float(layer)
    for dtype in (torch.uint8, torch.int32, torch.float32, torch.float16):
        state = module.state_dict()
        with pytest.raises(QuantizationError, match=f"is {dtype} in the state_dict, but torch.int8 here"):
            module.load_state_dict({**state, integers[-1]: state[integers[-1]].to(dtype)})


@pytest.mark.parametrize("name", dynamic.__all__)
def test_state_of_before_rows_had_scales_of_their_own_keeps_its_meaning(name: str) -> None:
    layer = getattr(nn, name)(8, 2)
    layer.qconfig = qfx.per_tensor_dynamic_qconfig
    module = getattr(dynamic, name).from_float(layer)
    state = module.state_dict()
    older = {key: value for key, value in state.items() if not key.endswith("input_per_row")}
    assert (len(older) < len(state)) == ("Embedding" not in name)
    fresh = getattr(dynamic, name)(8, 2)
    fresh.load_state_dict(older)
    for part in module.modules():
        part._buffers.pop("input_per_row", None)
    assert module.state_dict().keys() == older.keys()
    for twin in (fresh, pickle.loads(pickle.dumps(module))):
        assert twin.state_dict().keys() == state.keys()
        assert all(torch.equal(value, state[key]) for key, value in twin.state_dict().items())


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
