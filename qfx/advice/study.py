"""One model under analysis: what is ranked, and the losses of each unit on data."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from qfx import pipeline
from qfx.advice.metric import Metric, Score
from qfx.advice.records import NodeSensitivity
from qfx.advice.screening import few_rows, same_rows
from qfx.advice.simulation import Parts, Run, Simulation
from qfx.advice.units import Plan, Unit, macs_of
from qfx.batches import Signature, split_batch
from qfx.errors import InputError, QfxError
from qfx.inputs import as_float32
from qfx.ir.module import bind_placeholders
from qfx.models import PreparedModel, QuantizedModel
from qfx.ops.table import op_of
from qfx.passes.annotate import one_graph
from qfx.passes.report import fused_names
from qfx.passes.resolve import Spelling
from qfx.passes.wide import layer_name
from qfx.progress import Budget, bar

_LEAST_CLOSELY, _SHARE_CLOSELY = 4, 32
"""Of the units, those with the greatest losses are measured on all data: so many, or one in so many."""


def as_qdq(prepared: PreparedModel) -> QuantizedModel:
    """The quantized model of a calibrated one, without a program: a simulation runs its graph."""
    return QuantizedModel(pipeline.to_qdq(prepared.graph_module()), {})


Variants: TypeAlias = dict[str, Score]


@dataclass
class Losses:
    """The losses of one unit on some data.

    Attributes:
        scores: By variant: ``alone``, ``weights`` and ``value`` with all else float; ``leftFalse`` and ``leftTrue``
            with all else int8, less or with the ops that read the unit's value.
        of_float: The metric of the float model on the same data.
        of_int8: Of the int8 model.
        scale: What the losses are multiplied with, where they are of the first samples only.
        rough: Whether they are.
    """

    of_float: Score
    of_int8: Score
    scores: Variants = field(default_factory=dict)
    scale: float = 1.0
    rough: bool = False

    def join(self, measured: _Measured, variants: Variants) -> None:
        """Take in one batch more."""
        self.of_float.join(measured.of_float)
        self.of_int8.join(measured.of_int8)
        for name, other in variants.items():
            self.scores.setdefault(name, Score()).join(other)

    def over(self, name: str) -> float | None:
        """By how much a variant is worse than float; None for one that the unit does not have."""
        score = self.scores.get(name)
        return None if score is None else self.scale * (score.value() - self.of_float.value())

    @property
    def readers(self) -> bool:
        """Whether the ops that read the unit's value stay float with it: most of what it costs is the value's."""
        if "leftFalse" not in self.scores or "leftTrue" not in self.scores:
            return "leftTrue" in self.scores
        return self.scores["value"].value() > self.scores["weights"].value()

    @property
    def gain(self) -> float:
        """By how much the int8 model gets better without the unit."""
        return self.scale * (self.of_int8.value() - self.scores[f"left{self.readers}"].value())


@dataclass
class Study:
    """One model under analysis.

    Attributes:
        simulation: The model with switches.
        plan: What each qconfig makes of it.
        units: What is ranked.
        spellings: How entries name its ops.
        float_loss: The metric with everything off.
        int8_loss: The metric with everything on.
    """

    simulation: Simulation
    plan: Plan
    units: list[Unit]
    spellings: Mapping[str, Spelling]
    macs: Counter[str] = field(default_factory=Counter)
    float_loss: Score = field(default_factory=Score)
    int8_loss: Score = field(default_factory=Score)

    @classmethod
    def of(cls, prepared: PreparedModel, quantized: QuantizedModel, spelled: Mapping[str, Spelling]) -> Study:
        """Of a prepared model and what it was converted to.

        Raises:
            InputError: Nothing is quantized.
        """
        simulation = Simulation(prepared, quantized)
        if not simulation.parts:
            raise InputError(
                "Nothing in the model is quantized, so nothing can be ranked.",
                remedy="Give it a qconfig, as {'': qfx.get_default_qconfig()}; the model's report says why each op "
                "is float.",
            )
        plan = Plan(prepared, simulation)
        return cls(simulation, plan, plan.units(), spelled)

    def chosen(self, nodes: Iterable[str] | None) -> list[Unit]:
        """The units that names of nodes or paths of modules mean.

        Raises:
            InputError: A name that means none.
        """
        if nodes is None:
            return self.units
        names = [nodes] if isinstance(nodes, str) else list(nodes)
        found = {name: [u for u in self.units if _is_named(u, name)] for name in names}
        for name, units in found.items():
            if not units:
                known = [n for u in self.units for n in (u.node.name, u.node.meta.get("module_path") or "") if n]
                near = difflib.get_close_matches(str(name), known, n=5, cutoff=0.3) or known[:5]
                raise InputError(
                    f"nodes names {name!r}, which is no quantized node or module.",
                    remedy=f"Nearest: {', '.join(near)}.",
                )
        wanted = {id(u) for units in found.values() for u in units}
        return [u for u in self.units if id(u) in wanted]

    def measure(
        self,
        batches: Sequence[Any],
        units: list[Unit],
        metric: Metric | None,
        budget: Budget | None = None,
        *,
        progress: bool = True,
    ) -> list[NodeSensitivity]:
        """The records of ``units``.

        Where there are many samples and many units, all of the units are measured on the first samples, and then
        those whose losses are greatest on all data. A budget that is spent while not every unit has a record leaves
        those of the first units.
        """
        race = _Race(self, batches, metric, budget or Budget(None), progress)
        with one_graph():
            found = race.run(units)
        self.float_loss, self.int8_loss = race.float_loss, race.int8_loss
        return [self._record(unit, losses) for unit, losses in zip(units, found, strict=False)]

    def left(self, unit: Unit, readers: bool) -> Parts:
        """The switches that are on when the unit stays float in the int8 model."""
        return self.plan.without(self.plan.ops_of(unit, with_readers=readers))

    def inputs(self, batch: Any, index: int) -> tuple[Any, ...]:
        """The placeholders' values in batch number ``index``."""
        graph = self.simulation.graph
        args, kwargs = split_batch(Signature.of_graph(graph), batch, index)
        return tuple(map(as_float32, bind_placeholders(graph, args, kwargs)))

    def count(self, run: Run) -> None:
        """Count the multiplications of every node in a run that has no base."""
        self.macs = Counter()
        for node in self.simulation.graph.nodes:
            self.macs[layer_name(node)] += macs_of(node, self.simulation.reader(run))

    def _record(self, unit: Unit, losses: Losses) -> NodeSensitivity:
        node, op, alone = unit.node, op_of(unit.node), losses.over("alone")
        assert alone is not None
        weights = losses.over("weights") if unit.values else alone
        value = losses.over("value") if unit.weights else alone
        name = op.name if op is not None else "input" if node.op == "placeholder" else str(node.target)
        total = sum(self.macs.values())
        return NodeSensitivity(
            name=node.name,
            op="+".join((name, *fused_names(node))),
            module_path=node.meta.get("module_path") or "",
            source=node.meta.get("source"),
            members=tuple(n.name for n in unit.members),
            alone_loss=alone,
            weights_loss=weights,
            value_loss=value,
            gain_if_float=losses.gain,
            macs_share=self.macs[node.name] / total if total else 0.0,
            entry=self.plan.entry(self.plan.ops_of(unit, with_readers=losses.readers), None, self.spellings),
            rough=losses.rough,
        )


@dataclass
class _Race:
    """The losses of units: of all of them on few samples where that tells which ones to look at closely.

    Attributes:
        float_loss: The metric of the float model on all data.
        int8_loss: Of the int8 model.
    """

    study: Study
    batches: Sequence[Any]
    metric: Metric | None
    budget: Budget
    progress: bool
    float_loss: Score = field(default_factory=Score)
    int8_loss: Score = field(default_factory=Score)
    _last: tuple[int, _Measured] | None = None

    def run(self, units: list[Unit]) -> list[Losses]:
        """Of each unit, in order; fewer if the budget is spent before each has any."""
        closely = max(_LEAST_CLOSELY, len(units) // _SHARE_CLOSELY)
        few = self._few_samples() if len(units) > 3 * closely else None
        if few is None:
            found = self._on_all(units)
            if found:
                self.float_loss, self.int8_loss = found[0].of_float, found[0].of_int8
            return found
        self._sum_up()
        found = self._on_few(few, units)
        while len(found) == len(units) and not self.budget.is_spent:
            near = [i for i in _greatest(found, closely) if found[i].rough]
            if not near:
                break
            for i, losses in zip(near, self._on_all([units[i] for i in near]), strict=False):
                found[i] = losses
        return found

    def _few_samples(self) -> _Measured | None:
        """The model on the first samples; None where there are few as it is, or they do not stand for themselves."""
        few = few_rows(self.batches)
        if few is None:
            return None
        whole = self._measured(0)
        try:
            measured = _Measured(self.study, few, 0, self.metric)
        except QfxError:  # the model or the metric takes no other number of samples
            return None
        return measured if same_rows(measured.without.output, whole.without.output) else None

    def _sum_up(self) -> None:
        for index in range(len(self.batches)):
            measured = self._measured(index)
            self.float_loss.join(measured.of_float)
            self.int8_loss.join(measured.of_int8)

    def _on_few(self, few: _Measured, units: list[Unit]) -> list[Losses]:
        on_few, on_all = few.of_int8.value() - few.of_float.value(), self.int8_loss.value() - self.float_loss.value()
        scale = on_all / on_few if on_all > 0 and on_few > 0 else 1.0
        with bar(None, "sensitivity, first samples", "node", total=len(units), shown=self.progress) as shown:
            scores = self._scores(few, units, shown, only=True, at_least=1)
        return [Losses(few.of_float, few.of_int8, of_unit, scale, rough=True) for of_unit in scores]

    def _on_all(self, units: list[Unit]) -> list[Losses]:
        """On all data; where the budget ends within the first batch, of the first units, else of the batches before."""
        found, only = [Losses(Score(), Score()) for _ in units], len(self.batches) == 1
        with bar(None, "sensitivity", "node", total=len(self.batches) * len(units), shown=self.progress) as shown:
            for index in range(len(self.batches)):
                measured = self._measured(index)
                scores = self._scores(measured, units, shown, only=only, at_least=0 if index else 1)
                if index and len(scores) < len(units):
                    break
                for losses, of_unit in zip(found, scores, strict=False):
                    losses.join(measured, of_unit)
                if len(scores) < len(units):
                    return found[: len(scores)]
        return found

    def _scores(
        self, measured: _Measured, units: list[Unit], shown: Any, *, only: bool, at_least: int
    ) -> list[Variants]:
        """Of each unit on one batch; fewer, but ``at_least`` so many, when the budget is spent."""
        found: list[Variants] = []
        for unit in units:
            if self.budget.is_spent and len(found) >= at_least:
                break
            found.append(measured.variants(unit, only=only))
            shown.update()
        return found

    def _measured(self, index: int) -> _Measured:
        if self._last is None or self._last[0] != index:
            self._last = None  # its memory is free before more is taken
            self._last = index, _Measured(self.study, self.batches[index], index, self.metric)
            self.study.count(self._last[1].without)
        return self._last[1]


def _greatest(losses: list[Losses], count: int) -> list[int]:
    """Which have the greatest losses alone."""
    return sorted(range(len(losses)), key=lambda i: -(losses[i].over("alone") or 0.0))[:count]


class _Measured:
    """The scores of one batch, each set of switches once.

    Attributes:
        without: The run with everything off.
        whole: The run with everything on.
        of_float: The score of the one.
        of_int8: The score of the other.
    """

    def __init__(self, study: Study, batch: Any, index: int, metric: Metric | None) -> None:
        self._study, self._batch, self._metric = study, batch, metric
        self._inputs = study.inputs(batch, index)
        self.without = study.simulation.run(self._inputs, ())
        self.whole = study.simulation.run(self._inputs, study.simulation.parts)
        self._scores = {run.on: self._scored(run) for run in (self.without, self.whole)}
        self.of_float, self.of_int8 = self._scores[self.without.on], self._scores[self.whole.on]

    def variants(self, unit: Unit, *, only: bool) -> Variants:
        """The scores of a unit.

        Args:
            unit: The unit.
            only: Whether there is no other batch, so that this one decides which of two variants is needed.
        """
        both = unit.weights and unit.values
        on = {"alone": unit.parts} | ({"weights": unit.weights, "value": unit.values} if both else {})
        found = {name: self.score(parts, self.without) for name, parts in on.items()}
        leaving = (False, True) if both else (bool(unit.values),)
        if both and only:
            leaving = (found["value"].value() > found["weights"].value(),)
        return found | {f"left{r}": self.score(self._study.left(unit, r), self.whole) for r in leaving}

    def score(self, on: Parts, base: Run) -> Score:
        """Of the switches ``on``, computed from ``base`` on."""
        if on not in self._scores:
            self._scores[on] = self._scored(self._study.simulation.run(self._inputs, on, base))
        return self._scores[on]

    def _scored(self, run: Run) -> Score:
        score = Score()
        score.add(self._metric, run.output, self.without.output, self._batch)
        return score


def _is_named(unit: Unit, name: str) -> bool:
    names = {n.name for n in unit.members} | {unit.node.name}
    path = unit.node.meta.get("module_path") or ""
    return name in names or path == name or path.startswith(f"{name}.")
