"""``qfx.sensitivity``: what rounding each node alone costs, and what leaving it float gains."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from tqdm import tqdm

from qfx.advice.metric import Metric, Score, name_of
from qfx.advice.records import NodeSensitivity, Sensitivity
from qfx.advice.simulation import Parts, Run, Simulation
from qfx.advice.units import Plan, Unit, macs_of
from qfx.api import convert_fx, prepare_fx, spellings
from qfx.batches import Signature, split_batch
from qfx.calibration import Calibration, calibrate
from qfx.comparison.compare import as_batches
from qfx.errors import InputError
from qfx.inputs import as_float32
from qfx.ir.module import bind_placeholders
from qfx.models import PreparedModel, QuantizedModel
from qfx.ops.table import op_of
from qfx.passes.report import fused_names
from qfx.passes.resolve import Spelling


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

    Returns:
        One record a quantized input, op, or group of values that share their range between several layers.

    Raises:
        InputError: There is no data, nothing is quantized, ``nodes`` names something else, or the metric fails.
        QfxError: As ``quantize_fx``.
    """
    batches = list(as_batches(data))
    if not batches:
        raise InputError("There is no data to measure on.", remedy="Pass a batch, or a list of batches.")
    prepared = prepare_fx(
        model,
        qconfig_dict,
        batches[0],
        bias_correction=bias_correction,
        adaptive_rounding=adaptive_rounding,
        frontend=frontend,
    )
    calibrate(prepared, batches if calibration is None else calibration)
    study = Study.of(prepared, convert_fx(prepared), spellings(model, qconfig_dict, batches[0], frontend=frontend))
    records = study.measure(batches, study.chosen(nodes), metric)
    return Sensitivity(
        records,
        qconfig_dict,
        metric=name_of(metric),
        float_loss=study.float_loss.value(),
        int8_loss=study.int8_loss.value(),
    )


@dataclass
class _Scores:
    """What is known of one unit so far, by variant."""

    unit: Unit
    variants: dict[str, Parts]
    scores: dict[str, Score] = field(default_factory=dict)


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

    def measure(self, batches: Collection[Any], units: list[Unit], metric: Metric | None) -> list[NodeSensitivity]:
        """The records of ``units``."""
        scores = [_Scores(unit, self._variants(unit)) for unit in units]
        total = len(batches) * sum(len(s.variants) for s in scores)
        with tqdm(total=total, desc="sensitivity", unit="run", disable=None, leave=False) as bar:
            for index, batch in enumerate(batches):
                self._add(batch, index, scores, metric, bar)
        return [self._record(s) for s in scores]

    def _variants(self, unit: Unit) -> dict[str, Parts]:
        both = unit.weights and unit.values
        variants = {"alone": unit.parts} | ({"weights": unit.weights, "value": unit.values} if both else {})
        return variants | {f"left{readers}": self._left(unit, readers) for readers in self._leaving(unit)}

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

    def _add(self, batch: Any, index: int, scores: list[_Scores], metric: Metric | None, bar: Any) -> None:
        inputs = self.inputs(batch, index)
        without, whole = (self.simulation.run(inputs, on) for on in ((), self.simulation.parts))
        self._count(without)
        for score, run in ((self.float_loss, without), (self.int8_loss, whole)):
            score.add(metric, run.output, without.output, batch)
        for unit in scores:
            for name, on in unit.variants.items():
                base = whole if name.startswith("left") else without
                run = self.simulation.run(inputs, on, base)
                unit.scores.setdefault(name, Score()).add(metric, run.output, without.output, batch)
                bar.update()

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


def _is_named(unit: Unit, name: str) -> bool:
    names = {n.name for n in unit.members} | {unit.node.name}
    path = unit.node.meta.get("module_path") or ""
    return name in names or path == name or path.startswith(f"{name}.")
