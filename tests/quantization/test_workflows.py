"""Eager workflows from end to end: against graph mode, against torch.ao, and over the choices that a qconfig has."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import qfx
import qfx.nn.quantized as nnq
from qfx.errors import QfxError
from qfx.nn.qat import RoundedWeight
from qfx.quantization import (
    DeQuantStub,
    FakeQuantize,
    HistogramObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    QConfig,
    QuantStub,
    convert,
    default_per_channel_weight_observer,
    default_weight_fake_quant,
    default_weight_observer,
    disable_observer,
    fuse_modules,
    get_default_qat_qconfig,
    get_default_qconfig,
    prepare,
    prepare_qat,
)
from qfx.tensor import QTensor
from tests.quantization.stub_nets import StubNet, images, mobilenet, mobilenet_v2, resnet, resnet18

BATCHES = [images(seed=seed) for seed in range(3)]
NETS: list[Callable[..., StubNet]] = [resnet, mobilenet]


def calibrated(net: StubNet, qconfig: Any) -> nn.Module:
    fused = fuse_modules(net, net.lists())
    fused.qconfig = qconfig
    prepared = prepare(fused)
    with torch.no_grad():
        for batch in BATCHES:
            prepared(batch)
    return prepared


def integers(model: Any, x: Tensor) -> Tensor:
    """What reaches the last stub."""
    seen: list[QTensor] = []
    handle = model.dequant.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model(x)
    handle.remove()
    return seen[0].int_repr()


def sqnr(reference: Tensor, result: Tensor) -> float:
    return float(10 * torch.log10(reference.square().sum() / (result - reference).square().sum()))


def in_graph_mode(net: nn.Module, qconfig: Any) -> Any:
    rules = {"": qconfig, "output_quantized_idxs": [0]}
    return qfx.quantize_fx(net, rules, BATCHES, bias_correction=False, adaptive_rounding=False)


@pytest.mark.inventory("S186")
@pytest.mark.parametrize("backend", [None, "fbgemm", "qnnpack"])
@pytest.mark.parametrize("make", NETS)
def test_the_integers_are_those_of_graph_mode(make: Callable[..., StubNet], backend: str | None) -> None:
    net, qconfig = make(), get_default_qconfig(backend)
    eager = convert(calibrated(net, qconfig))
    graph = in_graph_mode(net, qconfig)
    for x in (images(seed=9), 3 * images(1, seed=10)):  # the second leaves the range that calibration found
        assert torch.equal(integers(eager, x), graph(x))


@pytest.mark.inventory("S186")
@pytest.mark.parametrize("make", [resnet18, mobilenet_v2])
def test_the_integers_of_whole_networks_are_those_of_graph_mode(make: Callable[[], StubNet]) -> None:
    net, qconfig, x = make(), get_default_qconfig(), images(seed=9)
    found = integers(convert(calibrated(net, qconfig)), x)
    assert torch.equal(found, in_graph_mode(net, qconfig)(x))
    assert len(found.unique()) > 8


class OverImages(nn.Module):
    """Global pooling as a function or method."""

    def __init__(self, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x)


@pytest.mark.inventory("S186")
@pytest.mark.parametrize(
    "pool",
    [lambda x: F.adaptive_avg_pool2d(x, (1, 1)), lambda x: x.mean([2, 3]), lambda x: x.mean((-1, -2), keepdim=True)],
    ids=["adaptive_avg_pool2d", "mean", "mean keepdim"],
)
def test_the_integers_are_those_of_graph_mode_however_pooling_is_written(pool: Callable[[Tensor], Tensor]) -> None:
    net, qconfig, x = resnet(), get_default_qconfig(), images(seed=9)
    net.average = OverImages(pool)
    assert torch.equal(integers(convert(calibrated(net, qconfig)), x), in_graph_mode(net, qconfig)(x))


@pytest.mark.inventory("S186")
@pytest.mark.parametrize("make", NETS)
def test_the_parameters_are_those_of_graph_mode(make: Callable[..., StubNet]) -> None:
    net, qconfig = make(), get_default_qconfig()
    eager, graph = convert(calibrated(net, qconfig)), in_graph_mode(net, qconfig)
    found = {r.module_path: r.qparams for r in graph.report}
    layers = {path: m for path, m in eager.named_modules() if isinstance(m, nnq.QFunctional) or hasattr(m, "weight")}
    assert all(m.qparams.per_tensor() == found[path].per_tensor() for path, m in layers.items())
    state, other = eager.state_dict(), graph.state_dict()
    assert all(torch.equal(state[key], other[key]) for key in state if "weight" in key)


def peer(make: Callable[..., StubNet]) -> Callable[[Tensor], Tensor]:
    """torch.ao's eager quantization of the same network."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch.ao.nn.quantized as ao_nnq
        import torch.ao.quantization as ao

        torch.backends.quantized.engine = "fbgemm"
        net = make((ao.QuantStub, ao.DeQuantStub), ao_nnq.FloatFunctional)
        model = ao.fuse_modules(net, net.lists())
        model.qconfig = ao.get_default_qconfig("fbgemm")
        ao.prepare(model, inplace=True)
        for batch in BATCHES:
            model(batch)
        ao.convert(model, inplace=True)

    def run(x: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return model(x)

    return run


@pytest.mark.inventory("S186")
@pytest.mark.parametrize("make", NETS)
def test_it_is_as_accurate_as_torch_ao(make: Callable[..., StubNet]) -> None:
    net, x = make(), images(16, seed=5)
    expected = net(x).detach()
    theirs = sqnr(expected, peer(make)(x))
    assert sqnr(expected, convert(calibrated(net, get_default_qconfig("fbgemm")))(x)) > theirs - 1.0
    assert sqnr(expected, convert(calibrated(net, get_default_qconfig()))(x)) > theirs - 1.0


def converted(activation: Any, weight: Any = default_per_channel_weight_observer) -> Any:
    return convert(calibrated(resnet(), QConfig(activation, weight)))


@pytest.mark.inventory("S191")
def test_symmetric_and_asymmetric_by_the_qconfig() -> None:
    symmetric = converted(MinMaxObserver.with_args(qscheme="per_tensor_symmetric", dtype="qint8"))
    asymmetric = converted(MinMaxObserver)
    assert (symmetric.fc.zero_point, symmetric.conv1.zero_point) == (0, 0)
    assert asymmetric.fc.zero_point not in (0, 128)
    x = images(16, seed=5)
    expected = resnet()(x).detach()
    assert sqnr(expected, asymmetric(x)) > 20
    assert sqnr(expected, symmetric(x)) > 15


@pytest.mark.inventory("S192", "S197")
@pytest.mark.parametrize("observer", [MinMaxObserver, MovingAverageMinMaxObserver, HistogramObserver])
def test_the_calibration_technique_by_the_qconfig(observer: Any) -> None:
    prepared = calibrated(resnet(), QConfig(observer, default_weight_observer))
    assert type(prepared.fc.observer) is observer
    x = images(16, seed=5)
    assert sqnr(resnet()(x).detach(), convert(prepared)(x)) > 15
    training = resnet().train()
    training.qconfig = QConfig(FakeQuantize.with_args(observer=observer), default_weight_fake_quant)
    trained = prepare_qat(training)
    trained(x)
    assert type(trained.fc.observer.activation_post_process) is observer
    convert(trained.eval())


@pytest.mark.inventory("S203")
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("backend", ["fbgemm", "qnnpack"])
def test_weights_per_channel_by_the_qconfig(backend: str, training: bool) -> None:
    class Layers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quant, self.dequant = QuantStub(), DeQuantStub()
            self.conv, self.volume, self.fc = nn.Conv2d(3, 4, 3), nn.Conv3d(4, 4, 1), nn.Linear(6, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(self.quant(x))
            return self.dequant(self.fc(self.volume(x.unsqueeze(2)).flatten(3)))

    model = Layers().train(training)
    model.qconfig = (get_default_qat_qconfig if training else get_default_qconfig)(backend)
    prepared = prepare_qat(model) if training else prepare(model)
    prepared(torch.randn(2, 3, 4, 5))
    result = convert(prepared.eval())
    scheme = qfx.per_channel_affine if backend == "fbgemm" else qfx.per_tensor_affine
    assert {m.weight().qscheme() for m in (result.conv, result.volume, result.fc)} == {scheme}
    assert result(torch.randn(2, 3, 4, 5)).shape == (2, 4, 1, 5)


@pytest.mark.inventory("S202")
def test_parts_are_configured_differently() -> None:
    net = resnet()
    net.blocks[1].qconfig = QConfig(MinMaxObserver, default_weight_observer)
    result = convert(calibrated(net, get_default_qconfig()))
    assert result.blocks[0].conv1.weight().qscheme() is qfx.per_channel_affine
    assert result.blocks[1].conv1.weight().qscheme() is qfx.per_tensor_affine


@pytest.mark.inventory("S196")
def test_training_recovers_what_post_training_quantization_loses() -> None:
    """Weights of three bits: rounding each to its nearest loses what rounding them together keeps."""
    torch.manual_seed(1)
    model = nn.Sequential(QuantStub(), nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4), DeQuantStub())
    x = torch.randn(512, 8)
    expected = model(x).detach()
    three_bits = {"dtype": "qint8", "qscheme": "per_tensor_symmetric", "quant_min": -4, "quant_max": 3}
    model.eval().qconfig = QConfig(MinMaxObserver, MinMaxObserver.with_args(**three_bits))
    prepared = prepare(model)
    prepared(x)
    lost = sqnr(expected, convert(prepared)(x))
    rounding = FakeQuantize.with_args(observer=MinMaxObserver, **three_bits)
    model.train().qconfig = QConfig(get_default_qat_qconfig().activation, rounding)
    trained: Any = prepare_qat(model)
    trained(x)
    trained.apply(disable_observer)  # the usual recipe: ranges found first, then kept
    optimizer = torch.optim.Adam(trained.parameters(), 0.003)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 150)
    for _ in range(150):
        optimizer.zero_grad()
        (trained(x) - expected).square().mean().backward()
        optimizer.step()
        schedule.step()
    assert sqnr(expected, convert(trained.eval())(x)) > lost + 3


@pytest.mark.inventory("S173")
@pytest.mark.parametrize("backend", [None, "fbgemm"])
@pytest.mark.parametrize("make", NETS)
def test_int8_is_what_training_simulated(make: Callable[..., StubNet], backend: str | None) -> None:
    torch.manual_seed(3)
    net = make().train()
    fused = fuse_modules(net, net.lists())
    fused.qconfig = get_default_qat_qconfig(backend)
    trained: Any = prepare_qat(fused)
    optimizer, target = torch.optim.SGD(trained.parameters(), 0.01), torch.randn(len(BATCHES[0]), 10)
    for _ in range(3):
        for batch in BATCHES:
            optimizer.zero_grad()
            (trained(batch) - target).square().mean().backward()
            optimizer.step()
    simulated = trained.eval()(BATCHES[0]).detach()
    result = convert(trained)
    quanta = ((result(BATCHES[0]) - simulated) / result.fc.scale).abs()
    assert float(quanta.max()) <= 2.01
    for path, layer in trained.named_modules():
        if isinstance(layer, RoundedWeight):
            stored = result.get_submodule(path).weight().dequantize()
            torch.testing.assert_close(stored, layer.rounded_weight(), rtol=1e-6, atol=0.0)


class Functionals(nn.Module):
    """Functions of torch between quantized layers."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.quant, self.conv, self.dequant = QuantStub(), nn.Conv2d(3, 4, 3), DeQuantStub()
        self.between = between
        self.qconfig = QConfig(MinMaxObserver, default_per_channel_weight_observer)

    def forward(self, x: Tensor) -> Tensor:
        return self.dequant(self.between(self.conv(self.quant(x))))


def functionals(between: Callable[[Tensor], Tensor]) -> tuple[nn.Module, nn.Module]:
    model = Functionals(between).eval()
    prepared = prepare(model)
    prepared(images())
    return model, convert(prepared)


@pytest.mark.inventory("S207", "S043")
@pytest.mark.parametrize(
    "between",
    [F.relu, lambda x: F.max_pool2d(x, 2), lambda x: torch.flatten(x, 1), lambda x: x[:, :2].permute(0, 2, 3, 1),
     lambda x: F.adaptive_avg_pool2d(F.relu_(x), 1), nn.Dropout(0.5).eval(), nn.Identity(), nn.MaxPool2d(2)],
)  # fmt: skip
def test_functions_that_need_no_scale_of_their_own_run_on_integers(between: Callable[[Tensor], Tensor]) -> None:
    model, result = functionals(between)
    x = images()
    assert (result(x) - model(x)).abs().max() < 3 * result.conv.scale


@pytest.mark.inventory("S207", "S189")
@pytest.mark.parametrize("between", [lambda x: x + x, lambda x: torch.cat([x, x]) * x.sum(), torch.fft.fft2, torch.exp])
def test_functions_that_need_one_raise_one_clear_error(between: Callable[[Tensor], Tensor]) -> None:
    _, result = functionals(between)
    with pytest.raises(QfxError, match="what to do"):
        result(images())


@pytest.mark.inventory("S174")
def test_a_model_written_by_hand_needs_no_preparation() -> None:
    torch.manual_seed(2)
    conv = nnq.Conv2d(3, 4, 3, scale=0.1, zero_point=128)
    weight = torch.randn(4, 3, 3, 3) * 0.2
    conv.set_weight_bias(qfx.quantize_per_tensor(weight, 0.01, 0, qfx.qint8), torch.zeros(4))
    model = nn.Sequential(nnq.Quantize(0.02, 128), conv, nnq.ReLU(), nn.MaxPool2d(2), nnq.DeQuantize())
    x = torch.randn(2, 3, 8, 8)
    expected = F.max_pool2d(F.relu(F.conv2d(x, weight)), 2)
    # Half a step of the result, and half a step of input and weight over the 27 products.
    bound = 0.05 + 27 * (0.01 * float(weight.abs().max()) + 0.005 * float(x.abs().max()))
    assert (model(x) - expected).abs().max() < bound
