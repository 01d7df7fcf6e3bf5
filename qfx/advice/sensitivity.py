"""``qfx.sensitivity``: what rounding each node alone costs, and what leaving it float gains."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from qfx import pipeline
from qfx.advice.metric import Metric, Score, name_of
from qfx.advice.records import NodeSensitivity, Sensitivity
from qfx.advice.simulation import Parts, Run, Simulation
from qfx.advice.units import Plan, Unit, macs_of
from qfx.api import prepare_spelled
from qfx.batches import Signature, split_batch, without_label
from qfx.calibration import Calibration, calibrate
from qfx.comparison.compare import as_batches
from qfx.errors import InputError
from qfx.inputs import as_float32
from qfx.ir.module import bind_placeholders
from qfx.models import PreparedModel, QuantizedModel
from qfx.ops.table import op_of
from qfx.passes.annotate import one_graph
from qfx.passes.insert import Recovery
from qfx.passes.report import fused_names
from qfx.passes.resolve import Spelling
from qfx.progress import Budget, bar


def sensitivity(
    model: nn.Module,
    qconfig_dict: Mapping[str, Any],
    data: Any,
    *,
    metric: Metric | None = None,
    nodes: Iterable[str] | None = None,
    calibration: Calibration | None = None,
    bias_correction: bool = True,
    adaptive_rounding: bool = True,
    frontend: str = "auto",
    budget: float | None = None,
    progress: bool = True,
) -> Sensitivity:
    """Rank the nodes of ``model`` by what quantizing each costs.

    The model is prepared and converted once, then run in float arithmetic with the rounding of single nodes switched
    on and off. What comes before a switch is not computed again; its values are held in memory for one batch at a
    time, in float and in int8.

    Args:
        model: A float model; it is not changed.
        qconfig_dict: As for :func:`qfx.quantize_fx`.
        data: Batches as for calibration, or one batch that is a tensor or a dict: what to measure on. One to four
            batches are enough to rank.
        metric: ``metric(outputs, batch)`` gives a number, lower is better: ``outputs`` is what the model returns,
            ``batch`` an element of ``data`` with its label. Its mean over batches counts. Left out, noise to signal.
        nodes: Names of nodes, or paths of modules with all that is in them, to look at; everything when left out.
        calibration: What to calibrate with; ``data`` when left out.
        bias_correction: As for ``quantize_fx``.
        adaptive_rounding, frontend: As for ``quantize_fx``.
        budget: Seconds after which it returns what it has; preparing and one node count, but are never cut short.
            ``unreached`` of the result names the nodes that were not measured.
        progress: Whether to show bars where stderr is a terminal.

    Returns:
        One record a quantized input, op, or group of values that share their range between several layers.

    Raises:
        InputError: There is no data, nothing is quantized, ``nodes`` names something else, or the metric fails.
        QfxError: As ``quantize_fx``.
    """
    seconds, batches = Budget(budget), list(as_batches(data))
    if not batches:
        raise InputError("There is no data to measure on.", remedy="Pass a batch, or a list of batches.")
    prepared, spelled = prepare_spelled(
        model,
        qconfig_dict,
        without_label(model, batches[0]),
        recovery=Recovery(bias_correction, adaptive_rounding),
        frontend=frontend,
    )
    calibrate(prepared, batches if calibration is None else calibration, progress=progress)
    study = Study.of(prepared, as_qdq(prepared), spelled)
    units = study.chosen(nodes)
    records = study.measure(batches, units, metric, seconds, progress=progress)
    reached = {record.name for record in records}
    return Sensitivity(
        records,
        qconfig_dict,
        metric=name_of(metric),
        float_loss=study.float_loss.value(),
        int8_loss=study.int8_loss.value(),
        unreached=[unit.node.name for unit in units if unit.node.name not in reached],
    )


def as_qdq(prepared: PreparedModel) -> QuantizedModel:
    """The quantized model of a calibrated one, without a program: a simulation runs its graph."""
    return QuantizedModel(pipeline.run(pipeline.CONVERT, prepared.graph_module()), {})


@dataclass
class _Scores:
    """What is known of one unit so far, by variant; its ``gain`` waits for the rest where only one of two is needed."""

    unit: Unit
    variants: dict[str, Parts]
    scores: dict[str, Score] = field(default_factory=dict)

    def join(self, others: Mapping[str, Score]) -> None:
        for name, other in others.items():
            self.scores.setdefault(name, Score()).join(other)


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
    macs: dict[str, int] = field(default_factory=dict)
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

        With a budget that is spent within the first batch, those of the first units; within a later one, all of them,
        by the batches before.
        """
        scores = [_Scores(unit, self._variants(unit)) for unit in units]
        total = len(batches) * len(units)
        with one_graph(), bar(None, "sensitivity", "node", total=total, shown=progress) as shown:
            for index, batch in enumerate(batches):
                done = self._add(batch, index, scores, metric, budget or Budget(None), len(batches) == 1, shown)
                if done < len(scores):
                    return [self._record(s) for s in (scores if index else scores[:done])]
        return [self._record(s) for s in scores]

    def _variants(self, unit: Unit) -> dict[str, Parts]:
        both = unit.weights and unit.values
        return {"alone": unit.parts} | ({"weights": unit.weights, "value": unit.values} if both else {})

    @staticmethod
    def _leaving(unit: Unit) -> tuple[bool, ...]:
        """Whether the ops that read a unit's value stay float with it; both where measuring decides."""
        return (False, True) if unit.weights and unit.values else (bool(unit.values),)

    def _left(self, unit: Unit, readers: bool) -> Parts:
        return self.plan.without(self.plan.ops_of(unit, with_readers=readers))

    def inputs(self, batch: Any, index: int) -> tuple[Any, ...]:
        """The placeholders' values in batch number ``index``."""
        graph = self.simulation.graph
        args, kwargs = split_batch(Signature.of_graph(graph), batch, index)
        return tuple(map(as_float32, bind_placeholders(graph, args, kwargs)))

    def _add(
        self,
        batch: Any,
        index: int,
        scores: list[_Scores],
        metric: Metric | None,
        budget: Budget,
        only: bool,
        shown: Any,
    ) -> int:
        """Measure one batch: how many units it was done for; it counts if that is all of them, or it is the first.

        Args:
            only: Whether there are no others, so that it decides which of two variants is needed.
        """
        measured = _Measured(self, batch, self.inputs(batch, index), metric)
        self._count(measured.without)
        found: list[dict[str, Score]] = []
        for unit in scores:
            if budget.is_spent and (found or index):
                break
            of_unit = {name: measured.score(on, measured.without) for name, on in unit.variants.items()}
            leaving = self._leaving(unit.unit)
            if only and len(leaving) > 1:
                leaving = (of_unit["value"].value() > of_unit["weights"].value(),)
            of_unit |= {f"left{r}": measured.score(self._left(unit.unit, r), measured.whole) for r in leaving}
            found.append(of_unit)
            shown.update()
        if len(found) == len(scores) or not index:
            self.float_loss.join(measured.score(frozenset(), measured.without))
            self.int8_loss.join(measured.score(measured.whole.on, measured.whole))
            for unit, of_unit in zip(scores, found, strict=False):
                unit.join(of_unit)
        return len(found)

    def _count(self, run: Run) -> None:
        self.macs = {n.name: macs_of(n, self.simulation.reader(run)) for n in self.simulation.graph.nodes}

    def _record(self, scores: _Scores) -> NodeSensitivity:
        unit, node = scores.unit, scores.unit.node
        losses = {name: score.value() for name, score in scores.scores.items()}
        over = {n: losses[n] - self.float_loss.value() for n in ("alone", "weights", "value") if n in losses}
        weights = over.get("weights", over["alone"] if unit.weights else None)
        value = over.get("value", over["alone"] if unit.values else None)
        readers = value is not None and (weights is None or value > weights)
        op = op_of(node)
        name = op.name if op is not None else "input" if node.op == "placeholder" else str(node.target)
        total = sum(self.macs.values())
        return NodeSensitivity(
            name=node.name,
            op="+".join((name, *fused_names(node))),
            module_path=node.meta.get("module_path") or "",
            source=node.meta.get("source"),
            members=tuple(n.name for n in unit.members),
            alone_loss=over["alone"],
            weights_loss=weights,
            value_loss=value,
            gain_if_float=self.int8_loss.value() - losses[f"left{readers}"],
            macs_share=self.macs.get(node.name, 0) / total if total else 0.0,
            entry=self.plan.entry(self.plan.ops_of(unit, with_readers=readers), None, self.spellings),
        )


class _Measured:
    """The scores of one batch, each set of switches once.

    Attributes:
        without: The run with everything off.
        whole: The run with everything on.
    """

    def __init__(self, study: Study, batch: Any, inputs: tuple[Any, ...], metric: Metric | None) -> None:
        self._simulation, self._batch, self._inputs, self._metric = study.simulation, batch, inputs, metric
        self.without = study.simulation.run(inputs, ())
        self.whole = study.simulation.run(inputs, study.simulation.parts)
        self._scores = {run.on: self._scored(run) for run in (self.without, self.whole)}

    def score(self, on: Parts, base: Run) -> Score:
        """Of the switches ``on``, computed from ``base`` on."""
        if on not in self._scores:
            self._scores[on] = self._scored(self._simulation.run(self._inputs, on, base))
        return self._scores[on]

    def _scored(self, run: Run) -> Score:
        score = Score()
        score.add(self._metric, run.output, self.without.output, self._batch)
        return score


def _is_named(unit: Unit, name: str) -> bool:
    names = {n.name for n in unit.members} | {unit.node.name}
    path = unit.node.meta.get("module_path") or ""
    return name in names or path == name or path.startswith(f"{name}.")
