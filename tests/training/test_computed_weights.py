"""Weights that the model computes at each call (parametrizations, norms, pruning) stay so in training."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import qfx
from qfx.ir.computed import copied
from qfx.quantization import (
    DeQuantStub,
    QuantStub,
    convert,
    disable_fake_quant,
    disable_observer,
    enable_fake_quant,
    fuse_modules,
    get_default_qat_qconfig,
    get_default_qconfig,
    prepare,
    prepare_qat,
    quantize_dynamic,
)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own, of the old weight norm
        yield


class Symmetric(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight.triu() + weight.triu(1).mT


class Doubled(nn.Module):
    def forward(self, tensor: Tensor) -> Tensor:
        return tensor * 2.0


class Unit(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight / weight.norm(dim=-1, keepdim=True)


def _with(*steps: tuple[str, type[nn.Module]]) -> Callable[[nn.Module], nn.Module]:
    def apply(layer: nn.Module) -> nn.Module:
        for name, kind in steps:
            parametrize.register_parametrization(layer, name, kind())
        return layer

    return apply


class OddOnly(prune.BasePruningMethod):
    """A method of pruning of the user's own."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        return default_mask * (torch.arange(t.numel()) % 2).view_as(t)


def _pruned(layer: nn.Module) -> nn.Module:
    prune.l1_unstructured(layer, "weight", 0.3)
    return prune.random_unstructured(layer, "bias", 0.5)


def _pruned_twice(layer: nn.Module) -> nn.Module:
    prune.ln_structured(layer, "weight", 0.25, n=2, dim=0)
    return prune.random_unstructured(layer, "weight", 0.3)


def _pruned_by_own(layer: nn.Module) -> nn.Module:
    OddOnly.apply(layer, "weight")
    return layer


KINDS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "orthogonal": parametrizations.orthogonal,
    "spectral norm": parametrizations.spectral_norm,
    "weight norm": parametrizations.weight_norm,
    "old weight norm": nn.utils.weight_norm,
    "old spectral norm": nn.utils.spectral_norm,
    "own": _with(("weight", Unit)),
    "two on one tensor": _with(("weight", Doubled), ("weight", Unit)),
    "on the bias": _with(("bias", Doubled)),
    "on both": _with(("bias", Doubled), ("weight", Symmetric)),
    "pruned": _pruned,
    "pruned twice": _pruned_twice,
    "pruned by an own method": _pruned_by_own,
    "a norm of an own": lambda layer: parametrizations.weight_norm(_with(("bias", Doubled))(layer)),
}


class Net(nn.Module):
    """A layer whose weight is computed, between plain ones."""

    def __init__(self, apply: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.conv, self.bn = apply(nn.Conv2d(4, 4, 3, padding=1)), nn.BatchNorm2d(4)
        self.fc, self.head = apply(nn.Linear(4, 4)), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(self.quant(x))).mean((2, 3))
        return self.dequant(self.head(self.fc(x)))


def made(kind: str) -> nn.Module:
    """The same at every call."""
    torch.manual_seed(0)
    return Net(KINDS[kind]).train()


X = torch.randn(8, 4, 6, 6, generator=torch.Generator().manual_seed(1))


def in_graph(net: nn.Module) -> nn.Module:
    return qfx.prepare_qat_fx(net, {"": get_default_qat_qconfig()})


def in_eager(net: nn.Module) -> nn.Module:
    net.qconfig = get_default_qat_qconfig()
    return prepare_qat(net)


PREPARE = {"graph": in_graph, "eager": in_eager}
CONVERT = {"graph": qfx.convert_fx, "eager": convert}


def own_state(model: nn.Module) -> dict[str, Tensor]:
    marks = ("fake_quant", "post_process", "observer")
    return {k: v for k, v in model.state_dict().items() if not any(mark in k for mark in marks)}


def trained(model: nn.Module, steps: int = 3) -> nn.Module:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        model(X).square().sum().backward()
        optimizer.step()
    return model


def weights_of(net: nn.Module) -> dict[str, Tensor]:
    """Weights and biases as a call in evaluation computes them."""
    net = net.eval()
    with torch.no_grad():
        net(X)
    return {f"{p}.{n}": getattr(net.get_submodule(p), n).detach() for p in ("conv", "fc") for n in ("weight", "bias")}


@pytest.mark.parametrize("mode", PREPARE)
@pytest.mark.parametrize("kind", KINDS)
def test_without_rounding_it_trains_as_the_float_model(kind: str, mode: str) -> None:
    net, twin = made(kind), made(kind)
    prepared = PREPARE[mode](net)
    assert own_state(prepared).keys() == net.state_dict().keys()
    prepared.apply(disable_fake_quant)
    for _ in range(2):
        results = [model(X) for model in (prepared, twin)]
        torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
        for result in results:
            result.square().sum().backward()
    expected = {name: p.grad for name, p in twin.named_parameters()}
    found = {name: p.grad for name, p in prepared.named_parameters() if name in expected}
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert (gradient is None) == (expected[name] is None), name
        if gradient is not None:
            torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-4, msg=name)
    for name, value in own_state(prepared).items():
        torch.testing.assert_close(value, twin.state_dict()[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", PREPARE)
@pytest.mark.parametrize("kind", KINDS)
def test_float_checkpoints_fit_and_what_converts_is_the_constrained_weight(kind: str, mode: str) -> None:
    prepared, float_twin = trained(PREPARE[mode](made(kind))), made(kind)
    assert any(not torch.equal(v, float_twin.state_dict()[k]) for k, v in own_state(prepared).items())
    float_twin.load_state_dict(own_state(prepared))
    constrained = weights_of(float_twin)
    quantized = CONVERT[mode](prepared.eval())
    state = quantized.state_dict()
    rounded = (constrained["fc.weight"] / state["fc.weight_scale"].reshape(-1, 1)).round().clamp(-128, 127)
    assert (state["fc.weight"] - rounded).abs().max() <= 1.0  # one where float rounding moves a tie
    assert (state["fc.weight"] != rounded).float().mean() < 0.1
    assert not any("parametrizations" in k or k.endswith(("_g", "_orig", "_v")) for k in state)
    with torch.no_grad():
        expected = prepared(X)
        assert (quantized(X) - expected).norm() < 0.1 * expected.norm()  # a few roundings to 8 bits
    if kind == "orthogonal":
        torch.testing.assert_close(constrained["fc.weight"].mT @ constrained["fc.weight"], torch.eye(4))


@pytest.mark.parametrize("mode", PREPARE)
@pytest.mark.parametrize("kind", ["orthogonal", "weight norm", "old spectral norm"])
def test_checkpoints_of_training_and_copies(kind: str, mode: str) -> None:
    first = trained(PREPARE[mode](made(kind)))
    other = PREPARE[mode](made(kind))
    other.load_state_dict(first.state_dict())
    twin = copied(first)
    for model in (first, other, twin):
        model.eval().apply(disable_observer)
    with torch.no_grad():
        expected = first(X)
        assert torch.equal(other(X), expected)
        assert torch.equal(twin(X), expected)
    trained(twin.train())
    with torch.no_grad():
        assert torch.equal(first(X), expected)


@pytest.mark.parametrize("kind", ["orthogonal", "old weight norm"])
def test_an_optimizer_made_before_trains_the_same_tensors(kind: str) -> None:
    net = made(kind)
    net.qconfig = get_default_qat_qconfig()
    before = dict(net.named_parameters())
    prepared = prepare_qat(net, inplace=True)
    after = dict(prepared.named_parameters())
    assert all(after[name] is parameter for name, parameter in before.items())


@pytest.mark.parametrize("kind", KINDS)
def test_eager_mode_without_training(kind: str) -> None:
    net = Net(KINDS[kind])
    net(X)
    net.eval()
    fused = fuse_modules(net, [["conv", "bn"]])
    expected = net(X).detach()
    torch.testing.assert_close(fused(X), expected, rtol=1e-3, atol=1e-5)
    fused.qconfig = get_default_qconfig()
    prepared = prepare(fused)
    prepared(X)
    converted = convert(prepared)
    assert type(converted.fc).__module__.startswith("qfx.")
    assert (converted(X) - expected).norm() < 0.1 * expected.norm()
    dynamic = quantize_dynamic(net)
    assert type(dynamic.fc).__module__.startswith("qfx.")
    assert (dynamic(X) - expected).norm() < 0.1 * expected.norm()


@pytest.mark.parametrize("kind", ["spectral norm", "old weight norm", "own"])
def test_fused_with_its_batch_norm(kind: str) -> None:
    net = made(kind)
    fused = fuse_modules(net, [["conv", "bn"]])
    fused.qconfig = get_default_qat_qconfig()
    prepared = trained(prepare_qat(fused))
    prepared.apply(disable_observer)
    converted = convert(prepared.eval())
    with torch.no_grad():
        expected = prepared(X)
        assert (converted(X) - expected).norm() < 0.1 * expected.norm()
        prepared.apply(disable_fake_quant)
        assert not torch.equal(prepared(X), expected)
        prepared.apply(enable_fake_quant)


LAYERS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "Conv1d": (lambda: nn.Conv1d(4, 4, 3), X.flatten(2)),
    "Conv3d": (lambda: nn.Conv3d(4, 4, 2), X.unflatten(2, (2, 3))),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 5, 3, stride=2), X),
    "Bilinear": (lambda: nn.Bilinear(6, 6, 3), X),
}


class Around(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.twice = layer, isinstance(layer, nn.Bilinear)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, x) if self.twice else self.layer(x)


@pytest.mark.parametrize("kind", ["spectral norm", "weight norm", "old weight norm", "own"])
@pytest.mark.parametrize("name", LAYERS)
def test_other_layers_of_a_graph(name: str, kind: str) -> None:
    build, x = LAYERS[name]
    torch.manual_seed(0)
    net = Around(KINDS[kind](build())).train()
    torch.manual_seed(0)
    twin = Around(KINDS[kind](build())).train()
    prepared = in_graph(net)
    assert own_state(prepared).keys() == net.state_dict().keys()
    prepared.apply(disable_fake_quant)
    torch.testing.assert_close(prepared(x), twin(x), rtol=1e-3, atol=1e-5)
    prepared(x).square().sum().backward()
    twin(x).square().sum().backward()
    expected = {n: p.grad for n, p in twin.named_parameters()}
    for path, parameter in prepared.named_parameters():
        if path in expected:
            torch.testing.assert_close(parameter.grad, expected[path], rtol=1e-3, atol=1e-2)
    prepared.apply(enable_fake_quant)
    quantized: Any = qfx.convert_fx(prepared.eval())
    with torch.no_grad():
        assert (quantized(x) - prepared(x)).norm() < 0.05 * prepared(x).norm()
