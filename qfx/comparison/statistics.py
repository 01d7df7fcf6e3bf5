"""How values of every node are distributed at the float and the int8 level, and what range each weight channel has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from qfx.batches import Signature, split_batch
from qfx.comparison.compare import NodeValues, as_arriving, as_batches, compare
from qfx.comparison.records import Comparison
from qfx.frontends.fresh import islands_unchanged
from qfx.inputs import as_float32
from qfx.ir.module import bind_placeholders
from qfx.ir.types import QArray, QParams
from qfx.lowering.compiled import fetch_values
from qfx.models import QuantizedModel
from qfx.ops import arithmetic

INSIDE = 64
"""Bins over the range that the integers reach; a divisor of 256, so that each holds equally many of them."""
OUTSIDE = 8
"""Bins of the same width on either side of it."""


@dataclass(frozen=True)
class Histogram:
    """Counts of values in bins of one width.

    Attributes:
        low: Where the first bin begins.
        high: Where the last bin ends.
        counts: A number a bin.
        below: How many values lie under ``low``.
        above: How many lie over ``high``.
        minimum: The least value.
        maximum: The greatest value.
    """

    low: float
    high: float
    counts: tuple[int, ...]
    below: int
    above: int
    minimum: float
    maximum: float

    @property
    def total(self) -> int:
        """How many values were counted."""
        return sum(self.counts) + self.below + self.above


@dataclass(frozen=True)
class Distribution:
    """The values of one node.

    Attributes:
        real: Of the float model; None where it was not given or has no such node.
        ours: Of the runtime, integers dequantized; None for a value without floats.
        clipped: Share of the float model's values that the integers don't reach; None without qparams or ``real``.
    """

    real: Histogram | None
    ours: Histogram | None
    clipped: float | None


@dataclass(frozen=True)
class ChannelRanges:
    """The range of each channel of a weight.

    Attributes:
        minimum: The least value of each channel, in real units.
        maximum: The greatest.
        scales: The channels' scales; one if they share it.
        axis: The channel dimension.
    """

    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    scales: tuple[float, ...]
    axis: int


@dataclass
class Counting:
    """A histogram in the making."""

    low: float
    high: float
    counts: Tensor
    below: int = 0
    above: int = 0
    minimum: float = float("inf")
    maximum: float = float("-inf")

    @classmethod
    def over(cls, qparams: QParams | None, values: Tensor) -> Counting:
        """Bins over what ``qparams`` reach and some on either side; without any, over ``values``."""
        if qparams is not None:
            scale, zero = qparams.per_tensor()
            low, width = (qparams.qmin - zero - 0.5) * scale, (qparams.qmax - qparams.qmin + 1) * scale
        else:
            low, high = map(float, torch.aminmax(values))
            width = (high - low) or 1.0
        margin = width * OUTSIDE / INSIDE
        return cls(low - margin, low + width + margin, torch.zeros(INSIDE + 2 * OUTSIDE, dtype=torch.int64))

    def add(self, values: Tensor) -> None:
        self.below += int((values < self.low).sum())
        self.above += int((values > self.high).sum())
        self.counts += torch.histc(values, len(self.counts), self.low, self.high).long()
        low, high = torch.aminmax(values)
        self.minimum, self.maximum = min(self.minimum, float(low)), max(self.maximum, float(high))

    def histogram(self) -> Histogram:
        counts = tuple(map(int, self.counts.tolist()))
        return Histogram(self.low, self.high, counts, self.below, self.above, self.minimum, self.maximum)


@dataclass
class _Node:
    real: Counting | None = None
    ours: Counting | None = None
    reached: int = 0
    seen: int = 0


@dataclass
class Statistics:
    """Distributions of every node, batch by batch: what :func:`qfx.compare` calls with the values it compares."""

    nodes: dict[str, _Node] = field(default_factory=dict)

    def __call__(self, values: NodeValues) -> None:
        """Add one batch's values of one node. Values that are not finite are left out."""
        node = self.nodes.setdefault(values.point.name, _Node())
        qparams = values.point.qparams
        node.real = _added(node.real, qparams, values.real)
        node.ours = _added(node.ours, qparams, values.ours)
        if qparams is not None and values.real is not None:
            scale, zero = qparams.per_tensor()
            codes = values.real / scale + zero
            node.seen += codes.numel()
            node.reached += int(((codes >= qparams.qmin - 0.5) & (codes <= qparams.qmax + 0.5)).sum())

    def distributions(self) -> dict[str, Distribution]:
        """By node name."""
        return {name: _distribution(node) for name, node in self.nodes.items()}


def _added(counting: Counting | None, qparams: QParams | None, values: Tensor | None) -> Counting | None:
    if values is None:
        return counting
    finite = values.detach().float().flatten()
    finite = finite[torch.isfinite(finite)]
    if finite.numel() == 0:
        return counting
    counting = counting or Counting.over(qparams, finite)
    counting.add(finite)
    return counting


def _distribution(node: _Node) -> Distribution:
    clipped = 1.0 - node.reached / node.seen if node.seen else None
    return Distribution(
        node.real.histogram() if node.real else None, node.ours.histogram() if node.ours else None, clipped
    )


def measure(
    model: QuantizedModel, data: Any, reference: nn.Module | None = None
) -> tuple[Comparison | None, dict[str, Distribution]]:
    """Compare with ``reference`` and collect distributions, in one run over ``data``.

    Args:
        model: The quantized model.
        data: As of :func:`qfx.compare`.
        reference: As of :func:`qfx.compare`; without one there is no comparison, and distributions are of integers.

    Raises:
        InputError: As :func:`qfx.compare`.
    """
    statistics = Statistics()
    if reference is not None:
        compared = compare(reference, model, data, watch=statistics)
        return compared, statistics.distributions()
    points = {record.name: record for record in model.report if record.qparams is not None}
    for index, batch in enumerate(as_batches(data)):
        args, kwargs = split_batch(Signature.of_graph(model.graph, model.info.get("example_inputs")), batch, index)
        inputs = as_arriving(model, tuple(map(as_float32, bind_placeholders(model.graph, args, kwargs))))
        with islands_unchanged(model, model.graph):
            fetched = fetch_values(model.compiled, model._inputs(inputs, {}))
        for name, codes in _named(model, fetched.codes).items():
            if name in points:
                qparams = points[name].qparams
                assert qparams is not None
                scale, zero = qparams.per_tensor()
                real = arithmetic.dequantize(codes, torch.tensor(scale), torch.tensor(zero))
                statistics(NodeValues(points[name], None, None, real))
    return None, statistics.distributions()


def _named(model: QuantizedModel, codes: dict[str, Tensor]) -> dict[str, Tensor]:
    """Values by the node that makes them instead of the quantize node behind it."""
    makers = {n.name: n.args[0].name for n in model.graph.nodes if n.name in codes}
    return {makers[name]: value for name, value in codes.items() if name in makers}


def channel_ranges(model: QuantizedModel) -> dict[str, ChannelRanges]:
    """The ranges of every integer weight, by the name of the node that multiplies with it."""
    found = {}
    for node in model.compiled.graph.nodes:
        weight = node.meta.get("weights", {}).get("weight")
        if weight is not None and isinstance(weight.array, QArray) and weight.array.values.dim() > 1:
            found[node.name] = _ranges(weight.array)
    return found


def _ranges(array: QArray) -> ChannelRanges:
    axis = array.axis or 0
    codes = array.values.movedim(axis, 0).flatten(1).to(torch.int32)
    scale, zero = (t.detach().double().flatten() for t in (array.scale, array.zero_point))
    low, high = (((bound.double() - zero) * scale).tolist() for bound in (codes.amin(1), codes.amax(1)))
    return ChannelRanges(tuple(low), tuple(high), tuple(scale.tolist()), axis)
