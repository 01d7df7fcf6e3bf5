"""Layers that read their input in 16 bits, as two halves: which do, what they compute, and what looks at them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

import qfx
from qfx.advice.simulation import Simulation
from qfx.ir.nodes import operand
from qfx.lowering.interpreter import interpret_integers
from qfx.ops.calls import arguments
from qfx.ops.table import op_of
from qfx.passes.wide import COMPUTES, WIDE, keeps_few_bits

DEFAULT = {"": qfx.get_default_qconfig()}
Body = Callable[[Any, Tensor], Tensor]


class Net(nn.Module):
    """Of ``[N, 32]``: ``body``, with a layer before it whose weights are those of no training, and two behind it."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.before, self.after, self.last = nn.Linear(32, 48, bias=False), nn.Linear(24, 16), nn.Linear(16, 8)
        self.conv, self.window = nn.Conv1d(4, 4, 5), nn.Conv1d(1, 48, 32, 8, bias=False)
        self.deep = nn.Conv1d(24, 16, 1)
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def sounds(count: int, seed: int) -> Tensor:
    """``[count, 32]``, noise of levels over three decades."""
    generator = torch.Generator().manual_seed(seed)
    level = 10 ** (-3 * torch.rand(count, 1, generator=generator))
    return level * torch.randn(count, 32, generator=generator)


def noise(count: int, seed: int) -> Tensor:
    """``[count, 32]``, noise of one level."""
    return torch.randn(count, 32, generator=torch.Generator().manual_seed(seed))


def magnitudes(y: Tensor) -> Tensor:
    return (y[:, :24] ** 2 + y[:, 24:] ** 2).sqrt()


def prepared(body: Body, made: Callable[[int, int], Tensor] = sounds, qconfig: Any = None) -> qfx.PreparedModel:
    torch.manual_seed(1)
    model = qfx.prepare_fx(Net(body).eval(), {"": qconfig} if qconfig else DEFAULT, (made(8, 0),))
    for seed in range(4):
        model(made(64, seed))
    return model


def wide(model: qfx.QuantizedModel) -> set[str]:
    """Modules that the report says it of."""
    return {r.module_path for r in model.report if WIDE in r.recovery}


KIND: dict[str, tuple[Body, set[str]]] = {
    "magnitudes": (lambda n, x: n.last(F.relu(n.after(magnitudes(n.before(x))))), {"before", "after"}),
    "magnitudes of frames": (
        lambda n, x: n.deep(magnitudes(n.window(F.pad(x.unsqueeze(1), (8, 24), mode="reflect")))).flatten(1),
        {"window", "deep"},
    ),
    "powers": (lambda n, x: n.last(n.after(n.before(x)[:, :24].square())), {"before", "after"}),
    "products": (lambda n, x: n.after((y := n.before(x)[:, :24]) * y), {"before", "after"}),
    "powers that are given": (lambda n, x: n.last(F.relu(n.after(x[:, :24].pow(2)))), {"after"}),
    "exponentials": (lambda n, x: n.after((6 * x[:, :24]).exp()), {"after"}),
    "logarithms of sums of powers": (
        lambda n, x: n.last(torch.log(F.relu(n.after(n.before(x)[:, :24] ** 2)) + 1e-6)),
        {"before", "after"},
    ),
    "levels": (
        lambda n, x: n.last(n.before(x).pow(2).unflatten(1, (16, 3)).mean(2).sqrt()),
        {"before", "last"},
    ),
    "roots": (lambda n, x: n.after(F.relu(n.before(x)[:, :24]).sqrt()), {"before"}),
    "cubes": (lambda n, x: n.last(F.relu6(n.after(F.relu(n.before(x)[:, :24]).pow(3)))), {"before", "after"}),
    "a clamp, then a layer twice": (
        lambda n, x: n.after(z := x[:, :24].square().clamp(max=2.0)) + n.after(z * 0.5),
        {"after"},
    ),
    "powers that a layer and the output read": (
        lambda n, x: torch.cat([n.after(z := n.before(x)[:, :24].square()), z], 1),
        {"before", "after"},
    ),
    "a residual that is 8 bits": (
        lambda n, x: n.last(n.after(x[:, :24].square()) + F.relu(n.before(x)[:, :16])),
        {"after"},
    ),
    "a residual": (lambda n, x: F.relu(n.last(n.after(x[:, :24].square()) ** 2) + x[:, :8]), {"after", "last"}),
}


@pytest.mark.parametrize("name", KIND)
def test_what_is_read_in_16_bits(name: str) -> None:
    body, expected = KIND[name]
    model, x = qfx.convert_fx(prepared(body)), sounds(32, 9)
    assert wide(model) >= expected - {"last"}
    assert wide(model) <= expected
    exact = interpret_integers(model.graph_module(), (x,))
    assert torch.equal(model(x), exact.output)
    assert all(part.executable is not None for part in model.compiled.segments)


@pytest.mark.parametrize("name", KIND)
def test_a_layer_computes_what_float_inputs_give_to_16_bits(name: str) -> None:
    """Every layer with its stored weights, on the float32 input beside it: half a step of the low half a product."""
    model = qfx.convert_fx(prepared(KIND[name][0]))
    gm, x = model.graph_module(), sounds(64, 3)  # of the data that was calibrated with: nothing is beyond its range
    values = dict(_values(gm, x))
    layers = [n for n in gm.graph.nodes if COMPUTES in n.meta]
    assert layers
    for high in layers:
        op, given = op_of(high), arguments(op_of(high), high)
        whole, low = next(iter(high.users)), arguments(op_of(high), operand(next(iter(high.users)), 1))
        source, step = operand(operand(given["x"])), values[operand(low["x"], 1)]
        taken = {k: values[v] if isinstance(v, fx.Node) else v for k, v in given.items()}
        taken["x"], taken["activation"] = values[source], dict(whole.kwargs).get("activation")
        want, weight = op.fn(**taken), taken["weight"]
        bound = step / 2 * weight.abs().flatten(1).sum(1).max() + 2**-20 * want.abs().max()
        assert (values[whole] - want).abs().max() <= bound


def _values(gm: fx.GraphModule, x: Tensor) -> list[tuple[fx.Node, Any]]:
    interpreter = fx.Interpreter(gm, garbage_collect_values=False)
    with torch.no_grad():
        interpreter.run(x)
    return list(interpreter.env.items())


QUIET: dict[str, tuple[float, Body]] = {
    "magnitudes": (1e-3, lambda n, x: n.after(magnitudes(n.before(x)))),
    "magnitudes of frames": (1e-3, lambda n, x: n.deep(magnitudes(n.window(F.pad(x[:, None], (8, 24)))))),
    "powers": (3e-2, lambda n, x: n.after(n.before(x)[:, :24].square())),
    "logarithms": (1e-3, lambda n, x: torch.log(n.before(x).square() + 1e-12)),
    "levels": (1e-3, lambda n, x: n.last(n.before(x).pow(2).unflatten(1, (16, 3)).mean(2).sqrt())),
}


@pytest.mark.parametrize("name", QUIET)
def test_what_is_quiet_is_not_lost(name: str) -> None:
    """At this level nothing that the layer reads reaches half a step of 8 bits."""
    level, body = QUIET[name]
    model, x = qfx.convert_fx(prepared(body)), level * noise(64, 9)
    torch.manual_seed(1)
    with torch.no_grad():
        net = Net(body)
        silence = net(torch.zeros(1, 32))
        want, got = net(x) - silence, model(x) - silence
        eight = qfx.convert_fx(prepared(body, qconfig=_MIN_MAX))(x) - silence
    assert (got - want).square().sum() < 0.05 * want.square().sum() < (eight - want).square().sum()


_MIN_MAX = qfx.QConfig(
    activation=qfx.quantization.MinMaxObserver.with_args(dtype=qfx.quint8), weight=qfx.get_default_qconfig().weight
)

NARROW: dict[str, tuple[Body, Callable[[int, int], Tensor]]] = {
    "magnitudes of one level": (KIND["magnitudes"][0], noise),
    "functions that spread nothing": (lambda n, x: n.after(F.silu(n.before(x))[:, :24]), sounds),
    "a norm": (lambda n, x: n.after((y := n.before(x)[:, :24]) / (y.square().mean(1, True) + 1e-9).sqrt()), sounds),
    "a norm by a reciprocal": (
        lambda n, x: n.after((y := n.before(x)[:, :24]) * (y.square().mean(1, True) + 1e-9).rsqrt()),
        sounds,
    ),
    "softmax by hand": (lambda n, x: n.after((e := (x[:, :24]).exp()) / e.sum(1, True)), sounds),
    "a bounded square": (lambda n, x: n.after(torch.tanh(x[:, :24].square())), sounds),
    "a power of what is 8 bits already": (lambda n, x: n.last(F.relu(n.after(x[:, :24]))).exp(), sounds),
}


@pytest.mark.parametrize("name", NARROW)
def test_other_layers_read_8_bits(name: str) -> None:
    assert wide(qfx.convert_fx(prepared(*NARROW[name]))) == set()


def test_observers_without_a_histogram_keep_8_bits() -> None:
    assert wide(qfx.convert_fx(prepared(KIND["magnitudes"][0], qconfig=_MIN_MAX))) == set()


def test_bits_that_values_keep() -> None:
    """By the definition, value by value; and what it says of well-known distributions."""
    generator = torch.Generator().manual_seed(0)
    gaussian = torch.randn(1 << 16, generator=generator)
    for values, few in (
        (gaussian, False),
        (gaussian.abs(), False),
        (gaussian.pow(3), True),
        (gaussian.exp() ** 2, True),
    ):
        observer = qfx.quantization.HistogramObserver()
        observer(values)
        scale, _ = observer.qparams().per_tensor()
        bits = torch.log2((2 * values.abs() / scale).clamp(min=1.0)).mean()
        assert (bits < 4) == few
        assert keeps_few_bits(observer, observer.qparams()) == few


def test_a_trained_model_reads_8_bits() -> None:
    torch.manual_seed(1)
    model = qfx.prepare_qat_fx(Net(KIND["magnitudes"][0]), {"": qfx.get_default_qat_qconfig()}, (sounds(8, 0),))
    model(sounds(64, 0))
    assert wide(qfx.convert_fx(model.eval())) == set()


@pytest.mark.parametrize("name", KIND)
def test_files_state_dicts_and_reports(name: str, tmp_path: Path) -> None:
    before = prepared(KIND[name][0])
    model, x = qfx.convert_fx(before), sounds(16, 5)
    qfx.save(model, tmp_path / "net.qfx")
    loaded, again = qfx.load(tmp_path / "net.qfx"), qfx.convert_fx(before)
    again.load_state_dict(model.state_dict())
    assert torch.equal(loaded(x), model(x))
    assert torch.equal(again(x), model(x))
    assert str(loaded.report) == str(model.report)
    layers = {n.name for n in before.graph.nodes if (op := op_of(n)) is not None and op.weights}
    assert {r.name for r in model.report.layers()} == layers
    assert {r.decision for r in model.report.layers()} == {"int8"}


@pytest.mark.parametrize("name", KIND)
def test_comparison_and_sensitivity_see_one_layer(name: str) -> None:
    before = prepared(KIND[name][0])
    model, x = qfx.convert_fx(before), sounds(16, 5)
    compared = qfx.compare(before, model, [x])
    assert {r.name for r in compared} >= {r.name for r in model.report}
    assert all(r.local_quanta in (None, 0, 1) for r in compared)
    simulation = Simulation(before, model)
    with torch.no_grad():
        want = before(x)
    torch.testing.assert_close(simulation.run((x,), ()).output, want, rtol=1e-5, atol=1e-6)
    on = simulation.run((x,), simulation.parts).output
    torch.testing.assert_close(on, model.graph_module()(x), rtol=1e-5, atol=1e-5)
    found = qfx.sensitivity(Net(KIND[name][0]), DEFAULT, [sounds(64, 0)], progress=False)
    assert sum(r.macs_share for r in found) == pytest.approx(1.0)


def test_a_float_model_is_compared_too() -> None:
    torch.manual_seed(1)
    net = Net(KIND["magnitudes"][0]).eval()
    model = qfx.quantize_fx(net, DEFAULT, [sounds(64, seed) for seed in range(4)])
    compared = {r.name: r for r in qfx.compare(net, model, [sounds(16, 5)])}
    assert {"before", "after", "last"} <= compared.keys()
    assert compared["before"].quantization.sqnr > 30


def test_without_example_inputs() -> None:
    torch.manual_seed(1)
    before = qfx.prepare_fx(Net(KIND["magnitudes"][0]).eval(), DEFAULT)
    for seed in range(4):
        before(sounds(64, seed))
    model, x = qfx.convert_fx(before), sounds(16, 5)
    assert wide(model) == {"before", "after"}
    assert torch.equal(model(x), interpret_integers(model.graph_module(), (x,)).output)
    assert all(part.executable is not None for part in model.compiled.segments)


def test_at_the_border_integers_stay_8_bits() -> None:
    """An input that arrives as integers has no more; an output that leaves as integers is rounded behind the sum."""
    torch.manual_seed(1)
    border = {**DEFAULT, "input_quantized_idxs": [0], "output_quantized_idxs": [0]}
    model = qfx.quantize_fx(Net(KIND["powers"][0]).eval(), border, [sounds(64, seed) for seed in range(4)])
    assert wide(model) == {"after"}
    other = qfx.quantize_fx(
        Net(lambda n, x: F.relu(n.after(x[:, :24].square()))).eval(),
        {**DEFAULT, "output_quantized_idxs": [0]},
        [sounds(64, seed) for seed in range(4)],
    )
    x = sounds(16, 5)
    assert wide(other) == {"after"}
    assert other(x).dtype is torch.uint8
    assert torch.equal(other(x), interpret_integers(other.graph_module(), (x,)).output)
