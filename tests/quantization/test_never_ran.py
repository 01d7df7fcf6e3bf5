"""Conversions without data, and of layers that have no quantized version: told of once, and then they go on."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.ao.quantization import quantization_mappings as peer

import qfx
import qfx.nn.quantized as nnq
from qfx.errors import CalibrationError, StaysFloatWarning, UncalibratedWarning
from qfx.quantization import (
    DeQuantStub,
    QuantStub,
    convert,
    default_dynamic_qconfig,
    default_per_channel_qconfig,
    default_qconfig,
    fuse_modules,
    get_default_qat_qconfig,
    get_default_qconfig,
    prepare,
    prepare_qat,
    quantize_dynamic,
)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


class Residual(nn.Module):
    """A block as MobileNetV2's: the functional is there whether the block adds or not."""

    def __init__(self, adds: bool) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.adds, self.skip_add = adds, nnq.FloatFunctional()

    def forward(self, x: Tensor) -> Tensor:
        return self.skip_add.add(x, self.conv(x)) if self.adds else self.conv(x)


class Mobile(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.blocks = nn.Sequential(Residual(True), Residual(False))
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.dequant(self.fc(self.blocks(self.quant(x)).mean((2, 3))))


def mobile(qconfig: Any = None) -> nn.Module:
    net = Mobile().eval()
    net.qconfig = qconfig or get_default_qconfig()
    for block in net.blocks:
        fuse_modules(block.conv, [["0", "1", "2"]], inplace=True)
    return net


X = torch.randn(8, 4, 6, 6, generator=torch.Generator().manual_seed(1))


def test_a_functional_that_never_ran_is_told_of_and_does_no_harm() -> None:
    prepared = prepare(mobile())
    prepared(X)
    with pytest.warns(UncalibratedWarning) as caught:
        converted = convert(prepared)
    (warning,) = caught
    assert "where: blocks.1.skip_add" in str(warning.message)
    assert (converted.blocks[1].skip_add.scale, converted.blocks[1].skip_add.zero_point) == (1.0, 0)
    error = (converted(X) - prepared(X)).detach().abs().max()
    assert error < 0.05 * prepared(X).detach().abs().max()


@pytest.mark.parametrize("backend", [None, "x86", "qnnpack", "onednn"])
@pytest.mark.parametrize("trained", [False, True])
def test_a_state_loaded_into_a_model_converted_without_data_counts(backend: str | None, trained: bool) -> None:
    def made() -> nn.Module:
        if trained:
            net = Mobile().train()
            net.qconfig = get_default_qat_qconfig(backend)
            return prepare_qat(net)
        return prepare(mobile(get_default_qconfig(backend)))

    prepared = made()
    prepared(X)
    with pytest.warns(UncalibratedWarning):
        calibrated = convert(prepared.eval())
    with pytest.warns(UncalibratedWarning) as caught:
        blank = convert(made().eval())
    assert len(caught) == 1
    assert not torch.equal(blank(X), calibrated(X))
    assert list(blank.state_dict()) == list(calibrated.state_dict())
    blank.load_state_dict(calibrated.state_dict())
    assert torch.equal(blank(X), calibrated(X))


def test_where_warnings_are_errors_it_is_a_calibration_error() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CalibrationError, match="observers saw no data"):
            convert(prepare(mobile()))


def test_many_modules_are_counted() -> None:
    net = nn.Sequential(QuantStub(), *(nn.Linear(4, 4) for _ in range(20)), DeQuantStub()).eval()
    net.qconfig = default_qconfig
    with pytest.warns(UncalibratedWarning, match="and 13 more"):
        convert(prepare(net))


# ---------------------------------------------------------------- every class that the peer swaps


def _spatial(cls: type[nn.Module]) -> int:
    return int(cls.__name__[-2])


IMAGE = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
SEQUENCE = torch.randn(5, 2, 8, generator=torch.Generator().manual_seed(2))
SPECIAL: dict[str, tuple[Callable[[Any], nn.Module], Tensor]] = {
    **dict.fromkeys(("Linear", "NonDynamicallyQuantizableLinear"), (lambda cls: cls(8, 8), IMAGE)),
    "LayerNorm": (lambda cls: cls(8), IMAGE),
    "GroupNorm": (lambda cls: cls(2, 4), IMAGE),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), (lambda cls: cls(8, 8), SEQUENCE)),
    **dict.fromkeys(("LSTMCell", "GRUCell", "RNNCell"), (lambda cls: cls(8, 8), SEQUENCE[0])),
    **dict.fromkeys(("Embedding", "EmbeddingBag"), (lambda cls: cls(10, 8), torch.arange(6).reshape(2, 3))),
    "MultiheadAttention": (lambda cls: cls(8, 2), SEQUENCE),
    "Bilinear": (lambda cls: cls(8, 8, 8), SEQUENCE),
    "Softmax": (lambda cls: cls(-1), IMAGE),
}


def built(cls: type[nn.Module]) -> tuple[nn.Module, Tensor]:
    name = cls.__name__
    if name in SPECIAL:
        make, x = SPECIAL[name]
        return make(cls), x
    if "Conv" in name or "Norm" in name:
        shape = torch.randn(2, 4, *[7] * _spatial(cls), generator=torch.Generator().manual_seed(3))
        return (cls(4, 4, 3) if "Conv" in name else cls(4)), shape  # type: ignore[call-arg]
    return cls(), IMAGE


class Net(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.quant, self.layer, self.dequant = QuantStub(), layer, DeQuantStub()

    def forward(self, x: Tensor) -> Tensor:
        count = {"MultiheadAttention": 3, "Bilinear": 2}.get(type(getattr(self.layer, "layer", self.layer)).__name__, 1)
        x = self.quant(x) if x.is_floating_point() else x
        y = self.layer(*[x] * count)
        y = y[0] if isinstance(y, tuple) else y
        return self.dequant(y) if isinstance(y, qfx.QTensor) or not hasattr(self.dequant, "observed") else y


_PEER = [*peer.get_default_static_quant_module_mappings(), *peer.get_default_dynamic_quant_module_mappings()]
CLASSES = [cls for cls in dict.fromkeys(_PEER) if cls.__module__.startswith("torch.nn.modules.")]
CLASSES += [nn.RNN, nn.Bilinear, nn.MultiheadAttention, nn.Sigmoid, nn.Tanh, nn.Softmax, nn.Hardsigmoid, nn.ReLU]
QCONFIGS = {
    "own": get_default_qconfig(),
    "x86": get_default_qconfig("x86"),
    "qnnpack": get_default_qconfig("qnnpack"),
    "onednn": get_default_qconfig("onednn"),
    "default": default_qconfig,
    "per channel": default_per_channel_qconfig,
}


@pytest.mark.parametrize("name", QCONFIGS)
@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_layer_of_the_peer_converts(cls: type[nn.Module], name: str) -> None:
    layer, x = built(cls)
    net = Net(layer).eval()
    net.qconfig = QCONFIGS[name]
    expected = net(x).detach()
    prepared = prepare(net)
    prepared(x)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        converted = convert(prepared)
        blank = convert(prepare(net))
    stays = type(converted.layer) is nnq.FloatLayer
    told = [w for w in caught if w.category is StaysFloatWarning]
    assert len(told) == 2 * stays
    assert all("layer" in str(w.message) and cls.__name__ in str(w.message) for w in told)
    assert {w.category for w in caught} <= {StaysFloatWarning, UncalibratedWarning}
    # 7 bits where the qconfig says so; a handful of roundings
    assert (converted(x) - expected).norm() < 0.05 * expected.norm()
    blank.load_state_dict(converted.state_dict())
    assert torch.equal(blank(x), converted(x))


def test_a_float_layer_among_float_values_is_the_float_layer() -> None:
    net = nn.LSTM(4, 4).eval()
    net.qconfig = default_qconfig
    prepared = prepare(net)
    prepared(SEQUENCE[..., :4])
    with pytest.warns(StaysFloatWarning, match="the model"):
        converted = convert(prepared)
    torch.testing.assert_close(converted(SEQUENCE[..., :4]), net(SEQUENCE[..., :4]))
    assert type(copy.deepcopy(converted).layer) is nn.LSTM


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_layer_takes_a_dynamic_qconfig(cls: type[nn.Module]) -> None:
    layer, x = built(cls)
    net = Net(layer).eval()
    net.quant, net.dequant = nn.Identity(), nn.Identity()
    expected = net(x).detach()
    quantized = quantize_dynamic(net, {cls: default_dynamic_qconfig})
    assert (quantized(x) - expected).norm() < 0.05 * expected.norm()
