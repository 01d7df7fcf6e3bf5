"""``qfx.suggest``: a planted fault is named, and pasting an entry gives the gain that is claimed."""

from __future__ import annotations

import operator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qfx
from qfx.advice.code import code_of
from qfx.advice.remedies import channel_spread, range_in_use
from qfx.advice.suggestions import Suggestion, _Trial, qconfig_dict_of
from qfx.observed import Request, spellings
from tests.advice import faults
from tests.nets import small_net

DEFAULT = {"": qfx.get_default_qconfig()}
PER_TENSOR = {"": qfx.QConfig(qfx.HistogramObserver, qfx.default_weight_observer)}
OUTERMOST = {"": qfx.QConfig(qfx.MinMaxObserver, qfx.default_per_channel_weight_observer)}
HALF = {"": qfx.QConfig(qfx.HistogramObserver.with_args(reduce_range=True), qfx.default_per_channel_weight_observer)}
SIGNED = {
    "": qfx.QConfig(
        qfx.HistogramObserver.with_args(dtype=qfx.qint8, qscheme=qfx.per_tensor_symmetric),
        qfx.default_per_channel_weight_observer,
    )
}


def suggested(net: nn.Module, rules: dict[str, Any], batches: list[Tensor], **given: Any) -> tuple[Suggestion, ...]:
    return qfx.suggest(net, qfx.quantize_fx(net, rules, batches), batches, **given)


def large_inputs() -> list[Tensor]:
    """A batch in which one value of 131072 lies far out: so rare that rounding all others finer makes up for it."""
    x = torch.randn(8, 4, 64, 64, generator=torch.Generator().manual_seed(5)).clamp(-4.0, 4.0)
    x[0, 0, 9, 9] = 6.5
    return [x]


CASES: dict[str, tuple[Any, dict[str, Any], str, str]] = {
    "weights": (faults.with_large_weight, PER_TENSOR, "b", "per-channel weights recover"),
    "outlier": (faults.with_outlier, OUTERMOST, "a", "clipping the others recovers"),
    "long tail": (faults.plain, OUTERMOST, "x", "a histogram observer recovers"),
    "half the range": (faults.plain, HALF, "", "nodes that call for it: the whole range recovers"),
    "never negative": (faults.plain, SIGNED, "b", "an affine quint8 range recovers"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_fault_is_named_and_pasting_the_entry_gives_the_gain(name: str) -> None:
    make, rules, where, remedy = CASES[name]
    net, batches = make(), large_inputs() if name == "long tail" else faults.inputs()
    found = suggested(net, rules, batches, trials=9)
    mine = [s for s in found if remedy in s.text and s.name == where]
    assert mine, [s.text for s in found]
    (best,) = mine
    pasted = faults.sqnr(net, qfx.merge_qconfig_dict(rules, best.entry), batches)
    before = faults.sqnr(net, rules, batches)
    # The same conversion and the same program: only the sums of squares are made in another order.
    assert pasted - before == pytest.approx(best.gain, abs=1e-6)
    assert (best.sqnr_before, best.sqnr_after) == pytest.approx((before, pasted), abs=1e-6)
    assert f"{best.gain:.1f} dB" in best.text
    assert best.gain >= 0.5
    assert [s.gain for s in found] == sorted((s.gain for s in found), reverse=True)
    assert eval(best.code) == best.entry
    assert best.code in str(found)


def test_what_does_not_help_is_not_suggested() -> None:
    found = suggested(faults.plain(), DEFAULT, faults.inputs(1), trials=2, least_gain=1000.0)
    assert found == ()
    assert "Nothing" in str(found)


def test_a_fragile_layer_is_left_float_with_its_gain() -> None:
    net = faults.with_large_weight()
    float_layer = next(s for s in suggested(net, PER_TENSOR, faults.inputs(), trials=3) if "float" in s.text)
    assert ("b", None) in float_layer.entry["module_name"]
    assert "39 % of the multiplications" in float_layer.text  # 72 * 8 of (36 + 72 + 72) * 8 + 40
    report = qfx.quantize_fx(net, qfx.merge_qconfig_dict(PER_TENSOR, float_layer.entry), faults.inputs()).report
    assert {r.name: r.decision for r in report}["b"] == "float"


# ---------------------------------------------------------------- findings


def test_spread_between_channels() -> None:
    assert channel_spread(torch.tensor([[1.0, -10.0], [0.1, 0.0], [0.0, 0.0]])) == pytest.approx(40.0)


def test_range_in_use() -> None:
    values = torch.cat([torch.linspace(0, 1, 100_000), torch.tensor([10.0])])
    assert range_in_use(values) == pytest.approx(0.1, abs=1e-3)
    assert range_in_use(torch.zeros(3)) == 1.0


# ---------------------------------------------------------------- entries


class Shared(nn.Module):
    """One relu module twice, a function twice, a module in a module."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())
        self.relu, self.last = nn.ReLU(), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.first(x))
        y = self.relu(self.second(x) + x)
        return F.relu(self.last(y + x))


def test_a_qconfig_dict_is_read_from_the_model() -> None:
    torch.manual_seed(0)
    net, x = Shared().eval(), [torch.randn(2, 3, 6, 6)]
    rules = {
        "": qfx.get_default_qconfig("x86"),
        "object_type": [(operator.add, qfx.default_qconfig)],
        "module_name": [("second", PER_TENSOR[""]), ("last", None)],
        "module_name_object_type_order": [("", nn.ReLU, 1, None)],
    }
    model = qfx.quantize_fx(net, rules, x)
    read = qconfig_dict_of(model, spellings(net, Request(rules, x[0])))
    again = qfx.quantize_fx(net, read, x)
    assert [(r.name, r.decision, r.qparams) for r in again.report] == [
        (r.name, r.decision, r.qparams) for r in model.report
    ]
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    "value",
    [
        {"": None, "object_type": [(nn.Linear, qfx.default_qconfig), (torch.flatten, None), ("mean", None)]},
        {"module_name": [("a.b", qfx.QConfig(qfx.HistogramObserver.with_args(bins=64), qfx.default_weight_observer))]},
        {"module_name_object_type_order": [("", operator.add, 0, None), ("a", F.relu, 1, None)]},
        {"": qfx.get_default_qconfig(), "input_quantized_idxs": [0]},
    ],
)
def test_code_gives_the_entry_again(value: dict[str, Any]) -> None:
    assert eval(code_of(value)) == value


# ---------------------------------------------------------------- bad input


def test_bad_arguments_are_named() -> None:
    net, batches = faults.with_outlier(), faults.inputs()
    with pytest.raises(qfx.InputError, match="takes a quantized model"):
        qfx.suggest(net, net, batches)
    model = qfx.quantize_fx(net, DEFAULT, batches)
    with pytest.raises(qfx.InputError, match="no data"):
        qfx.suggest(net, model, [])
    with pytest.raises(qfx.QfxError, match="made by qfx already"):
        qfx.suggest(model, model, batches)


def test_another_model_is_named() -> None:
    batches = faults.inputs()
    model = qfx.quantize_fx(faults.with_outlier(), DEFAULT, batches)
    with pytest.raises(qfx.QfxError):
        qfx.suggest(small_net("ResidualNet"), model, batches)


def test_a_spent_budget_returns_what_it_has_and_counts_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that stands still but for a minute that each conversion takes."""
    now, loss = [0.0], _Trial.loss

    def slow(trial: Any, entry: Any) -> Any:
        now[0] += 60.0
        return loss(trial, entry)

    monkeypatch.setattr("qfx.progress.time.monotonic", lambda: now[0])
    monkeypatch.setattr(_Trial, "loss", slow)
    net, batches = faults.with_large_weight(), faults.inputs()
    quantized = qfx.quantize_fx(net, PER_TENSOR, batches)
    whole = qfx.suggest(net, quantized, batches, least_gain=-1000.0)
    assert (len(whole) > 1, whole.untried) == (True, 0)
    some = qfx.suggest(net, quantized, batches, least_gain=-1000.0, budget=90)
    assert (len(some), some.untried) == (1, len(whole) - 1)
    assert some[0] in whole
