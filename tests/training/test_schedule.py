"""``qfx.QATSchedule``: stages as data, switched on time, resumed, and checked."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import nn

import qfx
from qfx.quantization.batch_norm import has_frozen_bn_stats
from qfx.training.schedule import Phase

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A fused batch norm and one that stands alone."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.alone = nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.alone(torch.tanh(self.body(x)))


def prepared() -> nn.Module:
    torch.manual_seed(0)
    net = Net().train()
    net.body.qconfig = qfx.get_default_qat_qconfig()
    net.body = qfx.fuse_modules(net.body, ["0", "1"])
    return qfx.prepare_qat(net)


def graph_model() -> nn.Module:
    torch.manual_seed(0)
    return qfx.prepare_qat_fx(Net().train(), {"": qfx.get_default_qat_qconfig()}, (X,)).train()


def test_stages_of_a_model_in_graph_mode() -> None:
    model = graph_model()
    stages = qfx.QATSchedule(observe_until=2, freeze_bn_at=1, fake_quant_from=1).attach(model)
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    fakes = [m for m in model.modules() if isinstance(m, qfx.FakeQuantizeBase)]
    assert len(norms) == 2
    model(X)
    stages.step()
    assert {bool(m.fake_quant_enabled[0]) for m in fakes} == {True}
    means = [m.running_mean.clone() for m in norms]
    ranges = [m.scale.clone() for m in fakes]
    model.train()(3 * X + 1)
    assert all(torch.equal(m.running_mean, mean) for m, mean in zip(norms, means, strict=True))
    assert any(not torch.equal(m.scale, scale) for m, scale in zip(fakes, ranges, strict=True))
    stages.step()
    ranges = [m.scale.clone() for m in fakes]
    trained = model.train()(X)
    assert all(torch.equal(m.scale, scale) for m, scale in zip(fakes, ranges, strict=True))
    with torch.no_grad():
        assert torch.allclose(model.eval()(X), trained, atol=2 * float(max(m.scale.max() for m in fakes)))
    assert torch.isfinite(trained).all()


def switches(model: nn.Module) -> Phase:
    """The switches of ``model``, all of a kind equal."""
    fakes = [m for m in model.modules() if isinstance(m, qfx.FakeQuantizeBase)]
    fused = next(m for m in model.modules() if hasattr(m, "freeze_bn"))
    (observes,) = {bool(m.observer_enabled[0]) for m in fakes}
    (quantizes,) = {bool(m.fake_quant_enabled[0]) for m in fakes}
    (frozen,) = {has_frozen_bn_stats(m) for m in (fused, model.get_submodule("alone"))}
    return Phase(observes, quantizes, frozen)


def test_stages_come_when_they_are_due() -> None:
    model = prepared()
    stages = qfx.QATSchedule(observe_until=3, freeze_bn_at=2, fake_quant_from=1).attach(model)
    seen = []
    for _ in range(5):
        seen.append(switches(model))
        stages.step()
    assert seen == [
        Phase(observes=True, quantizes=False, freezes_bn=False),
        Phase(observes=True, quantizes=True, freezes_bn=False),
        Phase(observes=True, quantizes=True, freezes_bn=True),
        Phase(observes=False, quantizes=True, freezes_bn=True),
        Phase(observes=False, quantizes=True, freezes_bn=True),
    ]


def test_the_default_observes_and_quantizes_for_ever() -> None:
    schedule = qfx.QATSchedule()
    assert {schedule.at(t) for t in (0, 1, 10**6)} == {Phase(observes=True, quantizes=True, freezes_bn=False)}


def test_training_stops_what_a_stage_ends() -> None:
    model = prepared()
    stages = qfx.QATSchedule(observe_until=1, freeze_bn_at=1).attach(model)
    model(X)
    stages.step()
    watched = {k: v.clone() for k, v in model.state_dict().items() if "running" in k or "_val" in k or "scale" in k}
    model.train()(5 * X + 3)
    assert watched
    assert all(torch.equal(model.state_dict()[k], v) for k, v in watched.items())


def test_a_loop_may_tell_of_both_units() -> None:
    model = prepared()
    stages = qfx.QATSchedule(observe_until=4, unit="step").attach(model)
    for _ in range(2):
        for _ in range(2):
            assert switches(model).observes
            stages.step("step")
        stages.step("epoch")
    assert (stages.time, switches(model).observes) == (4, False)
    with pytest.raises(qfx.InputError, match="minute"):
        stages.step("minute")  # type: ignore[arg-type]


def test_switches_set_by_hand_stay_until_the_next_stage() -> None:
    model = prepared()
    stages = qfx.QATSchedule(observe_until=2).attach(model)
    model.apply(qfx.disable_fake_quant)
    stages.step()
    assert not switches(model).quantizes
    stages.step()
    assert switches(model).quantizes


def test_a_resumed_schedule_goes_on() -> None:
    stages = qfx.QATSchedule(observe_until=2, freeze_bn_at=2).attach(prepared())
    stages.step()
    stages.step()
    model = prepared()
    resumed = qfx.QATSchedule(observe_until=2, freeze_bn_at=2).attach(model)
    resumed.load_state_dict(torch.load(_saved(stages.state_dict()), weights_only=True))
    assert switches(model) == Phase(observes=False, quantizes=True, freezes_bn=True)
    assert resumed.time == 2


def _saved(state: dict[str, Any]) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return file


def test_a_schedule_is_data() -> None:
    schedule = qfx.QATSchedule(observe_until=3, unit="step")
    assert schedule == pickle.loads(pickle.dumps(schedule)) == copy.deepcopy(schedule)
    with pytest.raises(AttributeError):
        schedule.unit = "epoch"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"observe_until": 0}, "observe_until=0"),
        ({"observe_until": -1}, "observe_until=-1"),
        ({"freeze_bn_at": 1.5}, "freeze_bn_at=1.5"),
        ({"fake_quant_from": None}, "fake_quant_from=None"),
        ({"fake_quant_from": True}, "fake_quant_from=True"),
        ({"unit": "day"}, "'day'"),
        ({"observe_until": 2, "fake_quant_from": 3}, "observe_until=2 comes before fake_quant_from=3"),
        ({"freeze_bn_at": 2, "fake_quant_from": 3}, "freeze_bn_at=2 comes before fake_quant_from=3"),
    ],
)
def test_impossible_times_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(qfx.InputError, match=message) as caught:
        qfx.QATSchedule(**arguments)
    assert caught.value.remedy


def test_a_model_that_is_not_prepared_is_refused() -> None:
    with pytest.raises(qfx.InputError, match="nothing that quantizes"):
        qfx.QATSchedule().attach(Net())


@pytest.mark.parametrize(
    ("state", "message"), [({}, "no state"), (3, "no state"), ({"unit": "step", "time": 1}, "counts steps")]
)
def test_a_foreign_state_is_refused(state: Any, message: str) -> None:
    stages = qfx.QATSchedule().attach(prepared())
    with pytest.raises(qfx.InputError, match=message):
        stages.load_state_dict(state)
