"""``qfx.suggest``: what to put into the qconfig_dict, each tried by converting the model with it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, fx, nn

from qfx.advice.code import code_of
from qfx.advice.entries import Entry, entry_for, merge_qconfig_dict, with_fused
from qfx.advice.metric import Score
from qfx.advice.records import NodeSensitivity, sqnr
from qfx.advice.remedies import REMEDIES, Findings, Remedy, applicable
from qfx.advice.simulation import Run, reading_ops
from qfx.advice.study import Study, as_qdq
from qfx.advice.units import Unit
from qfx.api import convert_fx, prepare_fx
from qfx.arguments import explained
from qfx.batches import without_label
from qfx.calibration import Calibration, calibrate
from qfx.comparison.compare import as_batches
from qfx.errors import InputError
from qfx.ir.attributes import attribute
from qfx.ir.nodes import path
from qfx.models import PreparedModel, QuantizedModel
from qfx.observed import Request, spellings
from qfx.ops.calls import arguments
from qfx.ops.table import op_of
from qfx.passes.preparation import Recovery
from qfx.passes.resolve import Spelling
from qfx.progress import Budget, bar
from qfx.quantization.qconfig import QConfig

_LEAST_SHARE = 0.02
"""Of the int8 model's noise: what makes less can't be worth 0.1 dB."""


@dataclass(frozen=True)
class Suggestion:
    """One change of the qconfig_dict that was tried.

    Attributes:
        text: What is wrong where, and what the change recovers.
        entry: The part to merge into the qconfig_dict: ``qfx.merge_qconfig_dict(qconfig_dict, entry)``.
        gain: By how many dB the SQNR of the model's outputs grew on the data when the model was calibrated and
            converted with the entry, and its int8 program run.
        sqnr_before: The SQNR without the entry, dB.
        sqnr_after: The SQNR with it, dB.
        name: The node's name in the graph; empty where the whole model is meant.
        module_path: Where in the user's model.
        source: The user's source line, if known.
    """

    text: str
    entry: Entry
    gain: float
    sqnr_before: float
    sqnr_after: float
    name: str
    module_path: str
    source: str | None

    @property
    def code(self) -> str:
        """The entry as Python, given ``import qfx, torch, operator``."""
        return code_of(self.entry)

    def __str__(self) -> str:
        return f"{self.text}\n    qconfig_dict = qfx.merge_qconfig_dict(qconfig_dict, {self.code})"


class Suggestions(tuple[Suggestion, ...]):
    """Suggestions, greatest gain first; ``str()`` lists them.

    Attributes:
        untried: How many changes there was no time to try.
    """

    untried: int

    def __new__(cls, found: Iterable[Suggestion] = (), untried: int = 0) -> Suggestions:
        made = super().__new__(cls, found)
        made.untried = untried
        return made

    def __str__(self) -> str:
        left = [f"There was no time to try {self.untried} more."] if self.untried else []
        return "\n".join([*map(str, self), *left]) or "Nothing that was tried is worth suggesting."


@dataclass(frozen=True)
class _Candidate:
    """A change to try; ``share`` of the noise is the most it can take away."""

    text: str
    entry: Entry
    share: float
    record: NodeSensitivity | None = None
    remedy: Remedy | None = None


@explained
def suggest(
    model: nn.Module,
    quantized: QuantizedModel,
    data: Any,
    *,
    qconfig_dict: Mapping[str, Any] | None = None,
    calibration: Calibration | None = None,
    trials: int = 8,
    least_gain: float = 0.5,
    budget: float | None = None,
    progress: bool = True,
) -> Suggestions:
    """Find changes of the qconfig_dict that bring ``quantized`` closer to ``model``, and measure what each gains.

    The nodes that :func:`qfx.sensitivity` finds worst are looked at; what may help them is tried, the most promising
    first: calibration, conversion, and the outputs' SQNR on ``data`` with the changed qconfig_dict.

    Args:
        model: The float model; it is not changed.
        quantized: Its int8 model, from post-training quantization.
        data: Batches as for calibration, or one batch that is a tensor or a dict: what to measure on.
        qconfig_dict: What ``quantized`` was made with; read from its nodes when left out.
        calibration: What to calibrate with; ``data`` when left out.
        trials: How many changes to try; each takes as long as quantizing the model.
        least_gain: dB below which a change is not worth a suggestion.
        budget: Seconds after which it returns what it has; ``untried`` of the result counts the changes that were left.
            Half of it is for ranking the nodes, but preparing and one node are never cut short.
        progress: Whether to show bars where stderr is a terminal.

    Returns:
        Suggestions, greatest gain first. Each was tried alone: gains do not add up.

    Raises:
        InputError: There is no data, nothing is quantized, or ``quantized`` is no quantized model.
        QfxError: As :func:`qfx.quantize_fx`.
    """
    seconds = Budget(budget)
    ranking = Budget(None if budget is None else budget / 2)
    trial = _Trial.of(model, quantized, data, qconfig_dict, calibration, ranking, progress)
    tried, candidates = [], _candidates(trial)[: max(0, trials)]
    untried = len(candidates)
    for candidate in bar(candidates, "trying", "change", shown=progress):
        if seconds.is_spent:
            break
        untried -= 1
        after = sqnr(trial.loss(candidate.entry))
        gain = after - trial.before if after != trial.before else 0.0
        if gain >= least_gain:
            tried.append(_suggestion(candidate, trial.before, after, gain))
    return Suggestions(sorted(tried, key=lambda s: -s.gain), untried)


def _suggestion(candidate: _Candidate, before: float, after: float, gain: float) -> Suggestion:
    record = candidate.record
    return Suggestion(
        text=candidate.text.format(gain=f"{gain:.1f} dB"),
        entry=candidate.entry,
        gain=gain,
        sqnr_before=before,
        sqnr_after=after,
        name=record.name if record else "",
        module_path=record.module_path if record else "",
        source=record.source if record else None,
    )


# ---------------------------------------------------------------- trying


@dataclass(frozen=True)
class _Trial:
    """A model, its data, and what it is without any change.

    Attributes:
        prepared: The calibrated model.
        study: Of it and its quantized model.
        records: What each of its units costs.
        floats: The float run of the first batch.
        before: SQNR of the int8 model without any change, dB.
    """

    model: nn.Module
    qconfig_dict: Mapping[str, Any]
    batches: Collection[Any]
    calibration: Calibration
    recovery: Recovery
    frontend: str
    prepared: PreparedModel
    study: Study
    records: dict[str, NodeSensitivity]
    floats: Run
    before: float

    @classmethod
    def of(
        cls,
        model: nn.Module,
        quantized: QuantizedModel,
        data: Any,
        qconfig_dict: Mapping[str, Any] | None,
        calibration: Calibration | None,
        budget: Budget,
        progress: bool,
    ) -> _Trial:
        if not isinstance(quantized, QuantizedModel):
            raise InputError(
                f"suggest takes a quantized model, not {type(quantized).__name__}.",
                remedy="Call qfx.suggest(model, quantized, data) with the float model and what quantize_fx returned.",
            )
        batches = list(as_batches(data))
        if not batches:
            raise InputError("There is no data to measure on.", remedy="Pass a batch, or a list of batches.")
        frontend = quantized.info.get("frontend", "auto")
        example = without_label(model, batches[0])
        spelled = spellings(model, Request(_islands(quantized), example, frontend=frontend))
        rules = dict(qconfig_dict_of(quantized, spelled) if qconfig_dict is None else qconfig_dict)
        for border in ("input_quantized_idxs", "output_quantized_idxs"):  # floats go in and come out of every trial
            rules.pop(border, None)
        recovery = quantized.info.get("recovery", Recovery())
        fed: Calibration = batches if calibration is None else calibration
        prepared = _prepared(model, rules, batches, fed, recovery, frontend, progress)
        study = Study.of(prepared, as_qdq(prepared), spelled)
        measured = study.measure(batches, study.units, None, budget, progress=progress)
        records = {r.name: r for r in measured}
        floats = study.simulation.run(study.inputs(batches[0], 0), ())
        trial = cls(model, rules, batches, fed, recovery, frontend, prepared, study, records, floats, math.nan)
        return replace(trial, before=sqnr(trial.loss({})))

    def loss(self, entry: Entry) -> float:
        """Noise to signal of the model converted with ``entry``."""
        rules = merge_qconfig_dict(self.qconfig_dict, entry)
        prepared = _prepared(
            self.model, rules, self.batches, self.calibration, self.recovery, self.frontend, progress=False
        )
        model, score = convert_fx(prepared), Score()
        for index, batch in enumerate(self.batches):
            inputs = self.study.inputs(batch, index)
            score.add(None, model(*inputs), self.study.simulation.run(inputs, ()).output, batch)
        return score.value()


def _prepared(
    model: nn.Module,
    rules: Mapping[str, Any],
    batches: Collection[Any],
    fed: Calibration,
    recovery: Recovery,
    frontend: str,
    progress: bool,
) -> PreparedModel:
    prepared = prepare_fx(
        model,
        rules,
        without_label(model, next(iter(batches))),
        bias_correction=recovery.bias_correction,
        adaptive_rounding=recovery.adaptive_rounding,
        rotation=recovery.rotation,
        smoothing=recovery.smoothing,
        smooth_keys=recovery.smooth_keys,
        frontend=frontend,
    )
    calibrate(prepared, fed, progress=progress)
    return prepared


def _islands(quantized: QuantizedModel) -> dict[str, Any]:
    """The part of the qconfig_dict that says which modules were kept whole."""
    calls = quantized.graph.find_nodes(op="call_module")
    return {"non_traceable_module_name": [str(n.target) for n in calls if "island_reason" in n.meta]}


def qconfig_dict_of(quantized: QuantizedModel, spelled: Mapping[str, Spelling]) -> dict[str, Any]:
    """A qconfig_dict that makes ``quantized`` again: every op's qconfig, by its path or place where it is not the rule.

    Args:
        quantized: The quantized model.
        spelled: How entries name its ops.
    """
    ops = [n for n in quantized.graph.nodes if "qconfig_rule" in n.meta]
    default = next((n.meta["qconfig"] for n in ops if n.meta["qconfig_rule"] == '""'), None)
    rules = _islands(quantized) | {"": default}
    for qconfig in dict.fromkeys(n.meta["qconfig"] for n in ops):
        if qconfig != default:
            same = [n for n in ops if n.meta["qconfig"] == qconfig]
            rules = merge_qconfig_dict(rules, entry_for(with_fused(same), qconfig, spelled))
    return rules


# ---------------------------------------------------------------- what to try


def _candidates(trial: _Trial) -> list[_Candidate]:
    """Changes to try, those that can take away most of the noise first; equal ones once."""
    units = [unit for unit in trial.study.units if unit.node.name in trial.records]
    found = [c for unit in units for c in _of_unit(trial, unit)]
    distinct: list[_Candidate] = []
    for candidate in sorted([*_of_whole(trial, found), *found], key=lambda c: -c.share):
        if not any(candidate.entry == other.entry for other in distinct):
            distinct.append(candidate)
    return distinct


def _of_unit(trial: _Trial, unit: Unit) -> Iterator[_Candidate]:
    record = trial.records[unit.node.name]
    findings, owner = _findings(trial, unit, record)
    what = f"`{_called(trial, record)}`"
    if findings is not None and owner is not None:
        for remedy, found in applicable(findings, _LEAST_SHARE):
            of_weights = remedy.cures == "weights"
            if of_weights and unit.node.meta["qconfig"].is_dynamic:
                continue
            helped = replace(findings, qconfig=unit.node.meta["qconfig"]) if of_weights else findings
            op = unit.node if of_weights else owner
            entry = trial.study.plan.entry([op], remedy.qconfig(helped), trial.study.spellings)
            share = findings.weights_loss if of_weights else findings.value_loss
            yield _Candidate(f"{what}: {found}; {remedy.name} {{gain}}", entry, share, record, remedy)
    share = record.gain_if_float / trial.study.int8_loss.value() if trial.study.int8_loss.value() > 0 else 0.0
    if share >= _LEAST_SHARE:
        place = _place(trial, unit)
        macs = f" at {100 * record.macs_share:.0f} % of the multiplications" if record.macs_share else ""
        yield _Candidate(f"{what}: {place} is fragile; float{macs} recovers {{gain}}", record.entry, share, record)


def _called(trial: _Trial, record: NodeSensitivity) -> str:
    """A module's path, or the name of a function's node."""
    spelling = trial.study.spellings.get(record.name)
    return record.module_path if spelling is not None and isinstance(spelling.kind, type) else record.name


def _findings(trial: _Trial, unit: Unit, record: NodeSensitivity) -> tuple[Findings | None, fx.Node | None]:
    """What is known of a unit, and the op whose qconfig holds for it."""
    readers = [r for n in unit.members for r in reading_ops(n)]
    qconfigs = [(n, n.meta.get("qconfig")) for n in (*unit.members, *readers) if op_of(n) is not None]
    owner, qconfig = next(((n, q) for n, q in qconfigs if isinstance(q, QConfig) and not q.is_dynamic), (None, None))
    noise = trial.study.int8_loss.value()
    if qconfig is None or noise <= 0:
        return None, None
    weights, value = ((loss or 0.0) / noise for loss in (record.weights_loss, record.value_loss))
    found = Findings(
        qconfig=qconfig,
        weight=_weight(trial, unit.node),
        value=_value(trial, unit),
        owned=owner in unit.members,
        weights_loss=weights,
        value_loss=value,
    )
    return found, owner


def _weight(trial: _Trial, node: fx.Node) -> Tensor | None:
    op = op_of(node)
    weight = arguments(op, node)[op.weights[0]] if op is not None and op.weights else None
    return attribute(trial.prepared, path(weight)) if isinstance(weight, fx.Node) and weight.op == "get_attr" else None


def _value(trial: _Trial, unit: Unit) -> Tensor | None:
    if not unit.values:
        return None
    named = {n.name: n for n in trial.study.simulation.graph.nodes}
    value = trial.floats.values.get(named[unit.node.name])
    return value if isinstance(value, Tensor) and value.numel() > 0 else None


def _place(trial: _Trial, unit: Unit) -> str:
    """What to call a unit: the first layer, the last, or neither."""
    layers = [u.node for u in trial.study.units if u.weights]
    if layers and unit.node is layers[0]:
        return "the first layer"
    if layers and unit.node is layers[-1]:
        return "the last layer"
    return "the input" if unit.node.op == "placeholder" else "it"


def _of_whole(trial: _Trial, single: list[_Candidate]) -> Iterator[_Candidate]:
    """The remedies that more than one node calls for, for everything that the qconfig of ``""`` holds for."""
    default = trial.qconfig_dict.get("")
    if not isinstance(default, QConfig) or default.is_dynamic:
        return
    for remedy in REMEDIES:
        mine = [c for c in single if c.remedy is remedy]
        if len(mine) > 1 and not remedy.of_one:
            found = [_findings(trial, _unit(trial, c), c.record)[0] for c in mine if c.record is not None]
            if all(f is not None and f.qconfig == default for f in found):
                assert found[0] is not None
                text = f"the whole model, for all of its {len(mine)} nodes that call for it: {remedy.name} {{gain}}"
                yield _Candidate(text, {"": remedy.qconfig(found[0])}, sum(c.share for c in mine))


def _unit(trial: _Trial, candidate: _Candidate) -> Unit:
    assert candidate.record is not None
    return next(u for u in trial.study.units if u.node.name == candidate.record.name)
