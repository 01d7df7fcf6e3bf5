"""Everything that a report's page says of each node, as plain values for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qfx.comparison.records import Comparison, Deviation, NodeComparison
from qfx.comparison.statistics import ChannelRanges, Distribution, Histogram
from qfx.models import QuantizedModel
from qfx.runtime import Explanation, StepRecord
from qfx.viz import palette
from qfx.viz.scene import Box, Scene

_LINES = 512
"""Channels that a plot shows one by one; of more, several share a line."""


@dataclass(frozen=True)
class Measured:
    """What is known of a model besides its graph.

    Attributes:
        comparison: By node, against the float model.
        distributions: By node name.
        weights: By node name.
        steps: Kernel calls by the node that each belongs to, timed or not.
    """

    comparison: Comparison | None = None
    distributions: Mapping[str, Distribution] = field(default_factory=dict)
    weights: Mapping[str, ChannelRanges] = field(default_factory=dict)
    steps: Mapping[str, Sequence[StepRecord]] = field(default_factory=dict)

    @property
    def microseconds(self) -> float:
        """Of all steps together."""
        return sum(step.microseconds or 0.0 for steps in self.steps.values() for step in steps)


def steps_by_node(model: QuantizedModel, parts: Sequence[Explanation | tuple[str, ...]]) -> dict[str, list[StepRecord]]:
    """The kernel calls of plans by the name of the Int8 node that each belongs to, or begins with.

    Args:
        model: The model that the plans are of.
        parts: The plans, one a segment, as ``explain()`` and ``profile()`` give them.
    """
    found: dict[str, list[StepRecord]] = {}
    for part, plan in zip(model.compiled.segments, parts, strict=True):
        for record in plan.steps if isinstance(plan, Explanation) else ():
            first = record.names[0]
            node = part.steps.get(first)
            found.setdefault(node.name if node is not None else first, []).append(record)
    return found


def node_facts(scene: Scene, measured: Measured) -> list[dict[str, Any]]:
    """One record a box, in graph order."""
    compared = {record.name: record for record in measured.comparison or ()}
    reads: dict[str, list[str]] = {}
    read_by: dict[str, list[str]] = {}
    for arrow in scene.arrows:
        reads.setdefault(arrow.target, []).append(arrow.source)
        read_by.setdefault(arrow.source, []).append(arrow.target)
    total = measured.microseconds
    return [
        {
            **_box(box),
            **_error(compared.get(box.name)),
            **_time(measured.steps.get(box.name, ()), total),
            **_values(measured.distributions.get(box.name)),
            "weights": _weights(measured.weights.get(box.name)),
            "inputs": list(dict.fromkeys(reads.get(box.name, ()))),
            "outputs": list(dict.fromkeys(read_by.get(box.name, ()))),
        }
        for box in scene.boxes
    ]


def kinds() -> dict[str, dict[str, Any]]:
    """The looks of every kind of box."""
    return {
        name: {"text": kind.text, "fill": kind.fill, "line": kind.line, "dashed": "dashed" in kind.style}
        for name, kind in palette.KINDS.items()
    }


def number(value: float | None, digits: int = 6) -> float | str | None:
    """A number as JSON can hold it: infinite ones as words, what is not a number as None."""
    if value is None or math.isnan(value):
        return None
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return int(value) if value == int(value) and abs(value) < 1e15 else float(f"{value:.{digits}g}")


def _box(box: Box) -> dict[str, Any]:
    qparams = box.value.qparams
    facts: dict[str, Any] = {
        "name": box.name,
        "title": box.title,
        "kind": box.kind,
        "module": box.module_path,
        "group": list(box.group),
        "source": box.source,
        "reason": box.reason,
        "notes": list(box.notes),
        "dtype": box.value.dtype,
        "shape": box.value.size,
        "fused": list(box.fused),
        "rules": [[rule, list(names)] for rule, names in box.rules],
    }
    if qparams is not None and not isinstance(qparams.scale, tuple) and not isinstance(qparams.zero_point, tuple):
        scale, zero = qparams.scale, qparams.zero_point
        reach = [(bound - zero) * scale for bound in (qparams.qmin, qparams.qmax)]
        facts |= {"scale": number(scale), "zero": zero, "range": [number(bound) for bound in reach]}
    return facts


def _error(record: NodeComparison | None) -> dict[str, Any]:
    if record is None:
        return {}
    best = record.total or Deviation(math.nan, math.nan, math.nan)
    return {
        "sqnr": number(best.sqnr),
        "cosine": number(best.cosine, 9),
        "maxError": number(best.max_error),
        "sqnrQuantization": number(record.quantization.sqnr) if record.quantization else None,
        "sqnrLowering": number(record.lowering.sqnr) if record.lowering else None,
    }


def _time(steps: Sequence[StepRecord], total: float) -> dict[str, Any]:
    if not steps:
        return {}
    facts: dict[str, Any] = {"kernels": [step.kernel for step in steps]}
    spent = sum(step.microseconds or 0.0 for step in steps)
    if total:
        facts |= {"us": number(spent, 4), "share": number(spent / total, 4)}
    return facts


def _values(found: Distribution | None) -> dict[str, Any]:
    if found is None:
        return {}
    return {"real": _histogram(found.real), "ours": _histogram(found.ours), "clipped": number(found.clipped, 4)}


def _histogram(found: Histogram | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "low": number(found.low),
        "high": number(found.high),
        "counts": list(found.counts),
        "below": found.below,
        "above": found.above,
        "min": number(found.minimum, 4),
        "max": number(found.maximum, 4),
    }


def _weights(found: ChannelRanges | None) -> dict[str, Any] | None:
    if found is None:
        return None
    step = -(-len(found.minimum) // _LINES)
    return {
        "count": len(found.minimum),
        "step": step,
        "min": [number(min(found.minimum[i : i + step]), 4) for i in range(0, len(found.minimum), step)],
        "max": [number(max(found.maximum[i : i + step]), 4) for i in range(0, len(found.maximum), step)],
        "spread": number(spread(found), 4),
    }


def spread(found: ChannelRanges) -> float | None:
    """How much wider the widest channel is than the narrowest that is not all zeros, in dB."""
    widths = [max(-low, high) for low, high in zip(found.minimum, found.maximum, strict=True)]
    wide = [width for width in widths if width > 0]
    return 20 * math.log10(max(wide) / min(wide)) if wide else None
