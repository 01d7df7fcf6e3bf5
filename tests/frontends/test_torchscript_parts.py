"""Parts of ScriptModules that a graph holds whole: layers made anew, and islands that are copied and converted."""

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qfx
from qfx.errors import CaptureError, ConversionError
from qfx.frontends.torchscript import capture
from tests.frontends.test_torchscript import FORMS, REFUSED, Between, Counter, Gate, Item, X, reload

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]

EVERYTHING = {"": qfx.get_default_qconfig()}
SEQUENCES = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))


class Last(nn.Module):
    """A recurrent layer of which one result is used, between two linear layers."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.first, self.layer, self.last = nn.Linear(8, 8), layer, nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layer(self.first(x))[0][:, -1])


class States(nn.Module):
    """A recurrent layer of which the states are used."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.LSTM(8, 8, 2, bidirectional=True), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        _, (h, c) = self.layer(x)
        return self.last(h), c


def recurrent(kind: str) -> nn.Module:
    torch.manual_seed(1)
    layers: dict[str, Any] = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}
    return (States() if kind == "states" else Last(layers[kind](8, 8, batch_first=True))).eval()


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN", "states"])
@pytest.mark.parametrize("form", ["scripted", "traced", "loaded", "loaded trace"])
def test_a_recurrent_layer_is_that_of_the_module(kind: str, form: str) -> None:
    net = recurrent(kind)
    captured = capture(FORMS[form](net, SEQUENCES))
    (node,) = captured.graph.find_nodes(op="call_module")
    assert (node.target, node.meta["module_class"]) == ("layer", type(net.layer))
    assert "island_reason" not in node.meta
    for x in (SEQUENCES, torch.randn(2, 7, 8)):
        torch.testing.assert_close(captured(x), net(x))


@pytest.mark.parametrize("form", ["scripted", "traced", "loaded", "loaded trace"])
def test_a_recurrent_layer_gets_the_integers_of_the_module(form: str) -> None:
    net = recurrent("LSTM")
    rules = {"": qfx.quantization.per_channel_dynamic_qconfig}
    expected = qfx.quantize_fx(net, rules, example_inputs=(SEQUENCES,))
    quantized = qfx.quantize_fx(FORMS[form](net, SEQUENCES), rules, example_inputs=(SEQUENCES,))
    assert expected.state_dict()["layer.weight_ih_l0"].dtype is torch.int8
    assert quantized.state_dict().keys() == expected.state_dict().keys()
    assert torch.equal(quantized(SEQUENCES), expected(SEQUENCES))


class GivenStates(nn.Module):
    """A recurrent layer with states of its caller's."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, torch.ones(1, x.shape[1], 8))[0]


def test_a_trace_with_states_of_its_callers_keeps_them() -> None:
    net = GivenStates().eval()
    torch.testing.assert_close(capture(torch.jit.trace(net, SEQUENCES))(SEQUENCES), net(SEQUENCES))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN", "states"])
@pytest.mark.parametrize("form", ["frozen", "frozen trace", "loaded frozen"])
def test_a_frozen_recurrent_layer_is_captured_where_example_inputs_say_the_rank(kind: str, form: str) -> None:
    net = recurrent(kind)
    captured = capture(FORMS[form](net, SEQUENCES), example=((SEQUENCES,), {}))
    for x in (SEQUENCES, torch.randn(2, 7, 8)):
        with torch.no_grad():
            torch.testing.assert_close(captured(x), net(x))


class SelfAttention(nn.Module):
    """Attention to itself, with a residual connection."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, **options)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.attention(x, x, x, need_weights=False)
        return x + y


def encoder_layer(**options: Any) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, **options)


ATTENTION = {
    "attention": SelfAttention,
    "attention, added keys": lambda: SelfAttention(add_bias_kv=True, add_zero_attn=True),
    "layer": encoder_layer,
    "layer, options": lambda: encoder_layer(norm_first=True, activation="gelu", layer_norm_eps=0.1),
    "layer, module": lambda: encoder_layer(activation=nn.GELU("tanh")),
    "encoder": lambda: nn.TransformerEncoder(encoder_layer(), 2, nn.LayerNorm(8), enable_nested_tensor=False),
}


@pytest.mark.filterwarnings("ignore:'norm' was found in ScriptModule constants:UserWarning")
@pytest.mark.parametrize("kind", ATTENTION)
@pytest.mark.parametrize("form", ["scripted", "loaded"])
def test_attention_is_quantized_as_where_the_module_is_traced(kind: str, form: str) -> None:
    torch.manual_seed(2)
    net = nn.Sequential(nn.Linear(8, 8), ATTENTION[kind](), nn.Linear(8, 4)).eval()
    expected = qfx.quantize_fx(net, EVERYTHING, [SEQUENCES], frontend="symbolic")
    quantized = qfx.quantize_fx(FORMS[form](net, SEQUENCES), EVERYTHING, [SEQUENCES])
    assert quantized.state_dict().keys() == expected.state_dict().keys()
    assert [(r.name, r.decision) for r in quantized.report] == [(r.name, r.decision) for r in expected.report]
    assert torch.equal(quantized(SEQUENCES), expected(SEQUENCES))


class Doubling(nn.Module):
    """Neither ReLU nor GELU."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def test_an_encoder_layer_with_an_activation_of_its_own_computes_the_same() -> None:
    net = nn.Sequential(nn.Linear(8, 8), encoder_layer(activation=Doubling())).eval()
    captured = capture(torch.jit.script(net), example=((SEQUENCES,), {}))
    with torch.no_grad():
        torch.testing.assert_close(captured(SEQUENCES), net(SEQUENCES), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["scripted", "loaded"])
@pytest.mark.parametrize("kind", [Gate, Item, Counter])
def test_an_island_is_calibrated_converted_copied_and_pickled(kind: type[nn.Module], form: str) -> None:
    torch.manual_seed(3)
    net = Between(kind()).eval()
    quantized = qfx.quantize_fx(FORMS[form](net, X), EVERYTHING, [X])
    decisions = {record.module_path: record for record in quantized.report if record.module_path}
    assert {path: record.decision for path, record in decisions.items()} == {
        "first": "int8", "part": "float", "last": "int8",
    }  # fmt: skip
    assert REFUSED[kind][0] in decisions["part"].reason
    others = [copy.deepcopy(quantized), pickle.loads(pickle.dumps(quantized))]
    with torch.no_grad():
        found = quantized(X)
        assert all(torch.equal(other(X), found) for other in others)
        assert kind is Counter or (found - net(X)).abs().max() < 0.1


def test_an_island_has_the_names_of_its_tensors() -> None:
    net = Between(Gate()).eval()
    captured = capture(torch.jit.script(net))
    assert captured.state_dict().keys() == net.state_dict().keys()
    other = Between(Gate()).eval()
    captured.load_state_dict(other.state_dict())
    assert torch.equal(captured(X), other(X))


def test_an_island_is_no_part_of_a_qfx_file() -> None:
    quantized = qfx.quantize_fx(torch.jit.script(Between(Gate()).eval()), EVERYTHING, [X])
    with pytest.raises(ConversionError, match="ScriptedPart") as caught:
        qfx.save(quantized, io.BytesIO())
    assert caught.value.where == "part"


class Length(nn.Module):
    """Control flow on a dim."""

    def forward(self, x: Tensor) -> Tensor:
        if x.size(2) > 4:
            x = x * 2
        return x


class Switched(nn.Module):
    """Control flow on Python values."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.steps, self.mode = True, 2, "double"

    def forward(self, x: Tensor) -> Tensor:
        if self.wide and self.mode == "double":
            for _ in range(self.steps):
                x = x * 2
        elif self.mode == "never":
            raise ValueError(self.mode)
        return x if self.steps > 5 else x + 1


@pytest.mark.parametrize("form", ["scripted", "loaded", "frozen"])
def test_control_flow_on_python_values_is_folded(form: str) -> None:
    net = nn.Sequential(Switched()).eval()
    captured = capture(FORMS[form](net, X), strict=True)
    assert [node.name for node in captured.graph.nodes if node.op == "call_function"] == ["mul", "mul_1", "add"]
    assert torch.equal(captured(X), net(X))


@pytest.mark.parametrize("kind", [Gate, Length])
def test_control_flow_on_tensors_is_told_with_three_remedies(kind: type[nn.Module]) -> None:
    with pytest.raises(CaptureError) as caught:
        capture(reload(torch.jit.script(Between(kind()))), strict=True)
    assert caught.value.where == "part"
    assert str(caught.value.source).startswith("test_torchscript")
    first, second, third = (
        str(caught.value.remedy).split("\n    1. ")[1].replace("\n    3. ", "\n    2. ").split("\n    2. ")
    )
    assert "instead of" in first
    assert "the nn.Module that the TorchScript was made from" in second
    assert "[\"non_traceable_module_name\"] = ['part']" in third


def test_a_model_of_torchscript_that_is_refused_is_told_what_else_can_be_quantized() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.small, self.large = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.large(self.small(x)) if x.sum() > 0 else x

    whole = reload(torch.jit.script(Outer().eval()))
    with pytest.raises(CaptureError, match=r"Quantize a module that it calls, by itself:\s+quantize_fx\(model.large,"):
        qfx.quantize_fx(whole, EVERYTHING, [X])
    qfx.quantize_fx(whole.large, EVERYTHING, [X])
    frozen = torch.jit.freeze(torch.jit.script(Between(Gate()).eval()))
    with pytest.raises(CaptureError, match=r"before torch\.jit\.freeze"):
        qfx.quantize_fx(frozen, EVERYTHING, [X])
    assert qfx.quantize_fx(torch.jit.script(Between(Gate()).eval()), EVERYTHING, [X]).report.decided("int8")


class Compared(nn.Module):
    """Compares a shape with a list; nothing but the comparison says which way it goes."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape == [2, x.size(1), 8, 8]:
            x = x + 1
        return x


def test_a_shape_is_not_compared_while_it_is_unknown() -> None:
    with pytest.raises(CaptureError, match="depends on a tensor's shape"):
        capture(torch.jit.script(Between(Compared())), strict=True)


def test_the_reason_is_said_once() -> None:
    quantized = qfx.quantize_fx(torch.jit.script(Between(nn.ReLU()).eval()), EVERYTHING, [X])
    assert str(quantized.report).count("the model is TorchScript") == 1


# ---------------------------------------------------------------- TorchScript inside of plain modules, and on its own


@pytest.mark.parametrize("form", [f for f in FORMS if "loaded" in f or f == "scripted"])
def test_a_plain_module_around_torchscript_is_captured_as_torchscript(form: str) -> None:
    part = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU()).eval()
    net, plain = Between(part).eval(), copy.deepcopy(Between(part).eval())
    net.load_state_dict(plain.state_dict())
    net.part = FORMS[form](part, X)
    model, other = (qfx.quantize_fx(n, EVERYTHING, [X]) for n in (net, plain))
    assert (model.report.frontend, len(model.report.decided("float"))) == ("torchscript", 0)
    assert "part is TorchScript" in model.report.frontend_reason
    assert torch.equal(model(X), other(X))


@pytest.mark.parametrize("frontend", ["symbolic", "export"])
def test_other_frontends_refuse_torchscript_inside(frontend: str) -> None:
    net = Between(torch.jit.script(nn.ReLU())).eval()
    with pytest.raises(CaptureError, match="This module is TorchScript") as caught:
        qfx.prepare_fx(net, EVERYTHING, (X,), frontend=frontend)
    assert caught.value.where == "part"
    assert "frontend='torchscript'" in str(caught.value)


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
@pytest.mark.parametrize("form", ["scripted", "loaded"])
def test_a_model_that_is_one_layer_of_torchscript(kind: Any, form: str) -> None:
    layer, x = kind(8, 5).eval(), SEQUENCES[0]
    model = qfx.quantize_fx(FORMS[form](layer, x), EVERYTHING, [x])
    dynamic = qfx.quantize_fx(FORMS[form](layer, x), {"": qfx.default_dynamic_qconfig}, [x])
    assert [(r.module_path, r.decision) for r in model.report.layers()] == [("", "float")]
    assert [(r.module_path, r.decision) for r in dynamic.report.layers()] == [("", "int8")]
    with torch.no_grad():
        got, want = (y[0] if isinstance(y, tuple) else y for y in (model(x), layer(x)))
    torch.testing.assert_close(got, want)


def test_layers_inside_of_an_island_of_torchscript_stay_float_under_a_dynamic_qconfig() -> None:
    class Island(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.gate, self.cell = nn.Linear(8, 8), nn.Linear(8, 8), nn.LSTMCell(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.cell(self.gate(self.first(x)))[0] if x.sum() > 0 else x

    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.island = nn.Linear(8, 8), Island()

        def forward(self, x: Tensor) -> Tensor:
            return self.island(self.before(x))

    net, x = Around().eval(), torch.rand(3, 8) + 1
    model = qfx.quantize_fx(torch.jit.script(net), {"": qfx.default_dynamic_qconfig}, [x])
    decided = {r.module_path: (r.decision, r.reason) for r in model.report.layers()}
    assert decided.pop("before")[0] == "int8"
    assert decided.keys() == {"island.first", "island.gate", "island.cell"}
    assert set(decided.values()) == {("float", "it is TorchScript, of which no layer can be swapped")}
    assert model(x).shape == (3, 8)
