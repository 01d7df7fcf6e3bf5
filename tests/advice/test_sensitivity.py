"""``qfx.sensitivity``: planted faults come first, simulated gains are those of conversion."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qfx
from qfx.advice.simulation import Simulation
from tests.advice import faults
from tests.nets import small_net

DEFAULT = {"": qfx.get_default_qconfig()}
PER_TENSOR = {"": qfx.QConfig(qfx.HistogramObserver, qfx.default_weight_observer)}
OUTERMOST = {"": qfx.QConfig(qfx.MinMaxObserver, qfx.default_per_channel_weight_observer)}
IMAGES = list(torch.randn(2, 2, 3, 16, 16, generator=torch.Generator().manual_seed(3)))


# ---------------------------------------------------------------- planted faults


def test_a_channel_of_large_weights_comes_first() -> None:
    ranking = qfx.sensitivity(faults.with_large_weight(), PER_TENSOR, faults.inputs())
    first, second = ranking[:2]
    assert first.name == "b"
    assert first.weights_loss > 10 * first.value_loss
    assert first.alone_loss > 10 * second.alone_loss
    assert ranking.worst(1, by="gain_if_float") == (first,)


def test_an_outlier_among_activations_comes_first() -> None:
    ranking = qfx.sensitivity(faults.with_outlier(), OUTERMOST, faults.inputs())
    first, second = ranking[:2]
    assert first.name == "a"
    assert first.value_loss > 10 * first.weights_loss
    assert first.alone_loss > 10 * second.alone_loss


def test_without_the_fault_nothing_stands_out() -> None:
    ranking = qfx.sensitivity(faults.plain(), DEFAULT, faults.inputs())
    assert ranking[0].alone_loss < 10 * ranking[1].alone_loss


# ---------------------------------------------------------------- what is measured


@pytest.mark.parametrize("name", ["ResidualNet", "DenseNet"])
def test_a_gain_is_that_of_converting_with_the_entry(name: str) -> None:
    net = small_net(name)
    ranking = qfx.sensitivity(net, DEFAULT, IMAGES)
    assert -10 * math.log10(ranking.int8_loss) == pytest.approx(
        faults.sqnr(net, DEFAULT, IMAGES, simulated=True), abs=0.05
    )
    for record in ranking[:3]:
        left = ranking.int8_loss - record.gain_if_float
        pasted = faults.sqnr(net, qfx.merge_qconfig_dict(DEFAULT, record.entry), IMAGES, simulated=True)
        # The same float arithmetic; quotients are rounded in float32 here, and a value in a million falls otherwise.
        assert -10 * math.log10(left) == pytest.approx(pasted, abs=0.05), record.name


def test_the_worst_nodes_are_float_in_the_qconfig_dict() -> None:
    net = faults.with_large_weight()
    ranking = qfx.sensitivity(net, PER_TENSOR, faults.inputs())
    rules = ranking.as_qconfig_dict(1)
    assert rules[""] == PER_TENSOR[""]
    report = qfx.quantize_fx(net, rules, faults.inputs()).report
    assert {r.name: r.decision for r in report}["b"] == "float"
    before, after = (faults.sqnr(net, r, faults.inputs(), simulated=True) for r in (PER_TENSOR, rules))
    gained = after - before
    assert gained == pytest.approx(ranking.gain_in_decibels(ranking[0]), abs=0.05)
    assert gained > 20


def test_all_switches_make_the_quantized_model_and_none_the_float_one() -> None:
    net = small_net("MobileNet")
    prepared = qfx.prepare_fx(net, DEFAULT, (IMAGES[0],))
    prepared(IMAGES[0])
    model = qfx.convert_fx(prepared)
    simulation = Simulation(prepared, model)
    with torch.no_grad():
        torch.testing.assert_close(simulation.run((IMAGES[1],), ()).output, net(IMAGES[1]), rtol=1e-5, atol=1e-6)
        whole = simulation.run((IMAGES[1],), simulation.parts).output
        torch.testing.assert_close(whole, model.run_graph(IMAGES[1]), rtol=0, atol=2e-5)


def test_reused_values_are_those_of_a_run_of_its_own() -> None:
    prepared = qfx.prepare_fx(small_net("DenseNet"), DEFAULT, (IMAGES[0],))
    prepared(IMAGES[0])
    simulation = Simulation(prepared, qfx.convert_fx(prepared))
    nothing, everything = (simulation.run((IMAGES[1],), on) for on in ((), simulation.parts))
    for part in simulation.parts:
        alone = simulation.run((IMAGES[1],), {part}, nothing)
        assert torch.equal(alone.output, simulation.run((IMAGES[1],), {part}).output), part
        without = set(simulation.parts) - {part}
        other = simulation.run((IMAGES[1],), without, everything)
        assert torch.equal(other.output, simulation.run((IMAGES[1],), without).output), part


def test_only_what_a_switch_reaches_is_computed() -> None:
    prepared = qfx.prepare_fx(faults.with_outlier(), DEFAULT, (faults.inputs()[0],))
    prepared(faults.inputs()[0])
    simulation = Simulation(prepared, qfx.convert_fx(prepared))
    base = simulation.run((faults.inputs()[0],), ())
    last = next(p for p in simulation.parts if p.node == "fc")
    poisoned = {n: None if n.name in ("a", "b", "c") else v for n, v in base.values.items()}
    run = simulation.run((faults.inputs()[0],), {last}, type(base)(base.on, poisoned, base.output))
    assert not torch.equal(run.output, base.output)


def test_values_with_one_range_are_one_node_beside_their_layers() -> None:
    ranking = qfx.sensitivity(small_net("DenseNet"), DEFAULT, IMAGES[:1])
    joined = ranking["cat"]
    assert set(joined.members) >= {"first", "second", "cat"}
    assert joined.weights_loss is None
    layer = next(r for r in ranking if r.name == "second")
    assert (layer.value_loss, layer.weights_loss) == (None, layer.alone_loss)


def test_shares_of_multiplications() -> None:
    ranking = qfx.sensitivity(faults.with_outlier(), DEFAULT, faults.inputs())
    products = {"a": 144 * 8 * 36, "b": 144 * 8 * 72, "c": 144 * 8 * 72, "fc": 144 * 40}
    for name, count in products.items():
        assert ranking[name].macs_share == pytest.approx(count / sum(products.values()))


# ---------------------------------------------------------------- the user's metric


def test_the_users_metric_gets_outputs_and_the_batch_with_its_label() -> None:
    labelled = [(x, torch.arange(4) % 5) for x in faults.inputs()]
    net = faults.with_large_weight()

    def loss(outputs: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(outputs.mean((1, 2)), batch[1])

    ranking = qfx.sensitivity(net, PER_TENSOR, labelled, metric=loss)
    with torch.no_grad():
        want = sum(float(F.cross_entropy(net(x).mean((1, 2)), y)) for x, y in labelled) / 2
    assert ranking.float_loss == pytest.approx(want, rel=1e-5)
    assert ranking.metric == "loss"
    assert not ranking.in_decibels
    assert "loss is" in str(ranking).splitlines()[-1]


@pytest.mark.parametrize(
    ("metric", "message"),
    [(lambda o, b: math.nan, "is NaN"), (lambda o, b: o, "fails"), (lambda o, b: 1 / 0, "ZeroDivisionError")],
)
def test_a_metric_that_gives_no_number_is_named(metric: Any, message: str) -> None:
    with pytest.raises(qfx.InputError, match=message) as caught:
        qfx.sensitivity(faults.with_outlier(), DEFAULT, faults.inputs(), metric=metric)
    assert "lower" in caught.value.remedy


# ---------------------------------------------------------------- what is looked at


@pytest.mark.parametrize(("nodes", "found"), [(["b"], {"b"}), ("a", {"a"}), (["c", "fc"], {"c", "fc"})])
def test_nodes_can_be_chosen(nodes: Any, found: set[str]) -> None:
    ranking = qfx.sensitivity(faults.with_outlier(), DEFAULT, faults.inputs(), nodes=nodes)
    assert {r.name for r in ranking} == found


def test_a_table_has_a_line_a_node() -> None:
    ranking = qfx.sensitivity(faults.with_large_weight(), PER_TENSOR, faults.inputs())
    lines = str(ranking).splitlines()
    assert len(lines) == len(ranking) + 3
    assert lines[2].split()[:3] == ["b", "conv+clamp", "b"]
    assert "SQNR" in lines[-1]


class Changing(nn.Module):
    """A part that is not traced and changes its operand in place."""

    def forward(self, x: Tensor) -> Tensor:
        return x.add_(1.0) if float(x.sum()) > 1e9 else x.mul_(0.5)


class Odd(nn.Module):
    """An island, and a dynamically quantized layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.island, self.b = nn.Linear(6, 6), Changing(), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.island(self.a(x)))


@pytest.mark.parametrize("more", [{}, {"module_name": [("b", qfx.default_dynamic_qconfig)]}])
def test_islands_that_change_operands_and_dynamic_layers(more: dict[str, Any]) -> None:
    torch.manual_seed(0)
    net, x = Odd(), [torch.randn(9, 6), torch.randn(9, 6)]
    ranking = qfx.sensitivity(net, DEFAULT | more, x)
    assert {r.name for r in ranking} >= {"x", "a", "b"}
    assert -10 * math.log10(ranking.int8_loss) == pytest.approx(
        faults.sqnr(net, DEFAULT | more, x, simulated=True), abs=0.05
    )
    assert ranking["b"].alone_loss > 0


def test_integers_at_the_border() -> None:
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(4, 6), nn.ReLU()), torch.randn(9, 4)
    ranking = qfx.sensitivity(net, DEFAULT | {"input_quantized_idxs": [0], "output_quantized_idxs": [0]}, x)
    assert {r.op for r in ranking} == {"input", "linear+clamp"}
    assert all(r.alone_loss > 0 for r in ranking)


def test_the_model_is_not_changed() -> None:
    net = small_net("ResidualNet").train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    qfx.sensitivity(net, DEFAULT, IMAGES[:1])
    assert net.training
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


# ---------------------------------------------------------------- bad input


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no data": ({"data": []}, "no data"),
    "a number": ({"data": 3}, "not batches"),
    "nothing is quantized": ({"qconfig_dict": {"": None}}, "Nothing in the model is quantized"),
    "unknown node": ({"nodes": ["bb"]}, "'bb'"),
    "wrong shape": ({"data": [torch.randn(2, 9, 8, 8)]}, "do not run"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_named(name: str) -> None:
    changed, message = BAD[name]
    given: dict[str, Any] = {"qconfig_dict": DEFAULT, "data": faults.inputs()} | changed
    with pytest.raises(qfx.QfxError, match=message) as caught:
        qfx.sensitivity(faults.with_outlier(), **given)
    assert caught.value.remedy


@pytest.mark.parametrize("given", [{"by": "sqnr"}, {"n": -1}, {"n": 1.5}])
def test_worst_takes_a_number_and_an_order(given: dict[str, Any]) -> None:
    ranking = qfx.sensitivity(faults.with_outlier(), DEFAULT, faults.inputs(), nodes=["b"])
    with pytest.raises(qfx.InputError):
        ranking.worst(**given)


# ---------------------------------------------------------------- merging


def test_merging_replaces_what_both_name() -> None:
    one, other = qfx.default_qconfig, qfx.default_per_channel_qconfig
    base = {"": one, "module_name": {"a": one, "b": None}, "module_name_regex": [("c.*", one)]}
    entry = {"module_name": [("b", other)], "module_name_regex": [(".*", None), ("c.*", other)]}
    merged = qfx.merge_qconfig_dict(base, entry)
    assert merged["module_name"] == [("a", one), ("b", other)]
    assert merged["module_name_regex"] == [(".*", None), ("c.*", other)]
    assert base["module_name"] == {"a": one, "b": None}
    with pytest.raises(qfx.QConfigError):
        qfx.merge_qconfig_dict(base, {"modules": []})


def test_a_quantized_model_is_left_alone() -> None:
    with pytest.raises(qfx.QfxError, match="made by qfx already"):
        qfx.sensitivity(qfx.quantize_fx(faults.with_outlier(), DEFAULT, faults.inputs()), DEFAULT, faults.inputs())
