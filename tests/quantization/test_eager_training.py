"""Training in eager mode, and observers, fake quantization and mappings from outside the package."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qfx
import qfx.nn.intrinsic.qat as nniqat
import qfx.nn.intrinsic.quantized as nniq
import qfx.nn.qat as nnqat
import qfx.nn.quantized as nnq
from qfx.errors import ConversionError, QConfigError
from qfx.quantization import (
    FakeQuantize,
    FakeQuantizeBase,
    Observer,
    QConfig,
    QuantWrapper,
    convert,
    default_static_mapping,
    default_weight_observer,
    get_default_qat_qconfig,
    prepare,
    prepare_qat,
    quantize_qat,
)
from tests.quantization.eager_net import OBSERVED, QCONFIG, data, net, observers


class TestTraining:
    @pytest.mark.inventory("S080", "S198", "S172")
    def test_prepare_qat_swaps_and_fake_quantizes(self) -> None:
        model = net(get_default_qat_qconfig(), training=True)
        prepared = prepare_qat(model)
        assert type(prepared.features[0]) is nniqat.ConvBnReLU2d
        assert (type(prepared.conv), type(prepared.fc)) == (nnqat.Conv2d, nnqat.Linear)
        assert prepared.training
        for name in OBSERVED:
            assert isinstance(prepared.get_submodule(name).observer, FakeQuantize)
        assert isinstance(model.conv, nn.Conv2d)
        assert prepared.conv.weight is not model.conv.weight
        weight = model.conv.weight
        assert prepare_qat(model, inplace=True).conv.weight is weight

    @pytest.mark.inventory("S080")
    def test_misuse_of_prepare_qat(self) -> None:
        with pytest.raises(ConversionError, match="in evaluation mode"):
            prepare_qat(net(get_default_qat_qconfig()))
        with pytest.raises(QConfigError, match="fake-quantize modules"):
            prepare_qat(net(QCONFIG, training=True))

    @pytest.mark.inventory("S208", "S202")
    def test_the_qconfigs_of_submodules_are_honoured(self) -> None:
        model = net(get_default_qat_qconfig("fbgemm"), training=True)
        model.fc.qconfig = None
        model.conv.qconfig = get_default_qat_qconfig("qnnpack")
        prepared = prepare_qat(model)
        assert observers(prepared) == OBSERVED[:-1]
        assert type(prepared.fc) is nn.Linear
        layers = {"features.0": True, "conv": False}
        assert {n: prepared.get_submodule(n).weight_fake_quant.qscheme.per_channel for n in layers} == layers
        prepared(data())
        converted = convert(prepared.eval())
        assert {n: converted.get_submodule(n).weight().qscheme().per_channel for n in layers} == layers
        assert type(converted.fc) is nn.Linear

    @pytest.mark.inventory("S084", "S196", "S199", "S200", "S172", "S173")
    def test_quantize_qat_trains_and_converts(self) -> None:
        x, target = data(), torch.randn(8, 5)
        losses: list[float] = []

        def train(model: nn.Module) -> None:
            optimizer = torch.optim.SGD(model.parameters(), 0.05)
            before = model.conv.weight.detach().clone(), model.features[0].bn.running_mean.clone()
            for _ in range(15):
                optimizer.zero_grad()
                loss = (model(x) - target).square().mean()
                loss.backward()
                assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())
                optimizer.step()
                losses.append(float(loss.detach()))
            assert not torch.equal(model.conv.weight, before[0])
            assert not torch.equal(model.features[0].bn.running_mean, before[1])
            assert {p.dtype for p in model.parameters()} == {torch.float32}
            model.eval()
            simulated.append(model(x).detach())

        simulated: list[Tensor] = []
        model = net(get_default_qat_qconfig(), training=True)
        converted = quantize_qat(model, train)
        assert losses[-1] < 0.8 * losses[0]
        assert type(converted.features[0]) is nniq.ConvReLU2d
        quanta = (converted(x) - simulated[0]).abs() / converted.fc.scale
        assert float(quanta.max()) <= 2.01
        assert isinstance(model.conv, nn.Conv2d)


class Recorder(Observer):
    """An observer of someone else's: a fixed range."""

    def __init__(self) -> None:
        super().__init__("quint8")
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        return torch.tensor([0.25]), torch.tensor([64])


class Coarse(FakeQuantizeBase):
    """A fake quantization of someone else's: multiples of a quarter."""

    dtype = qfx.quint8

    def forward(self, x: Tensor) -> Tensor:
        return x + ((x * 4).round() / 4 - x).detach()

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        return torch.tensor([0.25]), torch.tensor([64])


class CoarseWeight(Coarse):
    dtype = qfx.qint8

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        return torch.tensor([0.25]), torch.tensor([0])


@pytest.mark.inventory("S201", "S107")
def test_observers_and_fake_quantization_from_outside() -> None:
    x = data()
    prepared = prepare(net(QConfig(Recorder, default_weight_observer)))
    prepared(x)
    assert prepared.conv.observer.calls == 1
    converted = convert(prepared)
    assert (converted.conv.scale, converted.conv.zero_point) == (0.25, 64)
    trained = prepare_qat(net(QConfig(Coarse, CoarseWeight), training=True))
    trained(x)
    converted = convert(trained.eval())
    assert (converted.fc.scale, converted.fc.zero_point) == (0.25, 64)
    weight = (trained.fc.weight * 4).round().clamp(-128, 127) / 4
    assert torch.equal(converted.fc.weight().dequantize(), weight.detach())


@pytest.mark.inventory("S077", "S201", "S041")
def test_a_custom_mapping_swaps_a_class_of_ones_own() -> None:
    class Doubling(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2

    class QDoubling(nnq.QFunctional):
        @classmethod
        def from_float(cls, mod: nn.Module) -> Any:
            made = cls()
            made.set_qparams(mod.activation_post_process.qparams())
            return made

        def forward(self, x: Any) -> Any:
            return self.mul_scalar(x, 2.0)

    mapping = {**default_static_mapping(), Doubling: QDoubling}
    model = QuantWrapper(nn.Sequential(nn.Linear(4, 4), Doubling())).eval()
    model.qconfig = QCONFIG
    prepared = prepare(model, mapping=mapping)
    x = torch.randn(20, 4)
    prepared(x)
    converted = convert(prepared, mapping)
    assert type(converted.module[1]) is QDoubling
    assert (converted(x) - model(x)).abs().max() < 0.1
