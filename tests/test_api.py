"""The public calls: quantize_fx and its steps, forms of calibration, what the result is and reports."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import qfx
from qfx.models import PreparedModel, QuantizedModel
from tests.nets import small_net

DEFAULT = {"": qfx.get_default_qconfig()}
BATCHES = list(torch.randn(3, 4, 3, 16, 16, generator=torch.Generator().manual_seed(6)))
X = BATCHES[0]


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return small_net("ResidualNet")


@pytest.fixture(scope="module")
def quantized(net: nn.Module) -> QuantizedModel:
    return qfx.quantize_fx(net, DEFAULT, BATCHES)


class Two(nn.Module):
    """Two inputs, one of them optional, and structured outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
        self.names, self.version = ["a", "b"], 7

    def forward(self, x: Tensor, other: Tensor | None = None, *, double: bool = False) -> dict[str, Any]:
        y = self.left(x)
        if other is not None:
            y = y + self.right(other)
        return {"y": F.relu(y), "parts": (y[:, :2] if double else y, 3)}


# ---------------------------------------------------------------- steps


def test_quantize_fx_is_prepare_calibrate_convert(net: nn.Module, quantized: QuantizedModel) -> None:
    prepared = qfx.prepare_fx(net, DEFAULT, (X,))
    for batch in BATCHES:
        prepared(batch)
    stepwise = qfx.convert_fx(prepared)
    assert torch.equal(stepwise(X), quantized(X))
    assert {k: v.tolist() for k, v in stepwise.state_dict().items()} == {
        k: v.tolist() for k, v in quantized.state_dict().items()
    }


def test_a_prepared_model_computes_what_the_float_model_does(net: nn.Module) -> None:
    prepared = qfx.prepare_fx(net, DEFAULT, (X,))
    with torch.no_grad():
        assert torch.allclose(prepared(X), net(X), rtol=0, atol=2**-18 * float(net(X).abs().max()))


def test_example_inputs_may_be_left_out(net: nn.Module, quantized: QuantizedModel) -> None:
    prepared = qfx.prepare_fx(net, DEFAULT)
    for batch in BATCHES:
        prepared(batch)
    want = quantized(X)
    assert (qfx.convert_fx(prepared)(X) - want).abs().max() <= 0.1 * want.abs().max()


def test_convert_does_not_change_the_prepared_model(net: nn.Module) -> None:
    prepared = qfx.prepare_fx(net, DEFAULT, (X,))
    prepared(X)
    before = copy.deepcopy(prepared.state_dict())
    first = qfx.convert_fx(prepared)
    assert all(torch.equal(v, before[k]) for k, v in prepared.state_dict().items())
    assert torch.equal(qfx.convert_fx(prepared)(X), first(X))


def test_the_callers_model_is_not_changed(net: nn.Module) -> None:
    model = copy.deepcopy(net).train()
    seen: list[int] = []
    model.fc.register_forward_hook(lambda *_: seen.append(1))
    before, modules = copy.deepcopy(model.state_dict()), list(model.named_modules())
    qfx.quantize_fx(model, DEFAULT, BATCHES)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert list(model.named_modules()) == modules
    assert all(m.training for m in model.modules())
    assert all(p.requires_grad for p in model.parameters())
    assert len(model.fc._forward_hooks) == 1
    seen.clear()
    model(X)
    assert seen == [1]


def test_fuse_fx_folds_batch_norms_and_stays_float(net: nn.Module) -> None:
    fused = qfx.fuse_fx(net)
    assert not any("channel_affine" in str(n.target) for n in fused.graph.nodes)
    with torch.no_grad():
        assert torch.allclose(fused(X), net(X), rtol=0, atol=2**-18 * float(net(X).abs().max()))


# ---------------------------------------------------------------- calibration


def _generator() -> Iterator[Tensor]:
    yield from BATCHES


def _loop(prepared: nn.Module) -> None:
    for batch in BATCHES:
        prepared(batch)


_LABELLED = TensorDataset(torch.cat(BATCHES), torch.arange(12))
FORMS = {
    "tensors": BATCHES,
    "tuples": [(b,) for b in BATCHES],
    "lists": [[b] for b in BATCHES],
    "dicts": [{"x": b} for b in BATCHES],
    "labelled tuples": [(b, torch.zeros(4, dtype=torch.long)) for b in BATCHES],
    "labelled dicts": [{"x": b, "labels": 1} for b in BATCHES],
    "loader": DataLoader(_LABELLED, batch_size=4),
    "callable": _loop,
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_calibration_data_agree(net: nn.Module, quantized: QuantizedModel, form: str) -> None:
    assert torch.equal(qfx.quantize_fx(net, DEFAULT, FORMS[form], example_inputs=(X,))(X), quantized(X))


def test_a_generator_is_read_once_and_whole(net: nn.Module, quantized: QuantizedModel) -> None:
    assert torch.equal(qfx.quantize_fx(net, DEFAULT, _generator())(X), quantized(X))


@pytest.mark.parametrize("batch", [(X, X), [X, X], {"x": X, "other": X}, (X, X, torch.zeros(4, dtype=torch.int64))])
def test_several_inputs(batch: Any) -> None:
    torch.manual_seed(0)
    model = Two().eval()
    quantized = qfx.quantize_fx(model, DEFAULT, [batch])
    with torch.no_grad():
        want = model(X, X)["y"]
    got = quantized(X, other=X)
    assert (got["y"] - want).abs().max() < 0.02 * want.abs().max()
    assert got["parts"][1] == 3
    assert torch.equal(quantized(x=X, other=X)["y"], got["y"])


def test_an_optional_input_left_out_in_calibration_is_no_input() -> None:
    model = qfx.quantize_fx(Two().eval(), DEFAULT, [(X, torch.zeros(4, dtype=torch.int64))])
    assert model(X)["y"].shape == (4, 4, 16, 16)
    assert [r.module_path for r in model.report if r.op == "conv"] == ["left"]


def test_calibration_collects_no_gradients(net: nn.Module) -> None:
    prepared = qfx.prepare_fx(net, DEFAULT, (X,))
    grads: list[bool] = []
    qfx.quantize_fx(net, DEFAULT, lambda model: grads.append(torch.is_grad_enabled()) or model(X), example_inputs=X)
    assert grads == [False]
    assert isinstance(prepared, PreparedModel)


def test_a_progress_bar_shows_on_terminals_only() -> None:
    code = (
        "import torch, qfx\n"
        "model = torch.nn.Sequential(torch.nn.Linear(4, 4))\n"
        "qfx.quantize_fx(model, {'': qfx.get_default_qconfig()}, [torch.randn(2, 4)] * 3)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_dynamic_qconfigs_need_no_calibration() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    quantized = qfx.quantize_fx(model, {"": qfx.default_dynamic_qconfig})
    x = torch.randn(5, 8)
    with torch.no_grad():
        assert (quantized(x) - model(x)).abs().max() < 0.05
        assert torch.allclose(quantized(x), quantized.run_graph(x), rtol=0, atol=2**-20)
    assert [(r.op, r.decision) for r in quantized.report if r.op == "linear"] == [("linear", "int8")] * 2
    assert quantized.state_dict()["0.weight"].dtype == torch.int8


# ---------------------------------------------------------------- qconfig_dict, end to end


def _decisions(model: QuantizedModel) -> dict[str, str]:
    return {r.module_path: r.decision for r in model.report if r.op in ("conv", "linear")}


@pytest.mark.parametrize(
    ("entry", "floats"),
    [
        ({"object_type": [(nn.Linear, None)]}, {"fc"}),
        ({"object_type": {nn.Linear: None}}, {"fc"}),
        ({"module_name_regex": [("conv.*", None)]}, {"conv1", "conv2"}),
        ({"module_name": [("stem", None)]}, {"stem.0"}),
        ({"module_name_object_type_order": [("", nn.Conv2d, 0, None)]}, {"conv1"}),
        ({"object_type": [(nn.Conv2d, None)], "module_name": [("conv1", DEFAULT[""])]}, {"stem.0", "conv2", "project"}),
    ],
)
def test_a_qconfig_of_none_keeps_float_at_every_level(net: nn.Module, entry: dict[str, Any], floats: set[str]) -> None:
    quantized = qfx.quantize_fx(net, {**DEFAULT, **entry}, [X])
    decisions = _decisions(quantized)
    assert {path for path, decision in decisions.items() if decision == "float"} == floats
    for record in quantized.report:
        if record.module_path in floats and record.op in ("conv", "linear"):
            assert record.reason.startswith("its qconfig is None")
            assert next(iter(set(entry) & {record.reason.split("(")[1].split(" ")[0]}))
    for path in floats:
        assert quantized.get_submodule(path).weight.dtype == torch.float32
    with torch.no_grad():
        want = net(X)
    assert (quantized(X) - want).abs().max() < 0.1 * want.abs().max()


def test_without_any_qconfig_the_model_stays_float(net: nn.Module) -> None:
    for nothing in ({}, {"": None}):
        quantized = qfx.quantize_fx(net, nothing, example_inputs=X)
        assert {r.decision for r in quantized.report} == {"float"}
        with torch.no_grad():
            assert torch.allclose(quantized(X), net(X), rtol=0, atol=1e-5)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if x.sum() > -1e9 else x


class WithIsland(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.island, self.last = nn.Conv2d(3, 4, 1), Branching(), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.island(F.relu(self.first(x))))


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({}, "control flow"),
        ({"non_traceable_module_name": ["island"]}, "named in non_traceable_module_name"),
        ({"non_traceable_module_class": [Branching]}, "Branching is in non_traceable_module_class"),
    ],
)
def test_what_does_not_trace_is_a_float_island_between_two_programs(entry: dict[str, Any], reason: str) -> None:
    torch.manual_seed(0)
    model = WithIsland().eval()
    quantized = qfx.quantize_fx(model, {**DEFAULT, **entry}, [X])
    [record] = quantized.report.decided("float")
    assert (record.module_path, record.decision) == ("island", "float")
    assert reason in record.reason
    assert record.source is not None
    assert "self.last(self.island(" in record.source
    assert [segment.executable is None for segment in quantized.compiled.segments] == [False, True, False]
    assert "in torch: island" in str(quantized.explain())
    with torch.no_grad():
        assert (quantized(X) - model(X)).abs().max() < 0.05 * model(X).abs().max()


def test_strict_raises_for_what_does_not_trace() -> None:
    with pytest.raises(qfx.CaptureError) as caught:
        qfx.quantize_fx(WithIsland(), DEFAULT, [X], strict=True)
    assert caught.value.where == "island"
    assert "x.sum()" in str(caught.value.source)


def test_preserved_attributes_are_carried_over() -> None:
    model = Two().eval()
    names = ["names", "version", "left"]
    prepared = qfx.prepare_fx(model, {**DEFAULT, "preserved_attributes": names}, (X,))
    prepared(X)
    quantized = qfx.convert_fx(prepared)
    for carried in (prepared, quantized, copy.deepcopy(quantized)):
        assert (carried.names, carried.version) == (["a", "b"], 7)
        assert carried.names is not model.names
    assert quantized.left.weight.dtype == torch.int8
    with pytest.raises(qfx.QConfigError, match="'nothing'"):
        qfx.prepare_fx(model, {**DEFAULT, "preserved_attributes": ["nothing"]})


@pytest.mark.parametrize("signed", [False, True])
def test_inputs_and_outputs_may_be_integers(net: nn.Module, signed: bool) -> None:
    kind = {"dtype": qfx.qint8 if signed else qfx.quint8}
    scheme = qfx.per_tensor_symmetric if signed else qfx.per_tensor_affine
    qconfig = qfx.QConfig(qfx.MinMaxObserver.with_args(qscheme=scheme, **kind), qfx.default_weight_observer)
    plain = qfx.quantize_fx(net, {"": qconfig}, BATCHES)
    entry = {"": qconfig, "input_quantized_idxs": [0], "output_quantized_idxs": [0]}
    coded = qfx.quantize_fx(net, entry, BATCHES)
    x = plain.get_submodule("x")
    codes = torch.round(X / x.scale) + x.zero_point
    codes = codes.clamp(kind["dtype"].qmin, kind["dtype"].qmax).to(kind["dtype"].storage)
    got = coded(codes)
    assert got.dtype == kind["dtype"].storage
    out = next(r.qparams for r in coded.report if r.module_path == "fc")
    want = (plain(X).double() / out.scale + out.zero_point).clamp(out.qmin, out.qmax)
    assert (got - want).abs().max() <= 0.5 + 256 * 2**-22
    with pytest.raises(qfx.InputError, match="arrives quantized"):
        coded(X)


def test_one_of_two_equal_outputs_may_be_integers() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = self.conv(x)
            return y, y

    a, b = qfx.quantize_fx(Twice(), {**DEFAULT, "output_quantized_idxs": [1]}, [X])(X)
    assert (a.dtype, b.dtype) == (torch.float32, torch.uint8)


def test_a_float_output_may_be_asked_for_as_integers() -> None:
    model = qfx.quantize_fx(nn.ReLU(), {**DEFAULT, "output_quantized_idxs": [0]}, [X])
    assert model(X).dtype == torch.uint8


@pytest.mark.parametrize("section", ["input_quantized_idxs", "output_quantized_idxs"])
def test_an_index_of_an_input_or_output_that_does_not_exist(net: nn.Module, section: str) -> None:
    with pytest.raises(qfx.QConfigError, match=f"{section}.*names 1"):
        qfx.prepare_fx(net, {**DEFAULT, section: [1]}, (X,))


def test_an_integer_output_that_no_qconfig_reaches_is_an_error() -> None:
    with pytest.raises(qfx.QConfigError, match="no qconfig says how"):
        qfx.prepare_fx(nn.ReLU(), {"": None, "output_quantized_idxs": [0]}, (X,))


def test_bias_correction_is_on_by_default_and_can_be_turned_off(net: nn.Module) -> None:
    corrected = qfx.quantize_fx(net, DEFAULT, BATCHES, adaptive_rounding=False)
    plain = qfx.quantize_fx(net, DEFAULT, BATCHES, adaptive_rounding=False, bias_correction=False)
    assert torch.equal(plain.get_submodule("fc").weight, corrected.get_submodule("fc").weight)
    assert not torch.equal(plain.get_submodule("fc").bias, corrected.get_submodule("fc").bias)


def test_adaptive_rounding_is_on_by_default_and_can_be_turned_off(net: nn.Module, quantized: QuantizedModel) -> None:
    plain = qfx.quantize_fx(net, DEFAULT, BATCHES, adaptive_rounding=False)
    assert torch.equal(plain.fc.weight_scale, quantized.fc.weight_scale)
    assert not torch.equal(plain.get_submodule("stem.0").weight, quantized.get_submodule("stem.0").weight)


# ---------------------------------------------------------------- the result


def test_named_attributes_hold_integers_under_the_users_paths(net: nn.Module, quantized: QuantizedModel) -> None:
    assert quantized.fc.weight.dtype == torch.int8
    assert quantized.get_submodule("stem.0").weight.shape == net.stem[0].weight.shape
    nearest = qfx.quantize_fx(net, DEFAULT, BATCHES, adaptive_rounding=False).fc
    dequantized = nearest.weight.float() * nearest.weight_scale[:, None]
    assert (dequantized - net.fc.weight).abs().max() <= 0.5 * float(nearest.weight_scale.max()) * (1 + 2**-10)


def test_the_report_has_a_record_for_each_node(quantized: QuantizedModel) -> None:
    report = quantized.report
    assert [r.op for r in report] == ["conv", "max_pool", "conv", "conv", "conv", "mean", "linear"]
    assert report[0].fused == ("clamp",)
    assert set(report[2].fused) == {"clamp", "residual"}
    assert report[0].qparams == report[1].qparams
    assert report[0].qparams is not None
    assert report[0].qparams.scale == quantized.get_submodule("stem.0").scale.item()
    assert report[-1].qparams is None
    assert all(r.source and "nets.py" in r.source and r.reason for r in report)
    assert len(report.decided("int8")) == len(report) == 7
    assert report[1:3] == tuple(report)[1:3]


def test_the_report_prints_as_a_table(quantized: QuantizedModel) -> None:
    lines = quantized.report.text().splitlines()
    counts = ["7 nodes: 7 int8", "int8: 4 conv, 1 linear, 1 max_pool, 1 mean", "captured by symbolic: the default", ""]
    assert lines[:4] == counts
    assert lines[4].split() == ["name", "op", "module", "decision", "scale", "zero", "why", "source"]
    assert "conv+residual+clamp" in lines[8]
    assert len(lines) == 4 + 2 + 7 + 2 + len(quantized.report.reasons())


def test_explain_and_profile_tell_what_runs(quantized: QuantizedModel) -> None:
    plan = quantized.explain()
    assert "isa" in str(plan)
    timed = quantized.profile(X, repeats=2)
    assert [s.op for s in timed.parts[0].steps] == [s.op for s in plan.parts[0].steps]
    assert all(s.microseconds is not None and s.microseconds >= 0 for s in timed.parts[0].steps)
    assert all(s.microseconds is None for s in plan.parts[0].steps)
    assert str(quantized.profile(X.double(), repeats=1))


def test_isa_can_be_chosen(net: nn.Module, quantized: QuantizedModel) -> None:
    scalar = qfx.quantize_fx(net, DEFAULT, BATCHES, isa="scalar")
    assert scalar.compiled.segments[0].executable.isa == "scalar"
    assert torch.equal(scalar(X), quantized(X))


def test_a_quantized_model_is_in_eval_mode_without_gradients(quantized: QuantizedModel) -> None:
    assert not quantized.training
    assert not any(parameter.requires_grad for parameter in quantized.parameters())
    assert (next(quantized.parameters()).dtype, next(quantized.parameters()).device.type) == (torch.float32, "cpu")
    assert not quantized(X).requires_grad


def test_quantized_models_work_inside_other_modules(net: nn.Module, quantized: QuantizedModel) -> None:
    outer = nn.Sequential(quantized, nn.Softmax(1))
    assert torch.equal(outer(X), quantized(X).softmax(1))


FALLIBLE: dict[str, Callable[[], Any]] = {"public names": lambda: [getattr(qfx, name) for name in dir(qfx)]}


@pytest.mark.parametrize("name", FALLIBLE)
def test_everything_that_dir_lists_exists(name: str) -> None:
    assert FALLIBLE[name]()


def test_top_level_has_the_vocabulary_of_graph_mode() -> None:
    for name in ("QConfig", "default_dynamic_qconfig", "disable_observer", "HistogramObserver", "get_default_qconfig"):
        assert callable(getattr(qfx, name)) or isinstance(getattr(qfx, name), tuple)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        qfx.nonsense  # noqa: B018


@pytest.mark.parametrize("call", ["quantize_fx", "prepare_fx", "prepare_qat_fx"])
def test_the_rules_have_torchs_name_too(net: nn.Module, call: str) -> None:
    rules = qfx.get_default_qat_qconfig_mapping() if call == "prepare_qat_fx" else qfx.get_default_qconfig_mapping()
    inputs = {"calibration": BATCHES} if call == "quantize_fx" else {"example_inputs": (X,)}
    first, second = (getattr(qfx, call)(net, **{n: rules}, **inputs) for n in ("qconfig_dict", "qconfig_mapping"))
    assert [node.name for node in first.graph.nodes] == [node.name for node in second.graph.nodes]
    assert first.state_dict().keys() == second.state_dict().keys()
    with pytest.raises(qfx.QConfigError, match="Both qconfig_dict and qconfig_mapping are given"):
        getattr(qfx, call)(net, rules, qconfig_mapping=rules, **inputs)
    with pytest.raises(qfx.QConfigError, match="A qconfig_dict is a dict"):
        getattr(qfx, call)(net, **inputs)
