"""When observers stop, fake quantization starts and batch norms freeze, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from qfx.arguments import explained
from qfx.errors import InputError, shown
from qfx.quantization.batch_norm import freeze_bn_stats, update_bn_stats
from qfx.quantization.control import disable_fake_quant, disable_observer, enable_fake_quant, enable_observer
from qfx.quantization.fake_quantize import FakeQuantizeBase

Unit = Literal["epoch", "step"]
UNITS: tuple[Unit, ...] = ("epoch", "step")


@dataclass(frozen=True)
class Phase:
    """What a model in training does at one time.

    Attributes:
        observes: Observers follow the data.
        quantizes: Values are rounded.
        freezes_bn: Batch norms keep their running statistics.
    """

    observes: bool
    quantizes: bool
    freezes_bn: bool

    def apply(self, model: nn.Module) -> None:
        """Switch every module of ``model``."""
        model.apply(enable_observer if self.observes else disable_observer)
        model.apply(enable_fake_quant if self.quantizes else disable_fake_quant)
        model.apply(freeze_bn_stats if self.freezes_bn else update_bn_stats)


@dataclass(frozen=True)
class QATSchedule:
    """When the stages of quantization-aware training begin and end, in epochs or optimizer steps.

    ``QATSchedule(observe_until=3, freeze_bn_at=2)`` observes for the first three epochs and freezes batch norms
    from the third on. Times count what is completed: 0 is the start, and ``freeze_bn_at=2`` takes effect when
    the second epoch ends::

        stages = qfx.QATSchedule(observe_until=3, freeze_bn_at=2).attach(model)
        for epoch in range(5):
            train(model)
            stages.step()

    Args:
        observe_until: When observers stop; None for never.
        freeze_bn_at: When batch norms begin to keep their running statistics; None for never.
        fake_quant_from: When values begin to be rounded.
        unit: ``"epoch"`` or ``"step"``.

    Raises:
        InputError: A time that is no whole number from 0 up, or times in an order that trains nothing useful.
    """

    observe_until: int | None = None
    freeze_bn_at: int | None = None
    fake_quant_from: int = 0
    unit: Unit = "epoch"

    def __post_init__(self) -> None:
        if not isinstance(self.unit, str) or self.unit not in UNITS:
            raise InputError(f"unit={shown(self.unit)} is no unit of time.", remedy='Give unit="epoch" or unit="step".')
        for name, least in (("observe_until", 1), ("freeze_bn_at", 0), ("fake_quant_from", 0)):
            self._require_time(name, least)
        if self.observe_until is not None and self.observe_until < self.fake_quant_from:
            raise InputError(
                f"observe_until={self.observe_until} comes before fake_quant_from={self.fake_quant_from}.",
                why="In between, the model would neither learn its ranges nor train with them.",
                remedy=f"Observe at least until {self.unit} {self.fake_quant_from}, or quantize from "
                f"{self.unit} {self.observe_until} on.",
            )
        if self.freeze_bn_at is not None and self.freeze_bn_at < self.fake_quant_from:
            raise InputError(
                f"freeze_bn_at={self.freeze_bn_at} comes before fake_quant_from={self.fake_quant_from}.",
                why="The batch norms' statistics would be those of values that were never rounded.",
                remedy="Freeze batch norms when values have been rounded for a while, or not at all.",
            )

    def _require_time(self, name: str, least: int) -> None:
        time = getattr(self, name)
        if time is None and name != "fake_quant_from":
            return
        if isinstance(time, bool) or not isinstance(time, int) or time < least:
            raise InputError(
                f"{name}={shown(time)} is no number of {self.unit}s.",
                why="Observers that never run leave no ranges to quantize with."
                if type(time) is int and time == 0
                else None,
                remedy=f"Give a whole number from {least} up{'' if name == 'fake_quant_from' else ', or None'}.",
            )

    @explained
    def at(self, time: int) -> Phase:
        """What a model does when ``time`` units are completed."""
        return Phase(
            observes=self.observe_until is None or time < self.observe_until,
            quantizes=time >= self.fake_quant_from,
            freezes_bn=self.freeze_bn_at is not None and time >= self.freeze_bn_at,
        )

    @explained
    def attach(self, model: nn.Module) -> ScheduledTraining:
        """Switch ``model`` to the first stage; ``step()`` of the result goes on from there.

        Args:
            model: Prepared for quantization-aware training, in graph or eager mode, wrapped for data parallel
                training or not.

        Raises:
            InputError: ``model`` has nothing that quantizes.
        """
        return ScheduledTraining(self, model)


class ScheduledTraining:
    """A schedule at work on a model.

    Switches are set when a stage begins, not at every step: what is switched by hand stays until then.

    Attributes:
        schedule: The stages.
        model: What is trained.
        time: How many units are completed.
    """

    def __init__(self, schedule: QATSchedule, model: nn.Module) -> None:
        if not isinstance(model, nn.Module) or not any(isinstance(m, FakeQuantizeBase) for m in model.modules()):
            raise InputError(
                f"{type(model).__name__} has nothing that quantizes.",
                why="A schedule switches the fake-quantize modules of a model.",
                remedy="Prepare it first: qfx.prepare_qat_fx(model, qconfig_dict), or qfx.quantization.prepare_qat.",
            )
        self.schedule, self.model, self.time = schedule, model, 0
        self.phase.apply(model)

    @property
    def phase(self) -> Phase:
        """What the model does now."""
        return self.schedule.at(self.time)

    def step(self, ended: Unit | None = None) -> None:
        """One unit is completed.

        Args:
            ended: What ended, where a loop tells of epochs and of steps: what is not the schedule's unit does not
                count. Left out, it is one of the schedule's.

        Raises:
            InputError: ``ended`` is no unit.
        """
        if ended is not None and ended not in UNITS:
            raise InputError(f"{ended!r} is no unit of time.", remedy='Pass "epoch", "step" or nothing.')
        if ended not in (None, self.schedule.unit):
            return
        before = self.phase
        self.time += 1
        if self.phase != before:
            self.phase.apply(self.model)

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`load_state_dict` needs to go on; plain values."""
        return {"unit": self.schedule.unit, "time": self.time}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``, and switch the model to the stage of that time.

        Raises:
            InputError: ``state`` is not of a schedule, or counts another unit.
        """
        time = state.get("time") if isinstance(state, Mapping) else None
        if isinstance(time, bool) or not isinstance(time, int) or time < 0:
            raise InputError(
                "This is no state of a training schedule.", remedy="Pass what state_dict() of one returned."
            )
        if state.get("unit") != self.schedule.unit:
            raise InputError(
                f"The state counts {state.get('unit')}s, and the schedule {self.schedule.unit}s.",
                remedy="Resume with a schedule of the same unit.",
            )
        self.time = time
        self.phase.apply(self.model)
