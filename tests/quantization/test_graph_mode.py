"""quantize_jit and quantize_dynamic_jit: graph mode under its older names."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import qfx
from qfx.errors import InputError, QConfigError
from qfx.models import QuantizedModel
from qfx.quantization import (
    MinMaxObserver,
    QConfig,
    QuantWrapper,
    convert,
    default_dynamic_qconfig,
    default_qconfig,
    default_weight_observer,
    float16_dynamic_qconfig,
    per_channel_dynamic_qconfig,
    per_tensor_dynamic_qconfig,
    prepare,
    quantize_dynamic,
    quantize_dynamic_jit,
    quantize_jit,
)
from tests.nets import small_net

INT8 = QConfig(MinMaxObserver, default_weight_observer)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU()
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.conv(x)).mean((2, 3)))


@pytest.fixture
def net() -> nn.Module:
    return Net().eval()


X = torch.linspace(-2, 2, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)


def run(model: nn.Module, batches: list[Tensor]) -> None:
    for batch in batches:
        model(batch)


def decisions(model: QuantizedModel) -> dict[str, str]:
    return {record.module_path: record.decision for record in model.report if record.op in ("conv", "linear")}


@pytest.mark.inventory("S088")
def test_one_call_is_prepare_calibrate_convert(net: nn.Module) -> None:
    quantized = quantize_jit(net, {"": INT8}, run, ([X],))
    expected = qfx.quantize_fx(net, {"": INT8}, [X])
    assert torch.equal(quantized(X), expected(X))
    assert torch.equal(quantize_jit(net, {"": INT8}, lambda model, x: model(x), X)(X), expected(X))


@pytest.mark.inventory("S088")
def test_it_is_within_the_tolerance_of_int8_of_the_eager_result(net: nn.Module) -> None:
    graph = quantize_jit(net, {"": INT8}, run, ([X],))
    wrapped = QuantWrapper(Pooled(net))
    wrapped.qconfig = INT8
    prepared = prepare(wrapped)
    prepared(X)
    eager = convert(prepared)
    # They differ in the scale that the pool rounds to, and then in the rounding of the result.
    assert (graph(X) - eager(X)).abs().max() <= 3 * eager.module.head.scale


class Pooled(nn.Module):
    """The net with a pool that has an eager quantized form."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.conv, self.relu, self.head = (copy.deepcopy(net.get_submodule(n)) for n in ("conv", "relu", "head"))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(nn.functional.adaptive_avg_pool2d(self.relu(self.conv(x)), 1).flatten(1))


@pytest.mark.inventory("S088", "S209")
@pytest.mark.parametrize(
    "entry",
    [
        {"head": None},
        {nn.Linear: None},
        {"module_name": [("head", None)]},
        {"module_name": {"head": INT8}, nn.Linear: INT8, "head": None},
    ],
)
def test_qconfigs_are_given_by_name_class_or_section(net: nn.Module, entry: dict[Any, Any]) -> None:
    quantized = quantize_jit(net, {"": INT8, **entry}, run, ([X],))
    assert isinstance(quantized, QuantizedModel)
    assert decisions(quantized) == {"conv": "int8", "head": "float"}


@pytest.mark.inventory("S088")
@pytest.mark.parametrize("inplace", [False, True])
def test_the_float_model_stays(net: nn.Module, inplace: bool) -> None:
    before = copy.deepcopy(net.state_dict())
    quantized = quantize_jit(net, {"": INT8}, run, ([X],), inplace)
    assert isinstance(quantized, QuantizedModel)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.inventory("S088")
def test_debug_gives_the_graph_that_the_program_equals(net: nn.Module) -> None:
    graph = quantize_jit(net, {"": INT8}, run, ([X],), debug=True)
    assert isinstance(graph, fx.GraphModule)
    assert any(getattr(node.target, "__name__", "") == "quantize" for node in graph.graph.nodes)
    quantized = quantize_jit(net, {"": INT8}, run, ([X],))
    scale = (net(X).max() - net(X).min()) / 255
    assert (graph(X) - quantized(X)).abs().max() <= 1.001 * scale


@pytest.mark.inventory("S089")
@pytest.mark.parametrize("qconfig", [None, per_tensor_dynamic_qconfig, per_channel_dynamic_qconfig])
def test_dynamic_equals_the_eager_result(qconfig: Any) -> None:
    model = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 5)).eval()
    x = torch.randn(7, 12)
    graph = quantize_dynamic_jit(model, None if qconfig is None else {"": qconfig})
    eager = quantize_dynamic(model, None if qconfig is None else {nn.Linear: qconfig})
    assert (graph(x) - eager(x)).abs().max() <= 1e-5
    assert not torch.equal(graph(x), model(x))


@pytest.mark.inventory("S089")
def test_dynamic_by_name(net: nn.Module) -> None:
    quantized = quantize_dynamic_jit(net, {"head": default_dynamic_qconfig})
    assert isinstance(quantized, QuantizedModel)
    assert decisions(quantized) == {"conv": "float", "head": "int8"}


@pytest.mark.inventory("S089")
@pytest.mark.parametrize("entry", [{"": default_qconfig}, {"head": default_qconfig}, {nn.Linear: default_qconfig}])
def test_dynamic_refuses_a_static_qconfig(net: nn.Module, entry: dict[Any, Any]) -> None:
    with pytest.raises(QConfigError, match="is not dynamic"):
        quantize_dynamic_jit(net, entry)


def _reloaded(scripted: nn.Module) -> nn.Module:
    """As another process without its Python source would load it."""
    file = io.BytesIO()
    torch.jit.save(scripted, file)
    file.seek(0)
    loaded: nn.Module = torch.jit.load(file)
    return loaded


SCRIPTED: dict[str, Callable[[nn.Module, Tensor], nn.Module]] = {
    "scripted": lambda net, x: torch.jit.script(net),
    "traced": torch.jit.trace,
    "frozen": lambda net, x: torch.jit.freeze(torch.jit.script(net)),
    "frozen trace": lambda net, x: torch.jit.freeze(torch.jit.trace(net, x)),
    "loaded": lambda net, x: _reloaded(torch.jit.script(net)),
    "loaded trace": lambda net, x: _reloaded(torch.jit.trace(net, x)),
}


@pytest.mark.inventory("S088", "S209")
@pytest.mark.parametrize("form", SCRIPTED)
@pytest.mark.parametrize("entry", [{}, {"head": None}, {nn.Linear: None}])
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_gives_what_the_module_gives(net: nn.Module, form: str, entry: dict[Any, Any]) -> None:
    quantized = quantize_jit(SCRIPTED[form](net, X), {"": INT8, **entry}, run, ([X],))
    expected = quantize_jit(net, {"": INT8, **entry}, run, ([X],))
    assert isinstance(quantized, QuantizedModel)
    assert decisions(quantized) == decisions(expected)
    assert quantized.state_dict().keys() == expected.state_dict().keys()
    assert torch.equal(quantized(X), expected(X))
    assert torch.equal(pickle.loads(pickle.dumps(quantized))(X), expected(X))


@pytest.mark.inventory("S088")
@pytest.mark.parametrize("form", SCRIPTED)
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_residual_network_of_torchscript_is_that_of_quantize_fx(form: str) -> None:
    residual, x = small_net("ResidualNet"), torch.randn(2, 3, 32, 32)
    scripted = SCRIPTED[form](residual, x)
    quantized = quantize_jit(scripted, {"": INT8}, run, ([x],))
    expected = qfx.quantize_fx(residual, {"": INT8}, [x])
    assert isinstance(quantized, QuantizedModel)
    assert decisions(quantized) == decisions(expected)
    assert torch.equal(quantized(x), expected(x))
    prepared = qfx.prepare_fx(scripted, {"": INT8})
    prepared(x)
    assert torch.equal(qfx.convert_fx(prepared)(x), quantized(x))


@pytest.mark.inventory("S089")
@pytest.mark.parametrize("form", SCRIPTED)
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_dynamic_on_torchscript(form: str) -> None:
    model, x = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 5)).eval(), torch.randn(7, 12)
    graph = quantize_dynamic_jit(SCRIPTED[form](model, x))
    assert torch.equal(graph(x), quantize_dynamic_jit(model)(x))
    assert not torch.equal(graph(x), model(x))


@pytest.mark.inventory("S089")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_recurrent_layers_of_torchscript_are_dynamic_too() -> None:
    model, x = nn.Sequential(nn.Linear(6, 8), nn.LSTM(8, 5)).eval(), torch.randn(9, 2, 6)
    graph = quantize_dynamic_jit(_reloaded(torch.jit.script(model)))
    assert torch.equal(graph(x)[0], quantize_dynamic_jit(model)(x)[0])
    assert graph.state_dict()["1.weight_ih_l0"].dtype is torch.int8


@pytest.mark.inventory("S088")
def test_what_is_no_float_module_or_dict_is_told(net: nn.Module) -> None:
    with pytest.raises(InputError, match=r"not an nn\.Module"):
        quantize_jit(lambda x: x, {"": INT8}, run, ([X],))  # type: ignore[arg-type]
    with pytest.raises(QConfigError, match="is a dict"):
        quantize_jit(net, INT8, run, ([X],))  # type: ignore[arg-type]
    with pytest.raises(QConfigError, match="'tail'"):
        quantize_jit(net, {"tail": None}, run, ([X],))


class Recurrent(nn.Module):
    """One layer of every recurrent kind and a cell, one of them called twice, and a linear layer behind."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.inner = nn.LSTM(6, 8, bidirectional=True), nn.ModuleDict({"gru": nn.GRU(16, 7)})
        self.rnn, self.cell, self.linear = nn.RNN(7, 7), nn.LSTMCell(7, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, (h, _) = self.lstm(x)
        y, _ = self.rnn(self.rnn(self.inner["gru"](y)[0])[0])
        return self.linear(self.cell(y[-1])[0]), h


@pytest.mark.inventory("S089", "S138")
@pytest.mark.parametrize("qconfig", [per_tensor_dynamic_qconfig, per_channel_dynamic_qconfig, float16_dynamic_qconfig])
def test_recurrent_layers_equal_the_eager_result(qconfig: Any) -> None:
    torch.manual_seed(5)
    model, x = Recurrent().eval(), torch.randn(9, 2, 6)
    graph = qfx.quantize_fx(model, {"": qconfig}, example_inputs=(x,))
    eager = quantize_dynamic(model, dict.fromkeys([nn.Linear, nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell], qconfig))
    for found, wanted, exact in zip(graph(x), eager(x), model(x), strict=True):
        assert (found - wanted).abs().max() <= 1e-5
        assert not torch.equal(found, exact)
    assert type(model.lstm) is nn.LSTM
    assert "qconfig" not in vars(model.lstm)
    dtype = torch.float16 if qconfig is float16_dynamic_qconfig else torch.int8
    assert graph.state_dict()["inner.gru.weight_ih_l0"].dtype is dtype
    wanted = {"int8"} if dtype is torch.int8 else {"float"}
    layers = [r for r in graph.report if r.is_layer]
    assert {r.decision for r in layers} == wanted
    assert all(r.reason.startswith("dynamic qconfig: weights") for r in layers)
    for other in (copy.deepcopy(graph), pickle.loads(pickle.dumps(graph))):
        assert torch.equal(other(x)[0], graph(x)[0])
    fresh = qfx.quantize_fx(Recurrent().eval(), {"": qconfig}, example_inputs=(x,))
    fresh.load_state_dict(graph.state_dict())
    assert torch.equal(fresh(x)[0], graph(x)[0])


@pytest.mark.inventory("S089")
def test_a_recurrent_layer_stays_float_where_its_qconfig_says_so() -> None:
    model, x = Recurrent().eval(), torch.randn(9, 2, 6)
    rules = {"": default_dynamic_qconfig, "module_name": [("lstm", None)]}
    graph = qfx.quantize_fx(model, rules, [x])
    assert next(r for r in graph.report if r.module_path == "lstm").decision == "float"
    assert torch.equal(graph(x)[1], model(x)[1])


@pytest.mark.inventory("S089")
def test_float16_weights_by_name() -> None:
    model, x = nn.Sequential(nn.Linear(12, 24), nn.Linear(24, 5)).eval(), torch.randn(7, 12)
    graph = quantize_dynamic_jit(model, {"1": float16_dynamic_qconfig})
    eager = quantize_dynamic(model, {"1": float16_dynamic_qconfig})
    assert (graph(x) - eager(x)).abs().max() <= 1e-5
    assert not torch.equal(graph(x), model(x))
