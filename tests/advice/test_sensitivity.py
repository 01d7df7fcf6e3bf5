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
from qfx.advice.study import Study
from qfx.calibration import calibrate
from qfx.observed import Request, to_calibrate_spelled
from qfx.passes.preparation import Recovery
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
    whole, compared = grids(net, DEFAULT), 0
    for record in ranking[:3]:
        merged = qfx.merge_qconfig_dict(DEFAULT, record.entry)
        left, pasted = ranking.int8_loss - record.gain_if_float, faults.sqnr(net, merged, IMAGES, simulated=True)
        if not grids(net, merged).items() <= whole.items():
            continue  # what no longer shares its range with others gets a better one than the whole model gives it
        compared += 1
        # The same float arithmetic; quotients are rounded in float32 here, and a value in a million falls otherwise.
        assert -10 * math.log10(left) == pytest.approx(pasted, abs=0.05), record.name
    assert compared > 0


def grids(net: torch.nn.Module, qconfig_dict: dict[str, Any]) -> dict[str, Any]:
    """The qparams of every quantized value, by node."""
    report = qfx.quantize_fx(net, qconfig_dict, IMAGES).report
    return {record.name: record.qparams for record in report if record.qparams is not None}


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


# ---------------------------------------------------------------- the definition, spelled out


def by_definition(net: nn.Module, batches: list[Any]) -> dict[str, tuple[float | None, ...]]:
    """Losses of every node, each from a whole run of its own with nothing reused, all batches in one sum."""
    prepared, spelled = to_calibrate_spelled(net, Request(DEFAULT, batches[0], recovery=Recovery()))
    calibrate(prepared, batches)
    study = Study.of(prepared, qfx.convert_fx(prepared), spelled)

    def loss(on: Any) -> float:
        noise = signal = 0.0
        for index, batch in enumerate(batches):
            inputs = study.inputs(batch, index)
            run, real = (study.simulation.run(inputs, switches).output.double() for switches in (on, ()))
            noise, signal = noise + float((run - real).square().sum()), signal + float(real.square().sum())
        return noise / signal

    found: dict[str, tuple[float | None, ...]] = {}
    whole = loss(study.simulation.parts)
    for unit in study.units:
        weights, values = (loss(parts) if parts else None for parts in (unit.weights, unit.values))
        readers = values is not None and (weights is None or values > weights)
        left = study.plan._found_without(study.plan.ops_of(unit, with_readers=readers))
        found[unit.node.name] = (loss(unit.parts), weights, values, whole - loss(left))
    return found


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", ["ResidualNet", "DenseNet", "MobileNet"])
def test_losses_are_those_of_the_definition(name: str, count: int) -> None:
    net, batches = small_net(name), IMAGES[:count]
    ranking = qfx.sensitivity(net, DEFAULT, batches)
    expected = by_definition(net, batches)
    assert {r.name for r in ranking} == expected.keys()
    for r in ranking:
        assert (r.alone_loss, r.weights_loss, r.value_loss, r.gain_if_float) == expected[r.name], r.name


def test_a_set_of_switches_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Any] = []
    plain = Simulation.run

    def counted(self: Simulation, inputs: Any, on: Any, base: Any = None) -> Any:
        runs.append(frozenset(on))
        return plain(self, inputs, on, base)

    monkeypatch.setattr(Simulation, "run", counted)
    qfx.sensitivity(small_net("DenseNet"), DEFAULT, IMAGES[:1])
    assert len(runs) == len(set(runs))


# ---------------------------------------------------------------- time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that goes on by a second whenever a budget asks; its element is the time."""
    now = [0.0]

    def later() -> float:
        now[0] += 1.0
        return now[0]

    monkeypatch.setattr("qfx.progress.time.monotonic", later)
    return now


@pytest.mark.usefixtures("clock")
def test_a_spent_budget_returns_the_first_nodes_and_names_the_others() -> None:
    net = small_net("ResidualNet")
    whole = qfx.sensitivity(net, DEFAULT, IMAGES[:1])
    some = qfx.sensitivity(net, DEFAULT, IMAGES[:1], budget=3)
    assert 0 < len(some) < len(whole)
    assert {r.name for r in some} | set(some.unreached) == {r.name for r in whole}
    assert whole.unreached == ()
    assert [whole[r.name] for r in some] == list(some)
    assert (some.int8_loss, some.float_loss) == (whole.int8_loss, whole.float_loss)
    assert f"no time for {len(some.unreached)} more: {some.unreached[0]}" in str(some)


@pytest.mark.usefixtures("clock")
def test_a_budget_spent_in_a_later_batch_leaves_that_batch_out() -> None:
    net = small_net("ResidualNet")
    calibration = IMAGES
    first = qfx.sensitivity(net, DEFAULT, IMAGES[:1], calibration=calibration)
    some = qfx.sensitivity(net, DEFAULT, IMAGES, calibration=calibration, budget=len(first) + 3)
    assert some.unreached == ()
    assert list(some) == list(first)


@pytest.mark.usefixtures("clock")
def test_no_budget_is_too_small_for_one_node() -> None:
    ranking = qfx.sensitivity(small_net("ResidualNet"), DEFAULT, IMAGES[:1], budget=0)
    assert len(ranking) == 1


@pytest.mark.parametrize("budget", [-1, "60", True, math.nan])
def test_what_is_no_budget(budget: Any) -> None:
    with pytest.raises(qfx.InputError, match="is no number of seconds"):
        qfx.sensitivity(small_net("ResidualNet"), DEFAULT, IMAGES[:1], budget=budget)


# ---------------------------------------------------------------- many samples


MANY = torch.randn(48, 12, 8, generator=torch.Generator().manual_seed(4))


def deep() -> nn.Module:
    """Fourteen layers."""
    torch.manual_seed(1)
    layers = [nn.Sequential(nn.Linear(8, 8), nn.LeakyReLU(0.3)) for _ in range(14)]
    for layer in layers:
        nn.init.orthogonal_(layer[0].weight)
    return nn.Sequential(*layers).eval()


@pytest.mark.parametrize("batches", [[MANY], list(MANY.split(16))], ids=["one batch", "three batches"])
def test_of_many_samples_the_worst_nodes_are_measured_on_all(batches: list[Tensor]) -> None:
    net = deep()
    ranking = qfx.sensitivity(net, DEFAULT, batches)
    expected = by_definition(net, batches)
    assert {r.name for r in ranking} == expected.keys()
    exact = [r for r in ranking if not r.rough]
    assert list(ranking[:4]) == [r for r in exact if r in ranking[:4]]
    for r in exact:
        assert (r.alone_loss, r.weights_loss, r.value_loss, r.gain_if_float) == expected[r.name], r.name
    rough = [r for r in ranking if r.rough]
    assert len(rough) > len(exact)
    for r in rough:  # three samples of 48
        assert 0.3 < r.alone_loss / (expected[r.name][0] or 0.0) < 3
    assert f"~: {len(rough)} measured on the first samples only" in str(ranking)
    named = qfx.sensitivity(net, DEFAULT, batches, nodes=[rough[-1].name])
    assert not named[0].rough
    assert named[0].alone_loss == expected[rough[-1].name][0]


def test_few_rows_of_every_node_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    plain = Simulation.run

    def counted(self: Simulation, inputs: Any, on: Any, base: Any = None) -> Any:
        rows.append(len(inputs[0]))
        return plain(self, inputs, on, base)

    monkeypatch.setattr(Simulation, "run", counted)
    ranking = qfx.sensitivity(deep(), DEFAULT, [MANY])
    assert sum(n == len(MANY) for n in rows) < len(rows) / 2
    assert set(rows) == {3, len(MANY)}
    assert len(ranking) > 12


class Centred(nn.Module):
    """Its result for one sample depends on the others."""

    def __init__(self) -> None:
        super().__init__()
        self.body = deep()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x - x.mean(0, keepdim=True))


def once(outputs: Tensor, batch: Any) -> float:
    """Of 48 samples only."""
    assert len(outputs) == len(batch[1]) == len(MANY)
    return float(F.cross_entropy(outputs[:, 0], batch[1]))


@pytest.mark.parametrize(
    ("net", "data", "metric"),
    [
        (Centred, [MANY], None),
        (deep, [(MANY, torch.zeros(48, dtype=torch.long))], once),
        (deep, [MANY[:15]], None),
    ],
    ids=["samples that meet", "a metric of its own", "few samples"],
)
def test_all_nodes_are_measured_on_all_where_a_part_does_not_stand_for_it(net: Any, data: Any, metric: Any) -> None:
    ranking = qfx.sensitivity(net(), DEFAULT, data, metric=metric)
    assert not any(r.rough for r in ranking)
    assert "first samples" not in str(ranking)


def test_labels_go_with_their_samples() -> None:
    labels = torch.arange(48) % 5
    seen: set[int] = set()

    def metric(outputs: Tensor, batch: Any) -> float:
        seen.add(len(batch[1]))
        return float(F.cross_entropy(outputs[:, 0], batch[1]))

    ranking = qfx.sensitivity(deep(), DEFAULT, [(MANY, labels)], metric=metric)
    assert seen == {3, 48}
    assert any(r.rough for r in ranking)


@pytest.mark.usefixtures("clock")
def test_a_budget_leaves_rough_records() -> None:
    ranking = qfx.sensitivity(deep(), DEFAULT, [MANY])
    first = qfx.sensitivity(deep(), DEFAULT, [MANY], budget=len(ranking) + 1)
    assert len(first) == len(ranking)
    assert all(r.rough for r in first)
    some = qfx.sensitivity(deep(), DEFAULT, [MANY], budget=3)
    assert all(r.rough for r in some)
    assert len(some) + len(some.unreached) == len(ranking)
