"""What layers and functions once did wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_sequence

import qfx
import qfx.nn.functional as QF
import qfx.nn.intrinsic as nni
import qfx.nn.intrinsic.qat as nniqat
import qfx.nn.intrinsic.quantized as nniq
import qfx.nn.qat as nnqat
import qfx.nn.quantized as nnq
import qfx.nn.quantized.dynamic as nnqd
from qfx.errors import ConversionError, InputError, QuantizationError, UnsupportedError
from qfx.quantization import convert, default_qconfig, get_default_qat_qconfig, prepare
from qfx.tensor import QTensor

QCONFIG = get_default_qat_qconfig()


def codes(*shape: int) -> QTensor:
    return qfx.quantize_per_tensor(torch.randn(shape), 0.05, 128, qfx.quint8)


def weight(*shape: int) -> QTensor:
    return qfx.quantize_per_tensor(torch.randn(shape), 0.02, 0, qfx.qint8)


def test_weight_and_bias_are_copies() -> None:
    layer, w, b = nnq.Linear(4, 3), weight(3, 4), torch.randn(3)
    layer.set_weight_bias(w, b)
    expected = layer.state_dict()["bias"].clone()
    b.zero_()
    w.codes.zero_()
    assert torch.equal(layer.bias(), expected)
    assert int(layer.weight().int_repr().abs().max()) > 0

    state = {k: v.clone() for k, v in layer.state_dict().items()}
    layer.load_state_dict(state)
    state["bias"].zero_()
    assert torch.equal(layer.bias(), expected)


def test_a_missing_and_an_unexpected_bias_are_reported() -> None:
    full, bare = nnq.Linear(4, 3), nnq.Linear(4, 3, bias=False)
    full.set_weight_bias(weight(3, 4), torch.ones(3))
    with pytest.raises(RuntimeError, match=r"Missing key.*bias"):
        full.load_state_dict(bare.state_dict())
    with pytest.raises(RuntimeError, match=r"Unexpected key.*bias"):
        bare.load_state_dict(full.state_dict())
    result = full.load_state_dict(bare.state_dict(), strict=False)
    assert (result.missing_keys, result.unexpected_keys) == (["bias"], [])
    assert torch.equal(full.bias(), torch.ones(3))
    assert torch.equal(full.weight().int_repr(), bare.weight().int_repr())


def test_a_new_tensor_in_the_place_of_an_old_one_is_seen() -> None:
    norm, x = nnq.BatchNorm2d(3, scale=0.05, zero_point=128), codes(2, 3, 4, 4)
    kept = norm.weight
    norm(x)
    norm.weight = torch.full((3,), 2.0)
    doubled = norm(x).int_repr()
    norm.weight = kept
    assert not torch.equal(norm(x).int_repr(), doubled)
    for _ in range(8):
        del norm.weight
        norm.register_buffer("weight", torch.full((3,), 2.0))
        assert torch.equal(norm(x).int_repr(), doubled)
        del norm.weight
        norm.register_buffer("weight", torch.ones(3))
        assert not torch.equal(norm(x).int_repr(), doubled)


def test_a_new_tensor_in_a_dynamic_layer_is_seen() -> None:
    layer, x = nnqd.Linear(4, 3), torch.randn(2, 4)
    for value in (1.0, 2.0, 3.0, 4.0):
        del layer._buffers["bias"]
        layer._buffers["bias"] = torch.full((3,), value)
        assert torch.equal(layer(x), torch.full((2, 3), value))


def test_layers_made_in_inference_mode_run() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3)).eval()
    model.qconfig = default_qconfig
    prepared = prepare(model)
    prepared(torch.randn(2, 3, 4, 4))
    with torch.inference_mode():
        converted = convert(prepared)
        linear, dynamic = nnq.Linear(4, 3), nnqd.Linear(4, 3)
        converted(codes(2, 3, 4, 4))
    converted(codes(2, 3, 4, 4))
    state = [*converted[0].buffers(), linear.weight().codes, linear.bias(), *dynamic.buffers()]
    assert not any(tensor.is_inference() for tensor in state)


def test_changed_inference_tensors_are_seen() -> None:
    with torch.inference_mode():
        x, w = codes(2, 4), weight(3, 4)
        nnq.functional.linear(x, w, None, 0.1, 128)
        w.codes.zero_()
        assert bool((nnq.functional.linear(x, w, None, 0.1, 128).int_repr() == 128).all())

        layer = nnqd.Linear(4, 3)
        layer._buffers["bias"] = torch.zeros(3)
        layer(torch.randn(2, 4))
        layer._buffers["bias"].fill_(1.0)
        assert torch.equal(layer(torch.randn(2, 4)), torch.ones(2, 3))


@pytest.mark.parametrize(
    ("module", "settings"),
    [
        (nnq.ELU(0.05, 128), {"alpha": 1.0, "inplace": False}),
        (nnq.ELU(0.05, 128, 0.5), {"alpha": 0.5}),
        (nnq.LeakyReLU(0.05, 128, 0.2, True), {"negative_slope": 0.2, "inplace": True}),
        (nnq.Hardswish(0.05, 128), {"inplace": False}),
        (nnq.ELU(0.5, scale=0.05, zero_point=128), {"alpha": 0.5}),
    ],
    ids=repr,
)
def test_scale_and_zero_point_come_first(module: Any, settings: dict[str, Any]) -> None:
    assert (module.scale, module.zero_point) == (pytest.approx(0.05), 128)
    assert {name: getattr(module, name) for name in settings} == settings


def test_linear_takes_the_weights_dtype() -> None:
    for cls in (nnq.Linear, nniq.LinearReLU):
        assert cls(4, 3, False, qfx.qint8).bias() is None
        with pytest.raises(QuantizationError, match="qint8 weights"):
            cls(4, 3, True, qfx.quint8)
    assert nnq.Linear(4, 3, bias_=False).bias() is None


@pytest.mark.parametrize("state", [(torch.ones(6), torch.zeros(6)), (None, None)], ids=["tensors", "None"])
def test_norms_take_no_weight_as_argument(state: tuple[Any, Any]) -> None:
    with pytest.raises(ConversionError, match="settings of the float layer"):
        nnq.LayerNorm(6, *state, 0.1, 3)
    with pytest.raises(ConversionError, match="settings of the float layer"):
        nnq.GroupNorm(2, 6, *state, 0.1, 3)
    with pytest.raises(ConversionError, match="settings of the float layer"):
        nnq.InstanceNorm2d(6, *state, 0.1, 3)
    assert nnq.BatchNorm2d(6, 1e-5, None).momentum is None


@pytest.mark.parametrize("name", ["elu", "hardswish"])
def test_in_place_functions_take_scale_and_zero_point(name: str) -> None:
    function, x = getattr(QF, name), codes(3, 4)
    expected = function(x, scale=0.1, zero_point=3)
    assert function(x, inplace=True, scale=0.1, zero_point=3) is x
    assert (x.q_scale(), x.q_zero_point()) == (pytest.approx(0.1), 3)
    assert torch.equal(x.int_repr(), expected.int_repr())
    given = torch.randn(3)
    assert torch.equal(function(given), getattr(F, name)(given))
    with pytest.raises(InputError, match="float result"):
        function(given, scale=0.1, zero_point=3)


@pytest.fixture
def float64_by_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("float64_by_default")
def test_default_dtype_and_device_do_not_matter() -> None:
    x = torch.zeros(2, 5, 4, dtype=torch.float32, device="cpu")
    assert nnqd.LSTM(4, 3)(x)[0].shape == (2, 5, 3)
    assert nnqd.LSTMCell(4, 3)(x[0])[0].shape == (5, 3)
    assert nnqd.Linear(4, 3)(x).shape == (2, 5, 3)
    q = qfx.quantize_per_tensor(x, 0.1, 3, qfx.quint8)
    assert q.dequantize().dtype is torch.float32
    assert q.array.scale.device.type == "cpu"
    nnq.Quantize(0.1, 3).float()


def test_a_batch_norm_without_statistics_is_refused_at_once() -> None:
    fused = nni.ConvBn2d(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))
    fused.qconfig = QCONFIG
    with pytest.raises(ConversionError, match="without running statistics"):
        nniqat.ConvBn2d.from_float(fused.train())


def test_trained_layers_take_qconfig_where_torch_has_it() -> None:
    assert nnqat.Linear(3, 4, True, QCONFIG).qconfig is QCONFIG
    assert nniqat.LinearReLU(3, 4, False, QCONFIG).bias is None
    assert nnqat.Conv2d(3, 4, 1, 1, 0, 1, 1, True, "zeros", QCONFIG).qconfig is QCONFIG
    assert nniqat.ConvBn2d(3, 4, 1, qconfig=QCONFIG).bias is None
    assert nniqat.ConvBn2d(3, 4, 1, bias=True, qconfig=QCONFIG).bias is not None
    layer = nniqat.ConvBnReLU2d(3, 4, 1, 1, 0, 1, 1, None, "zeros", 0.1, 0.2, True, QCONFIG)
    assert (layer.bn.eps, layer.bn.momentum, layer.freeze_bn, layer.qconfig) == (0.1, 0.2, True, QCONFIG)


def test_mul_scalar_keeps_that_gradients_end_here() -> None:
    x = qfx.quantize_per_tensor(torch.randn(3, requires_grad=True), 0.1, 128, qfx.quint8)
    module = nnq.QFunctional()
    assert x.severed
    assert module.mul_scalar(x, 2.0).severed


def test_packed_input_with_states_of_another_batch() -> None:
    packed = pack_sequence([torch.randn(2, 4), torch.randn(3, 4)], enforce_sorted=False)
    with pytest.raises(InputError, match="hidden state"):
        nnqd.GRU(4, 3)(packed, torch.zeros(1, 1, 3))


def test_more_features_than_kernels_take_are_refused_at_once() -> None:
    with pytest.raises(UnsupportedError, match="at most 32768 features"):
        nnqd.Linear.from_float(with_qconfig(nn.Linear(32769, 1)))
    with pytest.raises(UnsupportedError, match="at most 32768 features"):
        nnqd.GRUCell(32769, 1)
    assert nnqd.Linear(32769, 1)(torch.ones(1, 32769)).shape == (1, 1)


def with_qconfig(layer: nn.Module) -> nn.Module:
    layer.qconfig = qfx.quantization.float16_dynamic_qconfig
    return layer
