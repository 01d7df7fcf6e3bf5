"""torch's own tools meet observers, fake quantization and prepared models: the same numbers and state, or a refusal."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import qfx
from qfx.quantization import DeQuantStub, FakeQuantize, MinMaxObserver, QuantStub, prepare

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*torch.jit:DeprecationWarning",
    "ignore::torch.jit.TracerWarning",
    "ignore:.*should not be instantiated:DeprecationWarning",
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning",
)

X = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))


def eager() -> nn.Module:
    model: Any = nn.Sequential(QuantStub(), net(), DeQuantStub()).eval()
    model.qconfig = qfx.get_default_qconfig()
    return prepare(model)


def trained() -> nn.Module:
    return qfx.prepare_qat_fx(net().train(), {"": qfx.get_default_qat_qconfig()}, (X,))


KINDS: dict[str, Callable[[], nn.Module]] = {
    "minimum and maximum": MinMaxObserver,
    "histogram": qfx.quantization.HistogramObserver,
    "fake quantization": FakeQuantize,
    "prepare_fx": lambda: qfx.prepare_fx(net().eval(), {"": qfx.get_default_qconfig()}, (X,)),
    "prepare": eager,
    "prepare_qat_fx": trained,
}
FAKE_QUANTIZED = ("fake quantization", "prepare_qat_fx")


def made(kind: str, observing: bool = True) -> nn.Module:
    model = KINDS[kind]()
    model(X)
    for module in model.modules():
        if isinstance(module, FakeQuantize) and not observing:
            module.disable_observer()
    return model


def compiled(model: nn.Module, x: Tensor, **how: Any) -> Any:
    torch._dynamo.reset()
    return torch.compile(model, backend="aot_eager", **how)(x)


def faked(model: nn.Module, x: Tensor) -> Any:
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        result = model(mode.from_tensor(x))
    expected = copy.deepcopy(model)(x)
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    return expected


TOOLS: dict[str, Callable[[nn.Module, Tensor], Any]] = {
    "compile": compiled,
    "fullgraph": lambda model, x: compiled(model, x, fullgraph=True),
    "export": lambda model, x: torch.export.export(model, (x,)).module()(x),
    "export strict": lambda model, x: torch.export.export(model, (x,), strict=True).module()(x),
    "jit.trace": lambda model, x: torch.jit.trace(model, x, check_trace=False)(x),
    "jit.script": lambda model, x: torch.jit.script(model)(x),
    "onnx": lambda model, x: torch.onnx.export(model, (x,), io.BytesIO(), dynamo=False),
    "make_fx": lambda model, x: make_fx(model)(x)(x),
    "FakeTensorMode": faked,
    "vmap": lambda model, x: torch.vmap(model)(x.expand(2, *x.shape))[1],
    "grad": lambda model, x: torch.func.grad(lambda x: model(x).sum())(x),
    "jvp": lambda model, x: torch.func.jvp(model, (x,), (x,))[0],
    "functionalize": lambda model, x: torch.func.functionalize(model)(x),
    "functional_call": lambda model, x: torch.func.functional_call(model, dict(model.named_parameters()), (x,)),
}
FOLLOWS = {"compile", "functional_call"}
FOLLOWS_TRAINING = FOLLOWS | {"fullgraph", "export", "export strict"}
FOLLOWS_ROUNDING = FOLLOWS_TRAINING | {"jit.trace", "make_fx", "FakeTensorMode", "vmap", "grad"}
IN_WORDS = "looks at values as they come"


def expected_of(tool: str, model: nn.Module, x: Tensor) -> Tensor:
    if tool != "grad":
        return model(x)
    given = x.clone().requires_grad_()
    return torch.autograd.grad(model(given).sum(), given)[0]


def require(model: nn.Module, tool: str, follows: set[str]) -> None:
    twin, x = copy.deepcopy(model), X * 1.5
    if tool in follows:
        expected = expected_of(tool, twin, x)
        assert torch.equal(TOOLS[tool](model, x), expected)
        assert all(map(torch.equal, model.buffers(), twin.buffers()))
        return
    kinds = (qfx.UnsupportedError, qfx.InputError)
    refused: Any = pytest.raises(kinds)
    if tool in ("fullgraph", "export strict"):
        refused = pytest.raises(torch._dynamo.exc.Unsupported, match=IN_WORDS)
    with refused, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        TOOLS[tool](model, x)
    assert all(map(torch.equal, model.buffers(), twin.buffers()))


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("kind", KINDS)
def test_while_it_observes(kind: str, tool: str) -> None:
    if (kind, tool) == ("prepare_qat_fx", "onnx"):
        pytest.skip("exported in evaluation mode, where nothing observes")
    require(made(kind), tool, FOLLOWS_TRAINING if kind in FAKE_QUANTIZED else FOLLOWS)


@pytest.mark.parametrize("tool", sorted(set(TOOLS) - {"onnx"}))
@pytest.mark.parametrize("kind", FAKE_QUANTIZED)
def test_without_its_observer(kind: str, tool: str) -> None:
    require(made(kind, observing=False), tool, FOLLOWS_ROUNDING)


@pytest.mark.slow
def test_training_compiled() -> None:
    torch._dynamo.reset()
    model = made("prepare_qat_fx")
    twin = copy.deepcopy(model)
    run = torch.compile(model, backend="aot_eager")
    for step in range(3):
        for call in (run, twin):
            call(X + step).square().sum().backward()
        for one, other in zip(model.parameters(), twin.parameters(), strict=True):
            assert torch.allclose(one.grad, other.grad, rtol=1e-5, atol=1e-6)
        with torch.no_grad():
            for parameter in (*model.parameters(), *twin.parameters()):
                parameter.sub_(parameter.grad, alpha=0.01)
    assert all(torch.allclose(a, b, rtol=1e-5) for a, b in zip(model.buffers(), twin.buffers(), strict=True))
