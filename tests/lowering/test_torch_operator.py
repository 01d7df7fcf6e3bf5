"""torch's own tools meet a quantized model: each gives its numbers bit for bit, or refuses in words."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import qfx
from qfx.models import QuantizedModel

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
LARGER = torch.randn(7, 3, 8, 8, generator=torch.Generator().manual_seed(2))
WIDER = torch.randn(2, 3, 12, 10, generator=torch.Generator().manual_seed(3))

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


class Several(nn.Module):
    """Two results of one program."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = torch.relu(self.conv(x))
        return self.fc(y.mean((2, 3))), y


class Parts(nn.Module):
    """Two programs around operations that torch runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = torch.cumsum(torch.relu(self.conv(x)).flatten(2).transpose(1, 2), 1)
        return {"a": self.fc(y), "b": torch.fft.fft(y).abs()}


class Holder(nn.Module):
    """A float model that holds another one."""

    def __init__(self, held: nn.Module) -> None:
        super().__init__()
        self.before, self.held = nn.Conv2d(3, 3, 1).requires_grad_(False), held

    def forward(self, x: Tensor) -> Any:
        return pytree.tree_map(torch.neg, self.held(self.before(x)))


def quantized(net: nn.Module, **more: Any) -> QuantizedModel:
    torch.manual_seed(0)
    return qfx.quantize_fx(net.eval(), {"": qfx.get_default_qconfig(), **more}, [X])


@pytest.fixture(scope="module")
def models() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    several, parts = quantized(Several()), quantized(Parts())
    loaded = pickle.loads(pickle.dumps(several))
    return {"several": several, "parts": parts, "held": Holder(several), "held parts": Holder(parts), "loaded": loaded}


MODELS = ("several", "parts", "held", "held parts", "loaded")


def same(given: Any, expected: Any) -> bool:
    pairs = zip(pytree.tree_leaves(given), pytree.tree_leaves(expected), strict=True)
    return all(g.dtype is e.dtype and torch.equal(g, e) for g, e in pairs)


# ---------------------------------------------------------------- recorded


def traced(model: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.trace(model, X, strict=False)


@pytest.mark.parametrize("name", MODELS)
def test_a_traced_model_computes_from_its_inputs(models: dict[str, nn.Module], name: str) -> None:
    model = models[name]
    recorded = traced(model)
    assert all(same(recorded(x), model(x)) for x in (X, X + 1, LARGER, WIDER))


@pytest.mark.parametrize("pre_dispatch", [False, True])
@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
@pytest.mark.parametrize("name", ["several", "parts", "loaded"])
def test_make_fx_records_programs(models: dict[str, nn.Module], name: str, mode: str, pre_dispatch: bool) -> None:
    model = models[name]
    recorded = make_fx(model, tracing_mode=mode, pre_dispatch=pre_dispatch)(X)
    assert any("qfx.run" in str(node.target) for node in recorded.graph.nodes)
    assert all(same(recorded(x), model(x)) for x in (X, X + 1))


@pytest.mark.parametrize("name", MODELS)
def test_an_exported_model_with_free_sizes(models: dict[str, nn.Module], name: str) -> None:
    model, free = models[name], torch.export.Dim.AUTO
    sizes = {0: torch.export.Dim("batch"), 2: free, 3: free}
    key: Any = ({"x": sizes}) if "held" in name else {"args": (sizes,)}
    exported = torch.export.export(model, (X,), dynamic_shapes=key).module()
    assert all(same(exported(x), model(x)) for x in (X, LARGER, WIDER))


def test_an_exported_model_of_fixed_sizes(models: dict[str, nn.Module]) -> None:
    for name in MODELS:
        exported = torch.export.export(models[name], (X,))
        assert same(exported.module()(X + 1), models[name](X + 1))


@pytest.mark.parametrize("dynamic", [True, None])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("name", ["several", "held parts"])
def test_a_compiled_model(models: dict[str, nn.Module], name: str, backend: str, dynamic: bool | None) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(models[name], backend=backend, fullgraph=True, dynamic=dynamic)
    assert all(same(compiled(x), models[name](x)) for x in (X, X + 1, LARGER))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["several", "held"])
def test_a_model_compiled_by_inductor(models: dict[str, nn.Module], name: str) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(models[name], fullgraph=True)
    assert all(same(compiled(x), models[name](x)) for x in (X, LARGER))


RECORDERS: dict[str, Callable[[nn.Module, Tensor], Any]] = {
    "trace": torch.jit.trace,
    "export": lambda model, x: torch.export.export(model, (x,)).module(),
    "make_fx": lambda model, x: make_fx(model, tracing_mode="symbolic")(x),
    "compile": lambda model, x: torch.compile(model, fullgraph=True, backend="aot_eager"),
    "vmap": lambda model, x: lambda x: torch.vmap(model)(x[None])[0],
}


@pytest.mark.parametrize("record", RECORDERS.values(), ids=list(RECORDERS))
def test_integers_in_and_out(record: Callable[[nn.Module, Tensor], Any]) -> None:
    torch._dynamo.reset()
    model = quantized(nn.Sequential(nn.Conv2d(3, 4, 1)), input_quantized_idxs=[0], output_quantized_idxs=[0])
    codes = torch.randint(0, 256, X.shape, dtype=torch.uint8)
    assert model(codes).dtype is torch.uint8
    assert same(record(model, codes)(codes + 1), model(codes + 1))


@pytest.mark.parametrize("record", RECORDERS.values(), ids=list(RECORDERS))
def test_a_model_that_was_never_called_is_recorded_by_its_first_call(
    record: Callable[[nn.Module, Tensor], Any],
) -> None:
    torch._dynamo.reset()
    net, x = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)).eval(), torch.randn(5, 8)
    model = qfx.quantize_fx(net, {"": qfx.default_dynamic_qconfig})
    again = qfx.quantize_fx(net, {"": qfx.default_dynamic_qconfig})
    assert same(record(model, x)(x * 2), again(x * 2))
    loaded = pickle.loads(pickle.dumps(again))
    assert same(record(loaded, x)(x * 2), again(x * 2))


def test_torch_fx_takes_a_held_model_as_one_node(models: dict[str, nn.Module]) -> None:
    holder = nn.Sequential(nn.Conv2d(3, 3, 1), models["parts"]).requires_grad_(False)
    graph = torch.fx.symbolic_trace(holder)
    assert [node.target for node in graph.graph.nodes if node.op == "call_module"] == ["0", "1"]
    assert same(graph(X), holder(X))


def test_a_recorded_graph_keeps_its_programs() -> None:
    model = quantized(Several())
    recorded, expected = traced(model), model(X)
    del model
    gc.collect()
    assert same(recorded(X), expected)


def test_a_compiled_model_follows_load_state_dict() -> None:
    torch._dynamo.reset()
    model, other = quantized(Several()), qfx.quantize_fx(Several().eval(), {"": qfx.get_default_qconfig()}, [X * 3])
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    before = compiled(X)
    model.load_state_dict(other.state_dict())
    assert same(compiled(X), other(X))
    assert not same(compiled(X), before)


FOREIGN = """
import torch, qfx.models
try:
    {load}(torch.zeros(4, 3, 8, 8))
except Exception as error:
    assert "does not have" in str(error) and "qfx.save" in str(error), error
else:
    raise SystemExit("it ran")
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["trace", "export"])
def test_a_graph_saved_by_another_process_is_refused(models: dict[str, nn.Module], how: str, tmp_path: Path) -> None:
    path = str(tmp_path / "graph.pt2")
    if how == "trace":
        traced(models["several"]).save(path)
        load = f"torch.jit.load({path!r})"
    else:
        torch.export.save(torch.export.export(models["several"], (X,)), path)
        load = f"torch.export.load({path!r}).module()"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FOREIGN.format(load=load)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------- transformed


def test_vmap_is_a_call_an_item(models: dict[str, nn.Module]) -> None:
    model, batches = models["several"], torch.stack([X, X * 2, X - 1])
    expected = [torch.stack(values) for values in zip(*map(model, batches), strict=True)]
    assert same(torch.vmap(model)(batches), expected)
    assert same(torch.vmap(model, in_dims=3)(batches.movedim(0, 3)), expected)
    assert same(torch.vmap(torch.vmap(model))(batches[None])[0][0], expected[0])


def test_functionalize_and_modes_see_one_operator(models: dict[str, nn.Module]) -> None:
    seen = []

    class Seeing(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    model = models["several"]
    assert same(torch.func.functionalize(model)(X), model(X))
    with Seeing():
        assert same(model(X), models["loaded"](X))
    assert "qfx.run.default" in seen


def test_fake_tensors_have_the_shapes(models: dict[str, nn.Module]) -> None:
    for name in ("several", "parts"):
        with FakeTensorMode() as mode:
            fake = models[name](torch.empty(7, 3, 8, 8))
        for given, real in zip(pytree.tree_leaves(fake), pytree.tree_leaves(models[name](LARGER)), strict=True):
            assert (given.shape, given.dtype, given.stride()) == (real.shape, real.dtype, real.stride())
        pytree.tree_leaves(models[name](mode.from_tensor(X)))


@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad, lambda: torch.autocast("cpu")])
def test_contexts_change_no_number(models: dict[str, nn.Module], context: Callable[[], Any]) -> None:
    for name in ("several", "parts"):
        with context():
            assert same(models[name](X.clone()), models[name](X))


def test_autocast_does_not_reach_into_a_model() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    model = quantized(net, non_traceable_module_name=["1"])
    expected = model(X)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert same(model(X), expected)
    assert len(model.compiled.segments) > 1


def test_functional_call_counts_with_the_tensors_given() -> None:
    model, other = quantized(Several()), qfx.quantize_fx(Several().eval(), {"": qfx.get_default_qconfig()}, [X * 3])
    before = model(X)
    assert same(torch.func.functional_call(model, dict(other.state_dict()), (X,)), other(X))
    assert same(model(X), before)


def test_tensors_changed_in_place_or_replaced_count() -> None:
    model, other = quantized(Several()), qfx.quantize_fx(Several().eval(), {"": qfx.get_default_qconfig()}, [X * 3])
    model(X)
    for name, buffer in model.named_buffers():
        buffer.copy_(other.get_buffer(name))
    assert same(model(X), other(X))
    other.fc.load_state_dict({k: v * 0 if k == "bias" else v for k, v in other.fc.state_dict().items()})
    model.fc.bias = torch.zeros_like(model.fc.bias)
    assert same(model(X), other(X))
    assert not same(model(X), quantized(Several())(X))


# ---------------------------------------------------------------- refused


def differentiable() -> Tensor:
    return X.clone().requires_grad_()


def first(result: Any) -> Tensor:
    return pytree.tree_leaves(result)[0].sum()


DERIVATIVES: dict[str, Callable[[Any], Any]] = {
    "backward": lambda q: first(q(differentiable())).backward(),
    "autograd.grad": lambda q: torch.autograd.grad(first(q(x := differentiable())), x),
    "func.grad": lambda q: torch.func.grad(lambda x: first(q(x)))(X),
    "func.vjp": lambda q: torch.func.vjp(lambda x: first(q(x)), X)[1](torch.ones(())),
    "func.jvp": lambda q: torch.func.jvp(lambda x: first(q(x)), (X,), (X,)),
    "func.jacrev": lambda q: torch.func.jacrev(lambda x: first(q(x)))(X),
    "func.jacfwd": lambda q: torch.func.jacfwd(lambda x: first(q(x)))(X),
    "func.hessian": lambda q: torch.func.hessian(lambda x: first(q(x)))(X),
    "func.linearize": lambda q: torch.func.linearize(lambda x: first(q(x)), X),
    "vmap of grad": lambda q: torch.vmap(torch.func.grad(lambda x: first(q(x))))(X[None]),
    "checkpoint": lambda q: first(checkpoint(q, differentiable(), use_reentrant=False)).backward(),
    "reentrant checkpoint": lambda q: first(checkpoint(q, differentiable(), use_reentrant=True)).backward(),
    "compiled backward": lambda q: first(torch.compile(q, backend="aot_eager")(differentiable())).backward(),
    "traced backward": lambda q: first(traced(q)(differentiable())).backward(),
    "gradient of a tensor of it": lambda q: torch.func.grad(
        lambda s: first(torch.func.functional_call(q, {"fc.bias_scale": s}, (X,)))
    )(q.get_buffer("fc.bias_scale")),
}


@pytest.mark.parametrize("name", ["several"])
@pytest.mark.parametrize("derive", DERIVATIVES.values(), ids=list(DERIVATIVES))
def test_derivatives_are_refused(models: dict[str, nn.Module], name: str, derive: Callable[[Any], Any]) -> None:
    torch._dynamo.reset()
    with pytest.raises(qfx.UnsupportedError) as caught:
        derive(models[name])
    assert caught.value.remedy


def test_a_forward_pass_needs_no_gradient(models: dict[str, nn.Module]) -> None:
    torch._dynamo.reset()
    model, x = models["several"], differentiable()
    assert same(model(x), model(X))
    assert same(torch.compile(model, backend="aot_eager", fullgraph=True)(x), model(X))
    assert same(checkpoint(model, x, use_reentrant=False), model(X))
    with torch.no_grad():
        assert not model(x)[0].requires_grad


def test_dual_numbers_are_refused(models: dict[str, nn.Module]) -> None:
    with forward_ad.dual_level():
        assert same(models["several"](X), models["loaded"](X))
        with pytest.raises(qfx.UnsupportedError, match="Forward-mode"):
            models["several"](forward_ad.make_dual(X, X))


def test_what_else_is_refused(models: dict[str, nn.Module], tmp_path: Path) -> None:
    q, held = models["several"], models["held"]
    calls: list[Callable[[], Any]] = [
        lambda: torch.jit.script(q),
        lambda: torch.jit.script(held),
        lambda: torch.fx.symbolic_trace(q),
        lambda: torch.onnx.export(q, (X,), tmp_path / "q.onnx", dynamo=False),
        lambda: torch.onnx.export(held, (X,), tmp_path / "q.onnx", dynamo=False),
        lambda: torch.vmap(lambda s: torch.func.functional_call(q, {"fc.bias_scale": s}, (X,)))(torch.ones(2, 4)),
    ]
    for call in calls:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            with pytest.raises(qfx.UnsupportedError) as caught:
                call()
        assert caught.value.remedy
    with FakeTensorMode(), pytest.raises(qfx.UnsupportedError, match="FakeTensorMode"):
        q(X)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="strict=True"):
        torch.export.export(q, (X,), strict=True)


def test_a_program_by_itself_is_not_recorded_silently(models: dict[str, nn.Module]) -> None:
    model = models["several"]
    assert isinstance(model, QuantizedModel)
    executable = model.compiled.segments[0].executable
    assert executable is not None

    def call(x: Tensor) -> Any:
        assert executable is not None
        return executable(x)

    for record in (traced, lambda f: make_fx(f)(X), lambda f: torch.vmap(f)(X[None])):
        with pytest.raises(qfx.UnsupportedError, match="records or transforms"):
            record(call)
