"""torch's own tools meet quantized layers and functions: each gives their numbers bit for bit, or refuses in words."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

import qfx
import qfx.nn.quantized as nnq
import qfx.nn.quantized.functional as qF
from qfx.quantization import DeQuantStub, QuantStub, convert, get_default_qconfig, prepare, quantize_dynamic

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*torch.jit:DeprecationWarning",
    "ignore::torch.jit.TracerWarning",
    "ignore:There is a performance drop because we have not yet implemented the batching rule",
)


def values(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


INDICES = torch.tensor([[1, 3, 1], [0, 9, 2]])


class SelfAttention(nn.Module):
    """Attention of a sequence to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mixed, weights = self.attention(x, x, x)
        return mixed, weights


DYNAMIC: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "Linear": (lambda: nn.Linear(8, 4), values(3, 5, 8)),
    "LSTM": (lambda: nn.LSTM(8, 4, num_layers=2, bidirectional=True), values(5, 3, 8)),
    "GRU": (lambda: nn.GRU(8, 4, batch_first=True), values(3, 5, 8)),
    "RNN": (lambda: nn.RNN(8, 4), values(5, 8)),
    "LSTMCell": (lambda: nn.LSTMCell(8, 4), values(3, 8)),
    "GRUCell": (lambda: nn.GRUCell(8, 4), values(3, 8)),
    "RNNCell": (lambda: nn.RNNCell(8, 4), values(3, 8)),
    "MultiheadAttention": (SelfAttention, values(5, 3, 8)),
    "Embedding": (lambda: nn.Embedding(10, 4), INDICES),
    "EmbeddingBag": (lambda: nn.EmbeddingBag(10, 4), INDICES),
}
STATIC: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "Linear": (lambda: nn.Linear(8, 4), values(3, 8)),
    "Conv1d": (lambda: nn.Conv1d(3, 4, 3), values(2, 3, 9)),
    "Conv2d and ReLU": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), values(2, 3, 6, 6)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(3), values(2, 3, 4, 4)),
    "LayerNorm": (lambda: nn.LayerNorm(8), values(3, 8)),
    "Hardswish": (nn.Hardswish, values(3, 8)),
    "GELU": (nn.GELU, values(3, 8)),
}  # fmt: skip


class Call(nn.Module):
    """A function as a model."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def quantized(x: Tensor) -> Any:
    return qfx.quantize_per_tensor(x, 0.05, 100, qfx.quint8)


WEIGHT = qfx.quantize_per_channel(values(8, 8), [0.02] * 8, [0] * 8, 0, qfx.qint8)
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "quantize and dequantize": lambda x: quantized(x).dequantize(),
    "per channel": lambda x: qfx.quantize_per_channel(x, [0.1, 0.2, 0.3], [0, 1, 2], 0, qfx.quint8).dequantize(),
    "int_repr": lambda x: quantized(x).int_repr(),
    "relu and views": lambda x: torch.relu(quantized(x)).reshape(4, 6).t().dequantize(),
    "linear": lambda x: qF.linear(quantized(x), WEIGHT, None, 0.1, 100).dequantize(),
    "add": lambda x: qF.add(quantized(x), quantized(x), 0.1, 100).dequantize(),
    "comparison": lambda x: quantized(x) > 0.3,
}


def dynamic(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    layer, x = DYNAMIC[name]
    wanted = {getattr(nn, name): qfx.per_channel_dynamic_qconfig}
    return quantize_dynamic(nn.Sequential(layer()).eval(), wanted), x


def static(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    layer, x = STATIC[name]
    net: Any = nn.Sequential(QuantStub(), layer(), DeQuantStub()).eval()
    net.qconfig = get_default_qconfig()
    prepared = prepare(net)
    prepared(x)
    return convert(prepared), x


def compiled(model: nn.Module, x: Tensor, **how: Any) -> Any:
    torch._dynamo.reset()
    return torch.compile(model, backend="aot_eager", **how)(x)


def traced(model: nn.Module, x: Tensor) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.trace(model, x, strict=False)(x)


def derived(model: nn.Module, x: Tensor) -> Any:
    return torch.func.grad(lambda x: sum(y.sum() for y in pytree.tree_leaves(model(x))))(x)


def faked(model: nn.Module, x: Tensor) -> Any:
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        results = pytree.tree_leaves(model(mode.from_tensor(x)))
    expected = pytree.tree_leaves(model(x))
    assert [(r.shape, r.dtype) for r in results] == [(e.shape, e.dtype) for e in expected]
    return expected


TOOLS: dict[str, Callable[[nn.Module, Tensor], Any]] = {
    "compile": compiled,
    "compile fullgraph": lambda model, x: compiled(model, x, fullgraph=True),
    "compile dynamic": lambda model, x: compiled(model, x, fullgraph=True, dynamic=True),
    "export": lambda model, x: torch.export.export(model, (x,)).module()(x),
    "export strict": lambda model, x: torch.export.export(model, (x,), strict=True).module()(x),
    "jit.trace": traced,
    "jit.script": lambda model, x: torch.jit.script(model)(x),
    "make_fx": lambda model, x: make_fx(model)(x)(x),
    "make_fx symbolic": lambda model, x: make_fx(model, tracing_mode="symbolic")(x)(x),
    "vmap": lambda model, x: pytree.tree_map(lambda y: y[1], torch.vmap(model)(torch.stack([x, x]))),
    "func.grad": derived,
    "FakeTensorMode": faked,
    "onnx": lambda model, x: torch.onnx.export(model, (x,), io.BytesIO(), dynamo=False),
    "pickle": lambda model, x: pickle.loads(pickle.dumps(model))(x),
    "deepcopy": lambda model, x: copy.deepcopy(model)(x),
}
SLOW = {"compile dynamic", "export strict", "make_fx symbolic"}
TOOL_NAMES = [pytest.param(tool, marks=pytest.mark.slow if tool in SLOW else ()) for tool in TOOLS]
NO_MODULE_TOOLS = {"jit.script", "onnx", "pickle", "deepcopy"}
GIVES_NUMBERS = {
    "dynamic": set(TOOLS) - {"export strict", "jit.script", "func.grad", "onnx"},
    "static": {"compile", "jit.trace", "vmap", "pickle", "deepcopy"},
    "function": {"compile", "jit.trace", "vmap"},
}


def refusal(tool: str) -> Any:
    """What a tool that is refused raises; in torch's own error, the words are ours."""
    if "export strict" in tool or "fullgraph" in tool or "compile dynamic" in tool:
        return pytest.raises(torch._dynamo.exc.Unsupported, match=r"quantized layer with strict=True|QTensor's scale")
    return pytest.raises(qfx.UnsupportedError)


def require(kind: str, tool: str, model: nn.Module, x: Tensor) -> None:
    expected = model(x)
    if tool in GIVES_NUMBERS[kind]:
        given = TOOLS[tool](model, x)
        pairs = list(zip(pytree.tree_leaves(given), pytree.tree_leaves(expected), strict=True))
        assert all(torch.equal(g, e) and g.dtype is e.dtype for g, e in pairs)
        return
    with refusal(tool), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        TOOLS[tool](model, x)


@pytest.mark.parametrize("tool", TOOL_NAMES)
@pytest.mark.parametrize("name", DYNAMIC)
def test_dynamic_layers(name: str, tool: str) -> None:
    if tool == "func.grad" and name.startswith("Embedding"):
        pytest.skip("indices have no derivative")
    require("dynamic", tool, *dynamic(name))


@pytest.mark.parametrize("tool", TOOL_NAMES)
@pytest.mark.parametrize("name", STATIC)
def test_static_layers(name: str, tool: str) -> None:
    require("static", tool, *static(name))


@pytest.mark.parametrize("tool", [t for t in TOOL_NAMES if t.values[0] not in NO_MODULE_TOOLS])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str, tool: str) -> None:
    require("function", tool, Call(FUNCTIONS[name]), values(3, 8))


def test_every_dynamic_layer_is_walked() -> None:
    assert set(DYNAMIC) == {name for name, kind in vars(nnq.dynamic).items() if isinstance(kind, type)}


@pytest.mark.parametrize("tool", ["jit.trace", "export", "make_fx"])
def test_a_recorded_layer_computes_from_its_inputs_and_weights(tool: str) -> None:
    model, x = dynamic("Linear")
    record: dict[str, Callable[[], Any]] = {
        "jit.trace": lambda: torch.jit.trace(model, x),
        "export": lambda: torch.export.export(model, (x,)).module(),
        "make_fx": lambda: make_fx(model)(x),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        recorded = record[tool]()
    assert torch.equal(recorded(x * 2), model(x * 2))
    model.get_buffer("0.weight").neg_()
    assert torch.equal(recorded(x), model(x))


def test_a_compiled_layer_passes_its_result_on_and_refuses_backward() -> None:
    torch._dynamo.reset()
    model, x = dynamic("Linear")
    given = x.clone().requires_grad_()
    result = torch.compile(model, backend="aot_eager", fullgraph=True)(given)
    assert torch.equal(result, model(x))
    with pytest.raises(qfx.UnsupportedError):
        result.sum().backward()
