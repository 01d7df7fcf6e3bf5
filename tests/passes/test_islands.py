"""Layers inside of what no frontend takes apart: a dynamic qconfig swaps each, and the report lists each."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.ao.quantization import quantize_dynamic as peer_quantize_dynamic

import qfx
import qfx.nn.quantized.dynamic as nnqd
from qfx.errors import CaptureError, InputError
from qfx.quantization import float16_dynamic_qconfig, per_channel_dynamic_qconfig
from tests.covering import pairs

INT8 = {"": per_channel_dynamic_qconfig}


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


# ---------------------------------------------------------------- models that nobody traces


@dataclass
class Output:
    """What a model of transformers returns: neither a tensor nor a container that torch knows."""

    last: Tensor
    pooled: Tensor | None = None

    def to_tuple(self) -> tuple[Tensor, ...]:
        return tuple(v for f in fields(self) if (v := getattr(self, f.name)) is not None)


class Conv1D(nn.Module):
    """A linear layer as GPT-2 has it: the weight transposed, the product of a view."""

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.nf = outputs
        self.weight, self.bias = nn.Parameter(torch.randn(inputs, outputs) * 0.2), nn.Parameter(torch.randn(outputs))

    def forward(self, x: Tensor) -> Tensor:
        size = x.size()[:-1] + (self.nf,)  # noqa: RUF005
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(size)


class Projection(nn.Linear):
    """A user's subclass that computes as its base does."""

    def __init__(self, features: int) -> None:
        super().__init__(features, features, bias=False)


class Block(nn.Module):
    """Attention and a feed-forward part, whose code depends on values and takes keywords."""

    def __init__(self, width: int, linear: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.qkv, self.out = linear(3 * width, width), Projection(width)
        self.up, self.down, self.norm = linear(2 * width, width), nn.Linear(2 * width, width), nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor | None = None, **options: Any) -> Tensor:
        query, key, value = self.qkv(x).chunk(3, -1)
        if float(x.abs().max()) > 1e6:
            raise ValueError("out of range")
        scores = query @ key.transpose(-1, -2) * options.get("scale", 0.2)
        if mask is not None:
            scores = scores.masked_fill(mask[:, None, :] == 0, -1e4)
        x = self.norm(x + self.out(scores.softmax(-1) @ value))
        return x + self.down(F.gelu(self.up(x)))


class Encoder(nn.Module):
    """As BERT: embeddings, blocks, a pooler; inputs by name, a result that is an object."""

    def __init__(self, linear: Callable[[int, int], nn.Module] | None = None) -> None:
        super().__init__()
        make = linear or (lambda outputs, inputs: nn.Linear(inputs, outputs))
        self.words, self.places = nn.Embedding(30, 16, padding_idx=0), nn.Embedding(12, 16)
        self.blocks = nn.ModuleList(Block(16, make) for _ in range(2))
        self.pooler = nn.Linear(16, 16)

    def forward(
        self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, pool: bool = True, **kwargs: Any
    ) -> Any:
        if input_ids is None:
            raise ValueError("no input_ids")
        if attention_mask is not None and bool((attention_mask == 1).all()):
            attention_mask = None
        x = self.words(input_ids) + self.places(torch.arange(input_ids.shape[1]))
        for block in self.blocks:
            x = block(x, attention_mask, **kwargs)
        return Output(x, torch.tanh(self.pooler(x[:, 0])) if pool else None)


class Decoder(Encoder):
    """As GPT-2: the layers are Conv1D, the head's weight is the embedding's."""

    def __init__(self) -> None:
        super().__init__(Conv1D)
        self.head = nn.Linear(16, 30, bias=False)
        self.head.weight = self.words.weight

    def forward(self, input_ids: Tensor | None = None, **kwargs: Any) -> Any:
        hidden = super().forward(input_ids, **kwargs)
        return Output(self.head(hidden.last), hidden.pooled)


class Both(nn.Module):
    """As T5: two stacks that share an embedding; reads the dtype and the values of layers' weights."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Embedding(30, 16)
        self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 16)
        self.first_table = self.second_table = self.shared

    def forward(self, input_ids: Tensor, decoder_input_ids: Tensor | None = None, **kwargs: Any) -> Any:
        encoded = self.first(self.first_table(input_ids).to(self.first.weight.dtype))
        if bool(encoded.isnan().any()):
            raise ValueError("NaN")
        other = input_ids if decoder_input_ids is None else decoder_input_ids
        decoded = self.second(self.second_table(other)) + encoded.mean(1, keepdim=True)
        return Output(F.linear(decoded, self.first.weight, self.first.bias) @ self.shared.weight.t())


class Talker(nn.Module):
    """Recurrent layers of every kind, their states made like the first parameter; flattens, loops over values."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(30, 12)
        self.lstm, self.gru, self.rnn = nn.LSTM(12, 10, 2), nn.GRU(10, 10), nn.RNN(10, 10)
        self.cells = nn.ModuleList([nn.LSTMCell(10, 10), nn.GRUCell(10, 10), nn.RNNCell(10, 10)])
        self.fc = nn.Linear(10, 7)

    def forward(self, input_ids: Tensor, **kwargs: Any) -> Any:
        first = next(self.parameters())
        state = first.new_zeros(2, input_ids.shape[0], 10), first.new_zeros(2, input_ids.shape[0], 10)
        self.lstm.flatten_parameters()
        y, _ = self.lstm(self.table(input_ids.t()), state)
        y, _ = self.rnn(self.gru(y)[0])
        h = y[-1]
        while float(h.abs().sum()) < 1e-6:
            h = h + 1.0
        return Output(self.fc(self.cells[2](self.cells[1](self.cells[0](h)[0]))))


class Bags(nn.Module):
    """Bags of embeddings, with offsets that depend on values."""

    def __init__(self) -> None:
        super().__init__()
        self.bag, self.fc = nn.EmbeddingBag(30, 12, mode="sum"), nn.Linear(12, 4)

    def forward(self, input_ids: Tensor, **kwargs: Any) -> Any:
        offsets = torch.tensor([0, int(input_ids.max()) % 5])
        return Output(self.fc(self.bag(input_ids.flatten(), offsets)))


def ids(seed: int = 0, length: int = 6) -> Tensor:
    return torch.randint(1, 30, (3, length), generator=torch.Generator().manual_seed(seed))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "encoder": Encoder, "decoder": Decoder, "both": Both, "talker": Talker, "bags": Bags,
}  # fmt: skip
SWAPPED = (nn.Linear, nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell, nn.Embedding, nn.EmbeddingBag)


def swappable(model: nn.Module) -> set[str]:
    kinds = (*SWAPPED, Conv1D)
    return {path for path, m in model.named_modules(remove_duplicate=False) if isinstance(m, kinds)}


def decided(model: qfx.QuantizedModel, decision: str) -> set[str]:
    return {record.module_path for record in model.report.decided(decision)}


def relative_error(result: Tensor, expected: Tensor) -> float:
    return float((result - expected).norm() / expected.norm())


@pytest.mark.parametrize(
    ("name", "with_example"), [*((name, False) for name in MODELS), ("both", True), ("talker", True)]
)
def test_every_layer_of_a_model_that_nobody_traces_is_swapped(name: str, with_example: bool) -> None:
    model = MODELS[name]().eval()
    before = copy.deepcopy(model.state_dict())
    quantized = qfx.quantize_fx(model, INT8, example_inputs={"input_ids": ids()} if with_example else None)
    assert decided(quantized, "int8") == swappable(model)
    assert all(record.reason for record in quantized.report)
    for seed, length in ((1, 6), (2, 4)):  # other sizes than the example's
        result, expected = quantized(input_ids=ids(seed, length)), model(input_ids=ids(seed, length))
        assert type(result) is Output
        # int8 loses at most half of a 127th of the range of a row or of an input; few layers stay below a twentieth
        assert relative_error(result.last, expected.last) < 0.05
        assert not torch.equal(result.last, expected.last)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert not any(type(m).__module__.startswith("qfx.") for m in model.modules())


@pytest.mark.parametrize("name", ["encoder", "decoder", "bags"])
def test_as_accurate_as_the_peer(name: str) -> None:
    model = MODELS[name]().eval()
    kinds = {nn.Linear, nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell, nn.RNNCell}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = peer_quantize_dynamic(copy.deepcopy(model), kinds)
    tables = {type(m) for m in model.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag))}
    quantized = qfx.quantize_fx(model, {**INT8, "object_type": [(table, None) for table in tables]})
    expected = model(input_ids=ids()).last
    ours, theirs = (relative_error(m(input_ids=ids()).last, expected) for m in (quantized, peer))
    assert ours <= 1.2 * theirs


class LeftOut(nn.Module):
    """Every input may be left out; what it computes depends on which are there."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.fc, self.gate = nn.Embedding(9, 8), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, ids: Tensor | None = None, mask: Tensor | None = None, embeds: Tensor | None = None) -> Tensor:
        if embeds is None:
            embeds = self.embed(ids)
        y = self.fc(embeds)
        return y if mask is None else y * self.gate(mask)


class Masked(LeftOut):
    """One input is always there."""

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        return super().forward(ids, mask)


class Within(nn.Module):
    """A part whose inputs may be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.part, self.head = LeftOut(), nn.Linear(8, 3)

    def forward(self, ids: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        return self.head(self.part(ids, mask=mask))


@pytest.mark.parametrize("kind", [LeftOut, Masked, Within])
def test_inputs_that_may_be_left_out_stay_free_without_example_inputs(kind: type[nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = kind().eval()
    model = qfx.quantize_fx(net, {"": qfx.default_dynamic_qconfig})
    ids, mask = torch.arange(6).reshape(2, 3), torch.randn(2, 3, 8)
    for given in ({"ids": ids}, {"ids": ids, "mask": mask}, {"ids": ids, "mask": None}):
        assert relative_error(model(**given), net(**given)) < 0.05
    assert decided(model, "int8") == swappable(net)
    with pytest.raises(qfx.QfxError, match="pass some"):
        qfx.save(model, tmp_path / "model.qfx")
    taken_apart = qfx.quantize_fx(net, {"": qfx.default_dynamic_qconfig}, example_inputs={"ids": ids, "mask": mask})
    qfx.save(taken_apart, tmp_path / "model.qfx")
    assert torch.equal(qfx.load(tmp_path / "model.qfx")(ids, mask), taken_apart(ids, mask))


def test_an_output_is_what_the_model_with_quantized_layers_gives() -> None:
    model = Encoder().eval()
    quantized, by_hand = qfx.quantize_fx(model, INT8), copy.deepcopy(model)
    kinds = {nn.Linear: nnqd.Linear, Projection: nnqd.Linear, nn.Embedding: nnqd.Embedding}
    for path, module in list(by_hand.named_modules()):
        if type(module) in kinds:
            float_layer = module
            if type(module) is Projection:
                float_layer = nn.Linear(16, 16, bias=False)
                float_layer.weight = module.weight
            by_hand.set_submodule(path, kinds[type(module)].from_float(float_layer))
    for key in ("last", "pooled"):
        assert torch.equal(*(getattr(m(input_ids=ids()), key) for m in (quantized, by_hand)))


def test_inputs_keep_their_names_places_and_defaults() -> None:
    model = Encoder().eval()
    quantized = qfx.quantize_fx(model, INT8)
    mask = torch.tensor([[1] * 5 + [0]] * 3)
    assert quantized(ids(), mask, False).pooled is None
    by_place, by_name = quantized(ids(), mask), quantized(attention_mask=mask, input_ids=ids())
    assert torch.equal(by_place.last, by_name.last)
    assert relative_error(by_place.last, model(ids(), mask).last) < 0.05
    assert not torch.equal(by_place.last, quantized(ids()).last)
    with pytest.raises(InputError, match="no input_ids"):
        quantized()


def test_only_a_model_that_nothing_is_calibrated_in_runs_as_a_whole() -> None:
    static = qfx.get_default_qconfig()
    for rules in ({"": static}, {"": per_channel_dynamic_qconfig, "object_type": [(nn.Linear, static)]}):
        with pytest.raises(CaptureError):
            qfx.quantize_fx(Encoder(), rules)
    with pytest.raises(CaptureError):
        qfx.quantize_fx(Encoder(), INT8, strict=True)
    with pytest.raises(CaptureError):
        qfx.quantize_fx(Encoder(), INT8, frontend="symbolic")


def test_copies_pickles_and_states() -> None:
    quantized = qfx.quantize_fx(Encoder().eval(), INT8)
    expected = quantized(input_ids=ids()).last
    assert torch.equal(copy.deepcopy(quantized)(input_ids=ids()).last, expected)
    file = io.BytesIO()
    torch.save(quantized, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert torch.equal(loaded(input_ids=ids()).last, expected)
    assert [str(r) for r in loaded.report] == [str(r) for r in quantized.report]
    other = qfx.quantize_fx(Encoder().eval(), INT8)
    assert not torch.equal(other(input_ids=ids()).last, expected)
    other.load_state_dict(quantized.state_dict())
    assert torch.equal(other(input_ids=ids()).last, expected)


def test_a_prepared_model_converts_twice() -> None:
    prepared = qfx.prepare_fx(Encoder().eval(), INT8)
    first, second = (qfx.convert_fx(prepared)(input_ids=ids()).last for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(prepared(input_ids=ids()).last, first)


# ---------------------------------------------------------------- islands of a graph


class Outer(nn.Module):
    """A traceable model around islands: one called twice, and two that share a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.twice, self.other = nn.Linear(8, 8), Inner(), Inner()
        self.other.fc = self.twice.fc

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.twice(self.twice(self.fc(x))))


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.list = nn.Linear(8, 8), [nn.Linear(8, 8)]
        self.kept = self.fc

    def forward(self, x: Tensor) -> Tensor:
        if float(x.sum()) > 1e9:
            return x
        return torch.relu(self.kept(self.fc(x)))


def test_a_layer_in_several_places_stays_one() -> None:
    model = Outer().eval()
    quantized, x = qfx.quantize_fx(model, INT8), torch.randn(4, 8)
    assert relative_error(quantized(x), model(x)) < 0.05
    twice, other = quantized.get_submodule("twice"), quantized.get_submodule("other")
    assert type(twice.fc) is nnqd.Linear
    assert twice.fc is twice.kept is other.fc
    shown = ["fc", "twice", "twice.fc", "twice.kept", "other", "other.fc", "other.kept"]
    assert [r.module_path for r in quantized.report if r.op != "twice" or r.name == "twice"] == shown


RULES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "default": (INT8, {"fc", "twice.fc", "twice.kept", "other.fc", "other.kept"}),
    "none": ({"": per_channel_dynamic_qconfig, "module_name": [("twice.fc", None)]},
             {"fc", "twice.kept", "other.fc", "other.kept"}),
    "type": ({"object_type": [(nn.Linear, per_channel_dynamic_qconfig)]},
             {"fc", "twice.fc", "twice.kept", "other.fc", "other.kept"}),
    "around": ({"object_type": [(Inner, per_channel_dynamic_qconfig)]},
               {"twice.fc", "twice.kept", "other.fc", "other.kept"}),
    "regex": ({"module_name_regex": [(r"tw.*\.fc", per_channel_dynamic_qconfig)]}, {"twice.fc"}),
    "name": ({"module_name": [("other", per_channel_dynamic_qconfig)]}, {"other.fc", "other.kept"}),
    "order": ({"module_name_object_type_order": [("twice", nn.Linear, 1, per_channel_dynamic_qconfig)]},
              {"twice.kept"}),
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_a_qconfig_dict_means_the_same_inside(rule: str) -> None:
    rules, expected = RULES[rule]
    model = Outer().eval()
    for inner in (model.twice, model.other):
        inner.fc, inner.kept = nn.Linear(8, 8), nn.Linear(8, 8)
    quantized = qfx.quantize_fx(model, rules)
    assert decided(quantized, "int8") == expected
    own = {path for path, m in quantized.named_modules() if isinstance(m, nnqd.Linear)}
    assert own == expected - {"fc"}


def test_float16() -> None:
    model = Encoder().eval()
    quantized = qfx.quantize_fx(model, {"": float16_dynamic_qconfig})
    inside = {r.module_path for r in quantized.report if "float16" in r.reason}
    assert inside == swappable(model)
    torch.testing.assert_close(quantized(ids()).last, model(ids()).last, atol=0.01, rtol=0.01)


def test_hooks_of_a_layer_go_with_it() -> None:
    model = Outer().eval()
    model.twice.fc.register_forward_hook(lambda module, args, y: y * 2)
    model.other.fc.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    quantized, x = qfx.quantize_fx(model, INT8), torch.randn(4, 8)
    assert relative_error(quantized(x), model(x)) < 0.05


# ---------------------------------------------------------------- what computes as a linear layer


class Own(nn.Module):
    """A layer of a user's own class."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(6, 6)), nn.Parameter(torch.randn(6))


def _own(forward: Callable[..., Any]) -> type[nn.Module]:
    return type("Own", (Own,), {"forward": forward})


class Scaled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2.0


LINEAR: dict[str, type[nn.Module]] = {
    "Conv1D": type("Square", (Conv1D,), {"__init__": lambda self: Conv1D.__init__(self, 6, 6)}),
    "functional": _own(lambda self, x: F.linear(x, self.weight, self.bias)),
    "transposed": _own(lambda self, x: F.linear(x, self.weight.t(), self.bias)),
    "no bias": _own(lambda self, x: F.linear(x, self.weight)),
    "matmul": _own(lambda self, x: x @ self.weight + self.bias),
    "matmul of the transposed": _own(lambda self, x: self.bias + torch.matmul(x, self.weight.T)),
    "of one rank": _own(lambda self, x: (x.reshape(-1, 6) @ self.weight).reshape(x.shape[0], x.shape[1], 6)),
}
NOT_LINEAR: dict[str, type[nn.Module]] = {
    "scaled": type("Twice", (Scaled,), {"__init__": lambda self: Scaled.__init__(self, 6, 6)}),
    "of values": _own(lambda self, x: x @ self.weight if float(x.sum()) > 0 else x @ self.bias),
    "activated": _own(lambda self, x: F.linear(x, self.weight, self.bias).relu()),
    "two products": _own(lambda self, x: x @ self.weight @ self.weight),
    "residual": _own(lambda self, x: x @ self.weight + x),
    "flat": _own(lambda self, x: x.reshape(-1, 6) @ self.weight),
    "from the left": _own(lambda self, x: self.weight @ x),
}


class Around(nn.Module):
    """Calls a layer, and reads its weight."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        if bool(x.isnan().any()):
            raise ValueError("NaN")
        return self.layer(x) + x @ self.layer.weight.reshape(6, 6)


@pytest.mark.parametrize("kind", LINEAR)
def test_a_layer_that_computes_as_a_linear_one_is_swapped(kind: str) -> None:
    model, x = Around(LINEAR[kind]()).eval(), torch.randn(2, 3, 6)
    quantized = qfx.quantize_fx(model, INT8)
    assert decided(quantized, "int8") == {"layer"}
    assert type(quantized.get_submodule(str(_island(quantized).target)).layer) is nnqd.Linear
    assert relative_error(quantized(x), model(x)) < 0.03


@pytest.mark.parametrize("kind", NOT_LINEAR)
def test_one_that_computes_something_else_is_not(kind: str) -> None:
    model, x = Around(NOT_LINEAR[kind]()).eval(), torch.randn(6, 6)
    quantized = qfx.quantize_fx(model, INT8)
    (record,) = [r for r in quantized.report if r.module_path == "layer"]
    assert (record.decision, "forward of its own" in record.reason) == ("float", True)
    assert torch.equal(quantized(x), model(x))


def _island(model: qfx.QuantizedModel) -> torch.fx.Node:
    return next(node for node in model.graph.nodes if node.op == "call_module")


# ---------------------------------------------------------------- torch's own compositions


COMPOSITIONS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "attention": (lambda: nn.MultiheadAttention(8, 2), 1),
    "encoder layer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, 0.0), 3),
    "encoder": (lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True), 2), 6),
    "decoder layer": (lambda: nn.TransformerDecoderLayer(8, 2, 16, 0.0), 4),
    "decoder": (lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, 0.0, batch_first=True), 2), 8),
    "transformer": (lambda: nn.Transformer(8, 2, 1, 1, 16, 0.0, batch_first=True), 7),
}
"""What to build, and its layers; an attention is one, with its four projections."""


class Holder(nn.Module):
    """Keeps a composition from being exported: its code depends on values."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.inputs = 3 if isinstance(inner, nn.MultiheadAttention) else 1 if "Encoder" in type(inner).__name__ else 2

    def forward(self, x: Tensor) -> Tensor:
        if bool(x.isnan().any()):
            raise ValueError("NaN")
        result = self.inner(*[x] * self.inputs)
        return result[0] if isinstance(result, tuple) else result


class Plain(Holder):
    """One that can be exported."""

    def forward(self, x: Tensor) -> Tensor:
        result = self.inner(*[x] * self.inputs)
        return result[0] if self.inputs == 3 else result


def composed(name: str, holder: type[Holder]) -> tuple[nn.Module, Tensor]:
    """The composition, with biases that are not zero, and an input."""
    model = holder(COMPOSITIONS[name][0]()).eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model, torch.randn(5, 3, 8)


@pytest.mark.parametrize(("name", "holder", "with_example"), pairs(COMPOSITIONS, [Holder, Plain], [False, True]))
def test_compositions_of_torch(name: str, holder: type[Holder], with_example: bool) -> None:
    model, x = composed(name, holder)
    quantized = qfx.quantize_fx(model, INT8, example_inputs=(x,) if with_example else None)
    layers = quantized.report.layers()
    assert {record.decision for record in layers} == {"int8"}
    if quantized.report.frontend == "symbolic":
        assert len(layers) == COMPOSITIONS[name][1]
    result, expected = quantized(x), model(x)
    assert not torch.equal(result, expected)
    assert relative_error(result, expected) < 0.05


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_compositions_lose_the_same_in_a_graph_an_island_and_eager_mode(name: str) -> None:
    """All three round the same weights and the same inputs, so that they differ by the order of float sums.

    In a graph, attention is on integers too: its operands are rounded to 8 bits as the layers' inputs are,
    so it may add as much again.
    """
    errors = []
    for holder, example in ((Holder, False), (Plain, True)):
        torch.manual_seed(3)
        model, x = composed(name, holder)
        quantized = qfx.quantize_fx(model, INT8, example_inputs=(x,) if example else None)
        errors.append(relative_error(quantized(x), model(x)))
    swapped = qfx.quantization.quantize_dynamic(model)
    errors.append(relative_error(swapped(x), model(x)))
    in_island, in_graph, in_eager_mode = errors
    assert max(in_island, in_eager_mode) < 1.1 * min(in_island, in_eager_mode)
    assert in_graph < 2 * in_eager_mode


def test_the_fused_kernel_of_torch_is_left_where_one_layer_is_quantized(monkeypatch: pytest.MonkeyPatch) -> None:
    def fused(*args: Any) -> Any:
        raise AssertionError("the fused kernel ran")

    monkeypatch.setattr(torch, "_transformer_encoder_layer_fwd", fused)
    for only in ("inner.self_attn", "inner.linear1", "inner.linear2"):
        model = Holder(nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)).eval()
        quantized = qfx.quantize_fx(model, {"": None, "module_name": [(only, per_channel_dynamic_qconfig)]})
        assert decided(quantized, "int8") == {only}
        quantized(torch.randn(5, 3, 8))


def test_recurrent_layers_of_an_export_are_swapped() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.lstm, self.gru = nn.Embedding(30, 8), nn.LSTM(8, 9, batch_first=True), nn.GRUCell(9, 9)
            self.fc = nn.Linear(9, 4)

        def forward(self, tokens: Tensor) -> Tensor:
            y, _ = self.lstm(self.table(tokens if tokens.shape[0] < 100 else tokens + 1))
            return self.fc(self.gru(y[:, -1]))

    model = Branches().eval()
    for frontend in ("auto", "export"):
        quantized = qfx.quantize_fx(model, INT8, example_inputs=(ids(),), frontend=frontend)
        assert quantized.report.frontend == "export"
        assert decided(quantized, "int8") == {"table", "lstm", "gru", "fc"}
        assert relative_error(quantized(ids(1)), model(ids(1))) < 0.05


def test_a_product_with_a_constant_is_a_layer_wherever_it_stands() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(6, 5))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight

    model, x = Bare().eval(), torch.randn(2, 3, 6)
    quantized = qfx.quantize_fx(model, INT8)
    assert [r.op for r in quantized.report.decided("int8")] == ["linear"]
    assert relative_error(quantized(x), model(x)) < 0.03
