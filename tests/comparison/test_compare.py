"""``qfx.compare``: levels told apart, nodes named, differences counted where they arise, and nothing changed by it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qfx
from qfx.models import PreparedModel, QuantizedModel
from tests.lowering.nets import CASES
from tests.nets import small_net

FLOAT = ("Excited", "Residual", "Normed", "Reductions", "Rows")
DEFAULT = {"": qfx.get_default_qconfig()}
FAKE_QUANTIZED = qfx.QConfig(
    qfx.FakeQuantize.with_args(observer=qfx.MovingAverageMinMaxObserver, quant_min=0, quant_max=255),
    qfx.default_per_channel_weight_observer,
)


@functools.cache
def converted(name: str) -> tuple[PreparedModel, QuantizedModel]:
    case = CASES[name]
    prepared = qfx.prepare_fx(case.net(), DEFAULT, (case.inputs(4),), adaptive_rounding=False)
    for seed in range(2):
        prepared(case.inputs(4, seed))
    return prepared, qfx.convert_fx(prepared)


def sqnr(want: Tensor, got: Tensor) -> float:
    return float(10 * torch.log10(want.double().square().sum() / (want - got).double().square().sum()))


class Chain(nn.Module):
    """Three convolutions, one behind the other; the last gives floats."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.c(F.relu(self.b(F.relu(self.a(x))))))


def tensors(seed: int = 3) -> Tensor:
    return torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(seed))


def fake_quantized() -> tuple[PreparedModel, QuantizedModel]:
    """A fake-quantized model, and the quantized one converted from it, whose weights it has."""
    torch.manual_seed(4)
    prepared = qfx.prepare_fx(
        Chain(), {"": FAKE_QUANTIZED}, (tensors(),), bias_correction=False, adaptive_rounding=False
    )
    prepared(tensors())
    state = qfx.convert_fx(prepared).state_dict()
    with torch.no_grad():
        for name, parameter in prepared.named_parameters():
            scale = state[f"{name}_scale"]
            parameter.copy_(state[name] * scale.reshape(-1, *[1] * (parameter.dim() - 1)))
    return prepared, qfx.convert_fx(prepared)


# ---------------------------------------------------------------- what is compared


@pytest.mark.parametrize(("name", "kind"), [*((n, "prepared") for n in CASES), *((n, "float") for n in FLOAT)])
def test_every_node_is_compared_and_none_is_further_than_a_quantum_on_equal_inputs(name: str, kind: str) -> None:
    prepared, model = converted(name)
    reference = prepared if kind == "prepared" else CASES[name].net()
    comparison = qfx.compare(reference, model, CASES[name].inputs(3))
    assert comparison.first_beyond() is None
    assert {r.name for r in model.report} <= {r.name for r in comparison}
    for record in comparison:
        assert None not in (record.quantization, record.lowering, record.total), record.name
        assert (record.local_quanta is None) == (record.quanta is None) == (record.qparams is None)
        if record.qparams is not None:  # a difference of reals is one of integers, but for two float32 products
            assert record.lowering.max_error <= (record.quanta + 2**-15) * record.qparams.scale


@pytest.mark.parametrize("kind", ["prepared", "float"])
def test_numbers_are_those_of_the_models_results(kind: str) -> None:
    case = CASES["Excited"]
    prepared, model = converted("Excited")
    net, x = case.net(), case.inputs(5, 7)
    last = qfx.compare(prepared if kind == "prepared" else net, model, x)[-1]
    with torch.no_grad():
        want, rounded, got = net(x), model.run_graph(x), model(x)
    assert last.quantization.sqnr == pytest.approx(sqnr(want, rounded), abs=1e-3)
    assert last.total.sqnr == pytest.approx(sqnr(want, got), abs=1e-3)
    assert last.total.max_error == pytest.approx(float((want - got).abs().max()), rel=1e-3)
    cosine = F.cosine_similarity(want.double().flatten(), got.double().flatten(), dim=0)
    assert last.total.cosine == pytest.approx(float(cosine), abs=1e-6)


def test_batches_add_up() -> None:
    prepared, model = converted("Residual")
    x = CASES["Residual"].inputs(6)
    whole, parts = qfx.compare(prepared, model, x), qfx.compare(prepared, model, [(x[:4], 1), x[4:]])
    for one, many in zip(whole, parts, strict=True):
        assert one.total.sqnr == pytest.approx(many.total.sqnr, abs=1e-6)
        assert (one.quanta, one.total.max_error) == (many.quanta, many.total.max_error)


def test_records_say_where_a_node_is() -> None:
    prepared, model = converted("Residual")
    record = qfx.compare(prepared, model, CASES["Residual"].inputs(2))["dilated"]
    assert (record.module_path, record.op, record.decision) == ("dilated", "conv+residual+clamp", "int8")
    assert "dilated" in record.source
    with pytest.raises(KeyError, match="nothing"):
        qfx.compare(prepared, model, CASES["Residual"].inputs(2))["nothing"]


def test_the_table_has_a_line_a_node_and_a_verdict() -> None:
    prepared, model = converted("Residual")
    comparison = qfx.compare(prepared, model, CASES["Residual"].inputs(2))
    lines = str(comparison).splitlines()
    assert len(lines) == len(comparison) + 3
    assert lines[2].split()[0] == comparison[0].name
    assert lines[-1].endswith("none differs by more than one quantum")


def test_exact_values_have_infinite_sqnr() -> None:
    prepared, model = converted("Residual")
    entry = qfx.compare(prepared, model, CASES["Residual"].inputs(2))[0]
    assert (entry.op, entry.lowering.sqnr, entry.lowering.max_error, entry.quanta) == ("input", math.inf, 0.0, 0)


# ---------------------------------------------------------------- differences of integers


def test_a_fake_quantized_reference_stands_for_the_qdq_graph() -> None:
    prepared, model = fake_quantized()
    comparison = qfx.compare(prepared, model, tensors(5))
    assert comparison.first_beyond() is None
    with torch.no_grad():
        want = prepared.apply(qfx.disable_observer)(tensors(5))
    assert comparison[-1].lowering.max_error == pytest.approx(float((want - model(tensors(5))).abs().max()))


def test_a_difference_counts_where_it_arises() -> None:
    prepared, model = fake_quantized()
    with torch.no_grad():
        prepared.get_submodule("a").weight.mul_(1.2)
    comparison = qfx.compare(prepared, model, tensors(5))
    assert comparison.first_beyond().name == "a"
    assert [r.name for r in comparison if (r.local_quanta or 0) > 1] == ["a"]
    assert [r.name for r in comparison if (r.quanta or 0) > 1] == ["a", "b"]
    assert "is a" in str(comparison).splitlines()[-1]
    assert comparison.first_beyond(255) is None


def test_first_beyond_can_count_differences_that_were_passed_on() -> None:
    prepared, model = fake_quantized()
    with torch.no_grad():
        prepared.get_submodule("a").weight.mul_(1.2)
    comparison = qfx.compare(prepared, model, tensors(5))
    most = max(comparison, key=lambda r: r.quanta or 0)
    assert comparison.first_beyond(most.quanta - 1, local=False).quanta == most.quanta


# ---------------------------------------------------------------- nothing changes


def snapshot(model: nn.Module) -> dict[str, Any]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("training", [False, True])
def test_nothing_is_observed_or_changed(training: bool) -> None:
    prepared, model = fake_quantized()
    prepared.train(training)
    before = snapshot(prepared), snapshot(model)
    qfx.compare(prepared, model, 100 * tensors(5))
    for then, now in zip(before, (prepared, model), strict=True):
        assert all(torch.equal(then[name], value) for name, value in now.state_dict().items())
    assert prepared.training == training


# ---------------------------------------------------------------- inputs


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.relu(self.left(x) + self.right(y))


def test_inputs_by_name_and_in_tuples() -> None:
    torch.manual_seed(0)
    net, x, y = Two(), torch.randn(5, 4), torch.randn(5, 4)
    model = qfx.quantize_fx(net, DEFAULT, [(x, y)])
    named = qfx.compare(net, model, {"y": y, "x": x})
    assert str(named) == str(qfx.compare(net, model, [(x, y)]))
    assert [r.name for r in named][:2] == ["x", "y"]


def test_integers_at_the_border_are_made_from_float_data() -> None:
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(4, 6), nn.ReLU()), torch.randn(9, 4)
    model = qfx.quantize_fx(net, DEFAULT | {"input_quantized_idxs": [0], "output_quantized_idxs": [0]}, [x])
    comparison = qfx.compare(net, model, x)
    assert comparison.first_beyond() is None
    assert comparison[-1].total.sqnr > 30


def test_parts_that_torch_runs_are_compared_too() -> None:
    class Sorted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(torch.cumsum(self.first(x), 1))

    torch.manual_seed(0)
    net, x = Sorted(), torch.randn(9, 6)
    model = qfx.quantize_fx(net, DEFAULT, [x])
    comparison = qfx.compare(net, model, x)
    record = next(r for r in comparison if "cumsum" in r.name)
    assert record.decision == "float"
    assert record.total.sqnr > 20


Arguments = tuple[Any, Any, Any]
BAD: dict[str, tuple[Callable[[Arguments], Arguments], str]] = {
    "model is float": (lambda g: (g[0], CASES["Residual"].net(), g[2]), "quantized model"),
    "reference is quantized": (lambda g: (g[1], g[1], g[2]), "made by qfx already"),
    "reference is a number": (lambda g: (3, g[1], g[2]), "not an nn.Module"),
    "another model": (lambda g: (nn.Linear(3, 3), g[1], g[2]), "There is no input|no node in common"),
    "no data": (lambda g: (g[0], g[1], []), "no data"),
    "a number": (lambda g: (g[0], g[1], 3), "not batches"),
    "too many inputs": (lambda g: (g[0], g[1], [(g[2], g[2], g[2])]), "holds 3 values"),
    "wrong channels": (lambda g: (g[0], g[1], torch.randn(2, 5, 9, 9)), "5 channels, not 3"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_named(name: str) -> None:
    spoil, message = BAD[name]
    prepared, model = converted("Residual")
    with pytest.raises(qfx.QfxError, match=message) as caught:
        qfx.compare(*spoil((prepared, model, CASES["Residual"].inputs(2))))
    assert caught.value.remedy


def test_a_spent_budget_leaves_batches_out_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(1000))
    monkeypatch.setattr("qfx.progress.time.monotonic", lambda: float(next(now)))
    net, batches = small_net("ResidualNet"), [torch.randn(2, 3, 16, 16) for _ in range(4)]
    model = qfx.quantize_fx(net, {"": qfx.get_default_qconfig()}, batches)
    some = qfx.compare(net, model, batches, budget=2)
    assert (some.batches, some.stopped) == (2, True)
    assert "no time for more than 2 of the batches" in str(some)
    whole = qfx.compare(net, model, batches[:2])
    assert (whole.batches, whole.stopped) == (2, False)
    assert list(some) == list(whole)
    assert qfx.compare(net, model, batches, budget=0).batches == 1
