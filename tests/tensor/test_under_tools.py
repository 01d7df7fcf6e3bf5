"""QTensors that torch's own tools are given, make or hand out: their numbers, or a refusal; never bare integers."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

import qfx

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning")

X = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))


def quantized(x: Tensor) -> Any:
    return qfx.quantize_per_tensor(x, 0.05, 100, qfx.quint8)


def per_channel(x: Tensor) -> Any:
    return qfx.quantize_per_channel(x, [0.1, 0.2, 0.3], [0, 1, 2], 0, qfx.qint8)


class Call(nn.Module):
    """A function as a model."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


def nothing(q: Any) -> Any:
    return q


def to_floats(q: Any) -> Any:
    return q.dequantize()


def negated(q: Any) -> Any:
    """An operation that integers have too."""
    return q * 2


def scripted(function: Callable[[Any], Any], given: Any) -> Any:
    def passed(x: Tensor) -> Tensor:
        return x

    def written(x: Tensor) -> Tensor:
        return x * 2

    return torch.jit.script(passed if function is nothing else written)(given)


def traced(function: Callable[[Any], Any], given: Any) -> Any:
    return torch.jit.trace(function, given, check_trace=False)(given)


def faked(function: Callable[[Any], Any], given: Any) -> Any:
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        return function(mode.from_tensor(given))


def compiled(function: Callable[[Any], Any], given: Any) -> Any:
    torch._dynamo.reset()
    return torch.compile(function, backend="aot_eager")(given)


TOOLS: dict[str, Callable[[Callable[[Any], Any], Any], Any]] = {
    "vmap": lambda f, given: torch.vmap(f)(given),
    "functionalize": lambda f, given: torch.func.functionalize(f)(given),
    "script": scripted,
    "trace": traced,
    "onnx": lambda f, given: torch.onnx.export(Call(f), (given,), io.BytesIO(), dynamo=False),
    "make_fx": lambda f, given: make_fx(f)(given)(given),
    "make_fx fake": lambda f, given: make_fx(f, tracing_mode="fake")(given)(given),
    "export": lambda f, given: torch.export.export(Call(f), (given,)).module()(given),
    "FakeTensorMode": faked,
    "grad": lambda f, given: torch.func.grad(lambda q: f(q).sum())(given),
    "vjp": torch.func.vjp,
    "jvp": lambda f, given: torch.func.jvp(f, (given,), (given,)),
    "jacrev": lambda f, given: torch.func.jacrev(f)(given),
    "jacfwd": lambda f, given: torch.func.jacfwd(f)(given),
    "linearize": torch.func.linearize,
    "autograd": torch.autograd.functional.jacobian,
    "compile": compiled,
    "checkpoint": lambda f, given: checkpoint(f, given, use_reentrant=False),
    "symbolic_trace": lambda f, given: torch.fx.symbolic_trace(f)(given),
}
CALLS_THE_FUNCTION = {"compile", "checkpoint", "symbolic_trace"}
TORCHS_OWN_WORDS = {
    "jvp": (ValueError, "floating point"),
    "make_fx fake": (torch._subclasses.fake_tensor.UnsupportedFakeTensorException, "quantized"),
    "script": (RuntimeError, r"A QTensor goes to .* in torch's C\+\+"),
}


def same(given: Any, expected: Any) -> bool:
    return type(given) is type(expected) and torch.equal(given, expected)


@pytest.mark.parametrize("function", [nothing, to_floats, negated])
@pytest.mark.parametrize("make", [quantized, per_channel])
@pytest.mark.parametrize("tool", TOOLS)
def test_given_to(tool: str, make: Callable[[Tensor], Any], function: Callable[[Any], Any]) -> None:
    given = make(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if tool in CALLS_THE_FUNCTION and function is not negated:
            assert same(TOOLS[tool](function, given), function(given))
            return
        kind, words = TORCHS_OWN_WORDS.get(tool, (qfx.UnsupportedError, ""))
        with pytest.raises((kind, qfx.UnsupportedError), match=words if kind is not qfx.UnsupportedError else None):
            TOOLS[tool](function, given)


HANDED_OUT = {"functionalize", "compile", "checkpoint"}


@pytest.mark.parametrize("make", [quantized, per_channel])
@pytest.mark.parametrize("tool", sorted(set(TOOLS) - {"script", "symbolic_trace", "autograd"}))
def test_returned_by(tool: str, make: Callable[[Tensor], Any]) -> None:
    given = X if tool != "vmap" else X.expand(2, 3, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if tool in HANDED_OUT:
            assert same(TOOLS[tool](make, given), make(given))
            return
        with pytest.raises(qfx.UnsupportedError):
            TOOLS[tool](make, given)


@pytest.mark.parametrize("tool", ["trace", "vmap", "functionalize"])
def test_made_and_used_inside(tool: str) -> None:
    def inside(x: Tensor) -> Tensor:
        return torch.relu(quantized(x)).reshape(-1).dequantize()

    given = X if tool != "vmap" else X.expand(2, 3, 8)
    result = TOOLS[tool](inside, given)
    assert torch.equal(result if tool != "vmap" else result[1], inside(X))


ATTRIBUTES = "shape ndim nbytes itemsize T mT data device layout dtype is_leaf grad is_cpu requires_grad _version _base"


@pytest.mark.parametrize("name", ATTRIBUTES.split())
def test_an_attribute_in_a_compiled_function(name: str) -> None:
    q = quantized(X)
    expected = getattr(q, name)
    read, given = compiled(lambda x: (getattr(x[0], name), x[1] + 1), (q, X))
    assert same(read, expected) if isinstance(expected, Tensor) else read == expected
    assert torch.equal(given, X + 1)


@pytest.mark.slow
def test_what_was_made_before_the_compiler_was_loaded() -> None:
    script = (
        "import sys, torch, qfx\n"
        "q = qfx.quantize_per_tensor(torch.ones(2, 3), 0.1, 3, qfx.quint8)\n"
        "assert 'torch._dynamo' not in sys.modules\n"
        "f = torch.compile(lambda q: torch.relu(q).dequantize() + q.shape[0], backend='eager')\n"
        "assert torch.equal(f(q), torch.relu(q).dequantize() + 2)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_modules_hold_it_as_a_buffer() -> None:
    module, q = nn.Module(), quantized(X)
    module.register_buffer("q", q)
    module.to(torch.device("cpu")).share_memory()
    module.load_state_dict({"q": quantized(X + 1)})
    assert module.q is q
    assert same(q, quantized(X + 1))


def test_what_it_is_made_of_sees_its_changes_but_not_its_form() -> None:
    codes = torch.zeros(2, 3, dtype=torch.uint8)
    q = qfx.QTensor(codes, quantized(X).qparams)
    q.fill_(1.0)
    assert torch.equal(codes, torch.full((2, 3), 120, dtype=torch.uint8))
    q.squeeze_().unsqueeze_(0)
    assert q.shape == (1, 2, 3)
    assert codes.shape == (2, 3)
    assert q.codes.data_ptr() == codes.data_ptr() == q.data_ptr()
    assert len({q, quantized(X), q}) == 2
