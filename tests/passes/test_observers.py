"""annotate and insert: which values are observed, by which observers, and which share one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

import qfx
from qfx.passes.insert import GROUP
from qfx.quantization.observer import ChannelMean, FixedQParamsObserver, HistogramObserver, Observer, WindowMoments

DEFAULT = {"": qfx.get_default_qconfig()}
X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(8))


class Net(nn.Module):
    """Two convolutions and a function of both, ``body``."""

    def __init__(self, body: object) -> None:
        super().__init__()
        self.a, self.b, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def prepared(body: object) -> qfx.PreparedModel:
    torch.manual_seed(0)
    return qfx.prepare_fx(Net(body), DEFAULT, (X,))


def groups(model: qfx.PreparedModel) -> dict[str, str]:
    """Observer path of each value, by node name."""
    return {n.name: n.meta[GROUP] for n in model.graph.nodes if GROUP in n.meta and "observer" not in n.meta}


def calls(model: qfx.PreparedModel) -> list[fx.Node]:
    """Observer calls, without those that collect means."""
    found = [n for n in model.graph.nodes if "observer" in n.meta]
    return [n for n in found if not isinstance(model.get_submodule(str(n.target)), ChannelMean)]


SHARING = {
    "max_pool": lambda n, x: n.last(F.max_pool2d(n.a(x), 2)),
    "avg_pool": lambda n, x: n.last(F.avg_pool2d(n.a(x), 2)),
    "reshape": lambda n, x: n.last(n.a(x).reshape(2, 4, 4, 16)),
    "flatten": lambda n, x: n.last(n.a(x).flatten(2).unsqueeze(-1)),
    "slice": lambda n, x: n.last(n.a(x)[:, :, 1:]),
    "permute": lambda n, x: n.last(n.a(x).permute(0, 1, 3, 2)),
    "nearest": lambda n, x: n.last(F.interpolate(n.a(x), scale_factor=2)),
    "chain": lambda n, x: n.last(F.interpolate(F.max_pool2d(n.a(x), 2).transpose(2, 3), scale_factor=2)),
}


@pytest.mark.parametrize("name", SHARING)
def test_ops_that_move_values_share_their_operands_observer(name: str) -> None:
    model = prepared(SHARING[name])
    found = groups(model)
    assert len(set(found.values())) == 2  # the input, and all between the convolutions
    assert len(calls(model)) == 2


def test_what_is_concatenated_shares_one_observer_that_sees_each_source() -> None:
    model = prepared(lambda n, x: n.last(torch.cat([n.a(x), n.b(x)], 2)))
    found = groups(model)
    assert found["a"] == found["b"] == found["cat"] != found["x"]
    shared = [c for c in calls(model) if c.target == found["a"]]
    assert [c.args[0].name for c in shared] == ["a", "b"]
    model(X)
    observer = model.get_submodule(found["a"])
    with torch.no_grad():
        seen = [F.conv2d(X, model.a.weight, model.a.bias), F.conv2d(X, model.b.weight, model.b.bias)]
    assert float(observer.max_val) == float(torch.cat(seen).max())
    assert float(observer.min_val) == float(torch.cat(seen).min())


def test_a_value_read_by_many_is_observed_once() -> None:
    model = prepared(lambda n, x: n.last(n.a(x)) + n.b(x))
    [call] = [c for c in calls(model) if c.args[0].op == "placeholder"]
    assert len(model.graph.find_nodes(op="placeholder")[0].users) == 1
    assert len(call.users) == 2


FIXED = {
    "sigmoid": (torch.sigmoid, 1 / 256, 0),
    "hardsigmoid": (F.hardsigmoid, 1 / 256, 0),
    "tanh": (torch.tanh, 2 / 256, 128),
    "softmax": (lambda x: F.softmax(x, 1), 1 / 256, 0),
}


@pytest.mark.parametrize("name", FIXED)
def test_ranges_known_beforehand_are_not_observed(name: str) -> None:
    function, scale, zero = FIXED[name]
    model = prepared(lambda n, x: n.last(function(n.a(x))))
    node = next(n.name for n in model.graph.nodes if getattr(n.target, "__name__", "") == name)
    observer = model.get_submodule(groups(model)[node])
    assert isinstance(observer, FixedQParamsObserver)
    assert (float(observer.scale), int(observer.zero_point)) == (scale, zero)


def test_a_fixed_range_shared_with_another_value_is_observed() -> None:
    model = prepared(lambda n, x: n.last(torch.cat([torch.sigmoid(n.a(x)), n.b(x)], 2)))
    assert isinstance(model.get_submodule(groups(model)["cat"]), HistogramObserver)


def test_fixed_ranges_that_move_stay_fixed() -> None:
    model = prepared(lambda n, x: n.last(F.max_pool2d(torch.cat([torch.sigmoid(n.a(x)), n.b(x).sigmoid()], 2), 2)))
    found = groups(model)
    assert isinstance(model.get_submodule(found["cat"]), FixedQParamsObserver)
    assert found["cat"] == found["max_pool2d"] == found["sigmoid"]


CLAMPS = {
    "relu": (F.relu, 0.0, float("inf")),
    "relu6": (lambda x: F.relu6(x * 1), 0.0, 6.0),
    "hardtanh": (lambda x: F.hardtanh(x, -0.1, 0.2), -0.1, 0.2),
    "clamp": (lambda x: x.clamp(-0.2, 0.1), -0.2, 0.1),
    "clamp_": (lambda x: x.clamp_(max=0.1), -float("inf"), 0.1),
}


@pytest.mark.parametrize("op", ["conv", "add"])
@pytest.mark.parametrize("name", CLAMPS)
def test_no_observer_sees_what_a_clamp_removes(name: str, op: str) -> None:
    function, low, high = CLAMPS[name]
    model = prepared(lambda n, x: n.last(function(n.a(x) if op == "conv" else n.a(x) + n.b(x) * 2)))
    model(4 * X)
    for call in calls(model):
        observer = model.get_submodule(str(call.target))
        if call.args[0].op != "placeholder" and call.args[0].kwargs.get("activation"):
            assert torch.tensor(low) <= observer.min_val
            assert observer.max_val <= torch.tensor(high)
    clamped = [c for c in calls(model) if c.args[0].kwargs.get("activation")]
    assert len(clamped) == 1
    assert not [n for n in model.graph.nodes if getattr(n.target, "__name__", "") in ("relu", "clamp")]


def test_observers_are_told_where_they_are() -> None:
    model = prepared(lambda n, x: n.last(n.a(x)))
    for module in model.modules():
        if isinstance(module, (Observer, ChannelMean)):
            assert module.label in ("x", "a", "last")
            assert module.label == "x" or "n.last(n.a(x))" in str(module.source)


def test_float_parts_are_not_observed() -> None:
    torch.manual_seed(0)
    model = qfx.prepare_fx(Net(lambda n, x: n.last(F.relu(n.a(x)))), {**DEFAULT, "module_name": [("a", None)]}, (X,))
    assert [c.args[0].name.split("_")[0] for c in calls(model)] in (["relu"], ["a"])
    assert model.graph.find_nodes(op="placeholder")[0] not in [c.args[0] for c in calls(model)]


@pytest.mark.parametrize(("bias_correction", "adaptive_rounding"), [(True, True), (True, False), (False, True)])
def test_only_statistics_that_conversion_needs_are_collected(bias_correction: bool, adaptive_rounding: bool) -> None:
    net = Net(lambda n, x: n.last(n.a(x)))
    model = qfx.prepare_fx(net, DEFAULT, (X,), bias_correction=bias_correction, adaptive_rounding=adaptive_rounding)
    found = [type(m) for m in model.modules() if isinstance(m, ChannelMean)]
    assert found == 2 * [WindowMoments if adaptive_rounding else ChannelMean]


def test_without_bias_correction_and_adaptive_rounding_no_statistics_are_collected() -> None:
    net = Net(lambda n, x: n.last(n.a(x)))
    model = qfx.prepare_fx(net, DEFAULT, (X,), bias_correction=False, adaptive_rounding=False)
    assert not [m for m in model.modules() if isinstance(m, ChannelMean)]


def test_a_window_too_long_for_moments_gives_means_only() -> None:
    net = nn.Sequential(nn.Linear(1536, 2), nn.Linear(2, 2), nn.Linear(2, 1537), nn.Linear(1537, 1))
    model = qfx.prepare_fx(net, DEFAULT)
    assert [type(m) for m in model.modules() if isinstance(m, ChannelMean)] == 3 * [WindowMoments] + [ChannelMean]


def test_bias_correction_uses_the_mean_that_each_layer_reads() -> None:
    model = prepared(lambda n, x: n.last(F.relu(n.a(x))))
    model(X)
    with torch.no_grad():
        read = F.relu(F.conv2d(X, model.a.weight, model.a.bias))
    assert torch.allclose(model.a.input_statistics.mean(), X.double().mean((0, 2, 3)), rtol=0, atol=2**-20)
    assert torch.allclose(model.last.input_statistics.mean(), read.double().mean((0, 2, 3)), rtol=0, atol=2**-20)
