"""Recurrent layers inside of one program: every kind and setting, against torch, the interpreter and the module."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qfx
from qfx.lowering.compile import compile_int8
from qfx.lowering.interpreter import interpret_integers
from qfx.models import QuantizedModel
from qfx.ops.table import op_of
from qfx.quantization import (
    float16_dynamic_qconfig,
    per_channel_dynamic_qconfig,
    per_tensor_dynamic_qconfig,
    quantize_dynamic,
)
from qfx.runtime import isa_names

STATIC = qfx.get_default_qconfig()
QCONFIGS = {
    "static": STATIC,
    "a row": per_channel_dynamic_qconfig,
    "a tensor": per_tensor_dynamic_qconfig,
    "float16": float16_dynamic_qconfig,
}
KINDS: dict[str, Any] = {
    "LSTM": nn.LSTM,
    "GRU": nn.GRU,
    "tanh": lambda *args, **settings: nn.RNN(*args, nonlinearity="tanh", **settings),
    "relu": lambda *args, **settings: nn.RNN(*args, nonlinearity="relu", **settings),
}
INPUTS, HIDDEN, TIME, BATCH = 6, 9, 7, 3


@pytest.fixture
def threads() -> Iterator[None]:
    before = qfx.get_num_threads()
    yield
    qfx.set_num_threads(before)


class Net(nn.Module):
    """A layer between linear ones; what it returns is all that the layer does."""

    def __init__(self, kind: str, *, layers: int = 1, unbatched: bool = False, **settings: Any) -> None:
        super().__init__()
        torch.manual_seed(layers + len(kind))
        self.first = nn.Linear(INPUTS, INPUTS)
        self.layer = KINDS[kind](INPUTS, HIDDEN, layers, **settings)
        self.last = nn.Linear(HIDDEN * (1 + self.layer.bidirectional), 4)
        self.unbatched = unbatched

    def forward(self, x: Tensor) -> Any:
        y, ends = self.layer(self.first(x))
        return self.last(y), ends

    def inputs(self, seed: int, *, states: bool, batch: int = BATCH, time: int = TIME) -> tuple[Tensor, ...]:
        torch.manual_seed(seed)
        shape = (batch, time) if self.layer.batch_first else (time, batch)
        count = self.layer.num_layers * (1 + self.layer.bidirectional)
        made = [torch.randn(*shape, INPUTS)]
        if states:
            made += [torch.randn(count, batch, HIDDEN) * 0.5 for _ in range(1 + isinstance(self.layer, nn.LSTM))]
        if self.unbatched:
            made = [made[0].squeeze(int(not self.layer.batch_first)), *(h.squeeze(1) for h in made[1:])]
        return tuple(made)


class OfOneState(Net):
    def forward(self, x: Tensor, h: Tensor) -> Any:  # type: ignore[override]
        y, end = self.layer(self.first(x), h)
        return self.last(y), end


class OfTwoStates(Net):
    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> Any:  # type: ignore[override]
        y, (end, cell) = self.layer(self.first(x), (h, c))
        return self.last(y), end, cell


SETTINGS: list[tuple[bool, dict[str, Any]]] = [
    (False, {}),
    (True, {"layers": 2, "bidirectional": True, "batch_first": True}),
    (True, {"layers": 3, "bias": False}),
    (False, {"bidirectional": True}),
    (False, {"unbatched": True, "layers": 2}),
    (True, {"unbatched": True, "batch_first": True, "bidirectional": True}),
]
"""Whether states are given, and what the layer is made with."""

CALLS = [
    pytest.param(kind, settings, states, id=f"{kind}-{i}")
    for kind, (i, (states, settings)) in itertools.product(KINDS, enumerate(SETTINGS))
]


OF_EACH_QCONFIG = [
    *(pytest.param(*call.values, "static", id=f"{call.id}-static") for call in CALLS),
    *(
        pytest.param(*call.values, qconfig, id=f"{call.id}-{qconfig}")
        for call in CALLS
        if call.values[1] is SETTINGS[1][1]
        for qconfig in QCONFIGS
        if qconfig != "static"
    ),
]


def net_of(kind: str, settings: dict[str, Any], states: bool) -> Net:
    cls = (OfTwoStates if kind == "LSTM" else OfOneState) if states else Net
    return cls(kind, **settings).eval()


def made(kind: str, settings: dict[str, Any], states: bool, qconfig: Any) -> tuple[Net, QuantizedModel, Any]:
    net = net_of(kind, settings, states)
    batch = 1 if net.unbatched else BATCH
    data = [net.inputs(seed, states=states, batch=batch) for seed in range(3)]
    return net, qfx.quantize_fx(net, {"": qconfig}, data), net.inputs(9, states=states, batch=batch)


def flat(results: Any) -> list[Tensor]:
    return [results] if isinstance(results, Tensor) else [t for part in results for t in flat(part)]


def cells(model: QuantizedModel) -> set[str]:
    return {op.name for node in model.graph_module().graph.nodes if (op := op_of(node)) is not None and op.matrices}


@pytest.mark.parametrize(("kind", "settings", "states"), CALLS)
def test_a_static_graph_is_one_program_and_close_to_float(kind: str, settings: Any, states: bool) -> None:
    net, model, x = made(kind, settings, states, STATIC)
    assert [s.segment.in_torch for s in model.compiled.segments] == [False]
    records = [r for r in model.report if r.module_path == "layer" and r.is_layer]
    assert len(records) == settings.get("layers", 1)
    assert {(r.decision, r.reason) for r in records} == {
        ("int8", "weights int8, input and hidden state quantized a row at each call")
    }
    for found, wanted in zip(flat(model(*x)), flat(net(*x)), strict=True):
        assert found.shape == wanted.shape
        assert torch.linalg.vector_norm(found - wanted) < 0.06 * torch.linalg.vector_norm(wanted)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(("kind", "settings", "states", "qconfig"), OF_EACH_QCONFIG)
def test_the_program_computes_the_interpreters_bits(kind: str, settings: Any, states: bool, qconfig: str) -> None:
    _, model, x = made(kind, settings, states, QCONFIGS[qconfig])
    wanted = flat(interpret_integers(model.graph_module(), x).output)
    for isa in isa_names():
        compiled = compile_int8(model.compiled.root, isa)
        for count in (1, 2):
            qfx.set_num_threads(count)
            for found, exact in zip(flat(compiled.run(x)), wanted, strict=True):
                assert torch.equal(found, exact), (isa, count, (found - exact).abs().max())


@pytest.mark.parametrize(("kind", "settings", "states", "qconfig"), OF_EACH_QCONFIG)
def test_the_program_computes_the_modules_bits(kind: str, settings: Any, states: bool, qconfig: str) -> None:
    """A layer of its own, quantized dynamically, and the same layer as a part of a graph."""
    qconfig = "a row" if qconfig == "static" else qconfig
    net = net_of(kind, settings, states)
    net.first, net.last = nn.Identity(), nn.Identity()  # type: ignore[assignment]
    x = net.inputs(9, states=states, batch=1 if net.unbatched else BATCH)
    graph = qfx.quantize_fx(net, {"": QCONFIGS[qconfig]}, example_inputs=x)
    module = quantize_dynamic(net, dict.fromkeys([nn.LSTM, nn.GRU, nn.RNN], QCONFIGS[qconfig]))
    for found, wanted in zip(flat(graph(*x)), flat(module(*x)), strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_batch_and_length_are_free(kind: str) -> None:
    net, model, _ = made(kind, {"batch_first": True, "bidirectional": True}, False, STATIC)
    for batch, time in ((1, 1), (5, 2), (2, 40)):
        (x,) = net.inputs(4, states=False, batch=batch, time=time)
        assert torch.equal(model(x)[0], torch.cat([model(row[None])[0] for row in x]))
    (none,) = net.inputs(4, states=False, batch=0)
    assert model(none)[0].shape == (0, TIME, 4)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_float_layer_gives_its_states_to_a_program(kind: str, bidirectional: bool) -> None:
    class States(Net):
        def forward(self, x: Tensor) -> Any:
            _, ends = self.layer(self.first(x))
            h = ends[0] if isinstance(ends, tuple) else ends
            return self.last(h.transpose(0, 1).flatten(1)), h

    net = States(kind, bidirectional=bidirectional).eval()
    data = [net.inputs(seed, states=False) for seed in range(2)]
    model = qfx.quantize_fx(net, {"": STATIC, "module_name": [("layer", None)]}, data)
    assert [s.segment.in_torch for s in model.compiled.segments] == [False, True, False]
    wanted = interpret_integers(model.graph_module(), data[0]).output
    for found, exact in zip(flat(model(*data[0])), flat(wanted), strict=True):
        assert torch.equal(found, exact)


PROJECTED = "its hidden state is projected (proj_size=3), which no op does"


def test_a_projected_layer_is_a_module_and_told() -> None:
    net, x = nn.Sequential(nn.LSTM(INPUTS, HIDDEN, proj_size=3)).eval(), torch.randn(TIME, BATCH, INPUTS)
    (record, *_) = qfx.quantize_fx(net, {"": STATIC}, [x]).report
    assert (record.decision, record.reason) == ("float", PROJECTED)
    assert next(iter(qfx.quantize_fx(net, {"": per_channel_dynamic_qconfig}, [x]).report)).decision == "int8"


@pytest.mark.parametrize("kind", KINDS)
def test_sequences_and_states_that_do_not_fit_are_refused(kind: str) -> None:
    net, model, x = made(kind, {}, True, STATIC)
    wrong = ([x[0][..., :-1], *x[1:]], [x[0], *(h[:, :-1] for h in x[1:])], [x[0][:0], *x[1:]])
    for given in wrong:
        with pytest.raises(RuntimeError):
            net(*given)
        with pytest.raises(qfx.QfxError):
            model(*given)


@pytest.mark.parametrize("kind", KINDS)
def test_nan_reaches_its_own_sequence_only(kind: str) -> None:
    net, model, _ = made(kind, {"bidirectional": True}, False, STATIC)
    net.first, net.last = nn.Identity(), nn.Identity()  # type: ignore[assignment]
    model = qfx.quantize_fx(net, {"": STATIC}, [net.inputs(0, states=False)])
    (x,) = net.inputs(3, states=False)
    clean = model(x)[0]
    x[2, 1] = torch.nan
    y = model(x)[0]
    assert torch.equal(y[:, [0, 2]], clean[:, [0, 2]])
    assert bool(y[2, 1].isnan().all())


@pytest.mark.parametrize("kind", KINDS)
def test_saved_models_compute_the_same(kind: str, tmp_path: Any) -> None:
    _, model, x = made(kind, {"layers": 2, "bidirectional": True}, True, STATIC)
    qfx.save(model, tmp_path / "model.qfx")
    loaded = qfx.load(tmp_path / "model.qfx")
    for found, wanted in zip(flat(loaded(*x)), flat(model(*x)), strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*torch.jit.script.*:DeprecationWarning")
@pytest.mark.parametrize("frontend", ["symbolic", "export", "torchscript"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_frontend_finds_the_layers(kind: str, frontend: Any) -> None:
    net = Net(kind, layers=2, batch_first=True).eval()
    x = net.inputs(0, states=False)
    given = torch.jit.script(net) if frontend == "torchscript" else net
    captured = qfx.quantize_fx(given, {"": STATIC}, [x], frontend=frontend)
    assert cells(captured) == ({kind.lower()} if kind in ("LSTM", "GRU") else {"rnn"})
    assert [s.segment.in_torch for s in captured.compiled.segments] == [False]


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_layer_that_drops_results_stays_a_module_where_it_is_trained(dropout: float) -> None:
    net = nn.Sequential(nn.LSTM(INPUTS, HIDDEN, 2, dropout=dropout)).train()
    prepared = qfx.prepare_qat_fx(net, {"": qfx.get_default_qat_qconfig()}, example_inputs=torch.randn(TIME, 1, INPUTS))
    assert any(isinstance(module, nn.LSTM) for module in prepared.modules()) == (dropout > 0.0)


class FromTokens(nn.Module):
    """Token ids to the last state of the last layer, from zeros that the code makes."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.embedding, self.layer = nn.Embedding(20, INPUTS), KINDS[kind](INPUTS, HIDDEN, 2, batch_first=True)
        self.last = nn.Linear(HIDDEN, 4)

    def forward(self, x: Tensor) -> Tensor:
        zeros = torch.zeros(2, x.size(0), HIDDEN)
        _, ends = self.layer(self.embedding(x), (zeros, zeros) if isinstance(self.layer, nn.LSTM) else zeros)
        h = ends[0] if isinstance(self.layer, nn.LSTM) else ends
        return self.last(h[-1])


@pytest.mark.parametrize("frontend", ["symbolic", "export"])
@pytest.mark.parametrize("kind", KINDS)
def test_token_ids_are_a_program_and_zeros_take_no_step(kind: str, frontend: Any) -> None:
    torch.manual_seed(0)
    net, data = FromTokens(kind).eval(), [torch.randint(0, 20, (BATCH, TIME)) for _ in range(20)]
    model = qfx.quantize_fx(net, {"": STATIC}, data, frontend=frontend)
    assert [s.segment.in_torch for s in model.compiled.segments] == [False]
    assert not {"full", "slice", "cat"} & {record.op for record in model.report}
    other = torch.randint(0, 20, (5, TIME))
    assert torch.linalg.vector_norm(model(other) - net(other)) < 0.06 * torch.linalg.vector_norm(net(other))
