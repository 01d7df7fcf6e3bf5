"""``qfx.compare``: every node of a quantized model against its float model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from qfx import pipeline
from qfx.arguments import explained
from qfx.batches import Signature, split_batch
from qfx.comparison.levels import (
    Stream,
    Values,
    fake_quantized_copy,
    float_copy,
    graph_values,
    qdq_values,
    quantize_nodes,
    running_graph,
)
from qfx.comparison.measure import Deviating
from qfx.comparison.records import Comparison, NodeComparison
from qfx.errors import InputError
from qfx.frontends.accepted import require_float_model
from qfx.frontends.examples import Example
from qfx.frontends.fresh import islands_unchanged
from qfx.frontends.select import as_module, capture
from qfx.inputs import as_float32, is_foreign_array
from qfx.ir.module import bind_placeholders
from qfx.ir.types import QParams
from qfx.lowering.compile import compile_int8
from qfx.lowering.compiled import Compiled, fetch_values
from qfx.lowering.int8 import lower_to_int8
from qfx.models import PreparedModel, QuantizedModel
from qfx.ops import arithmetic
from qfx.ops.table import op_of
from qfx.passes.report import Record, fused_names
from qfx.progress import Budget, bar
from qfx.quantization.fake_quantize import FakeQuantizeBase


@dataclass(frozen=True)
class NodeValues:
    """The values of one node on one batch; each is None where a level has no such floats.

    Attributes:
        point: What is known of the node.
        real: The float model's.
        rounded: The QDQ graph's.
        ours: The runtime's, integers dequantized.
    """

    point: Record
    real: Tensor | None
    rounded: Tensor | None
    ours: Tensor | None


@explained
def compare(
    reference: nn.Module,
    model: QuantizedModel,
    data: Any,
    *,
    watch: Callable[[NodeValues], None] | None = None,
    budget: float | None = None,
    progress: bool = True,
) -> Comparison:
    """Compare every node of ``model`` with ``reference``, from float over QDQ to the runtime's integers.

    Float values are ``reference``'s with quantization off. QDQ values are those of the fake-quantized ``reference``
    where it is one, else those of ``model``'s own QDQ graph in float arithmetic. Int8 values are what the runtime
    computes. Neither model changes.

    Args:
        reference: The prepared model that ``model`` was converted from, or the float model. A node of the float
            model is compared if the quantized one has it under the same name with the same things fused into it.
        model: The quantized model.
        data: Float inputs: batches as for calibration, or one batch that is a tensor or a dict.
        watch: Called with the values of every node of every batch, as they are compared.
        budget: Seconds after which no further batch is begun; the first is always compared. ``batches`` and
            ``stopped`` of the result say what was reached.
        progress: Whether to show a bar where stderr is a terminal.

    Returns:
        One record a quantized input, op and opaque part of ``model``, in graph order.

    Raises:
        InputError: ``reference`` or ``model`` is something else, they have no node in common, or there is no data.
        CalibrationError: A batch does not fit the model's inputs.
    """
    if not isinstance(model, QuantizedModel):
        raise InputError(
            f"compare takes a quantized model, not {type(model).__name__}.",
            remedy="Call qfx.compare(reference, model, data) with what convert_fx or quantize_fx returned as model.",
        )
    points = _points(model)
    compared, sums, count, stopped, seconds = None, {p.name: _Sums() for p in points}, 0, False, Budget(budget)
    for index, batch in enumerate(bar(as_batches(data), "comparing", "batch", shown=progress)):
        stopped = index > 0 and seconds.is_spent
        if stopped:
            break
        args, kwargs = split_batch(Signature.of_graph(model.graph, model.info.get("example_inputs")), batch, index)
        inputs = tuple(map(as_float32, bind_placeholders(model.graph, args, kwargs)))
        compared = compared or _Compared.of(reference, model, points, inputs)
        compared.add(inputs, sums, watch)
        count += 1
    if compared is None:
        raise InputError("There is no data to compare on.", remedy="Pass a batch, or a list of batches.")
    return Comparison((_record(p, sums[p.name]) for p in points), batches=count, stopped=stopped)


def as_batches(data: Any) -> Iterable[Any]:
    """``data`` as batches; one batch may be a tensor or a dict.

    Raises:
        InputError: It is something else.
    """
    if isinstance(data, (Tensor, Mapping)):
        return (data,)
    if not isinstance(data, Iterable) or is_foreign_array(data):
        raise InputError(
            f"The data is {type(data).__name__}, not batches.",
            remedy="Pass a tensor, a dict of inputs by name, or a list of batches.",
        )
    return data


def _points(model: QuantizedModel) -> list[Record]:
    """What is compared: quantized inputs, and the nodes of the report, with their qparams."""
    report = model.report
    of_name = {r.name: r for r in report}
    made = quantize_nodes(model)
    points = []
    for node in model.graph.nodes:
        if node.name in of_name:
            points.append(of_name[node.name])
        elif node.op == "placeholder" and node.name in made:
            code = next(n for n in model.graph.nodes if n.name == made[node.name])
            qparams: QParams = code.meta["qparams"]
            points.append(Record(node.name, "input", "", node.meta.get("source"), "int8", "", qparams))
    return points


@dataclass
class _Sums:
    """What is known of one point so far."""

    quantization: Deviating = field(default_factory=Deviating)
    lowering: Deviating = field(default_factory=Deviating)
    total: Deviating = field(default_factory=Deviating)
    quanta: int | None = None
    local_quanta: int | None = None


@dataclass(frozen=True)
class _Compared:
    """The levels of one comparison, ready to run.

    Attributes:
        float_root: Where the float graph's parameters are.
        float_graph: The float graph.
        rounded: The fake-quantized model, or None where the quantized model's QDQ graph stands for it.
        model: The quantized model.
        whole: The quantized model compiled with no tables fused, so that it holds every value.
        points: What is compared.
        matched: Names of the points that the float graph has.
    """

    float_root: nn.Module
    float_graph: fx.Graph
    rounded: PreparedModel | None
    model: QuantizedModel
    whole: Compiled
    points: list[Record]
    matched: frozenset[str]

    @classmethod
    def of(cls, reference: object, model: QuantizedModel, points: list[Record], inputs: tuple[Any, ...]) -> _Compared:
        rounded: PreparedModel | None = None
        root: Any
        if isinstance(reference, PreparedModel):
            root = float_copy(reference)
            graph = root.running_graph()
            matched = frozenset(p.name for p in points) & {n.name for n in graph.nodes}
            if any(isinstance(m, FakeQuantizeBase) for m in reference.modules()):
                rounded = fake_quantized_copy(reference)
        else:
            module = as_module(reference)
            require_float_model(module)
            gm = _float_graph(module, model, inputs)
            root, graph, matched = gm, gm.graph, _matched(points, gm.graph)
        if not any(p.name in matched for p in points if p.op != "input"):
            raise InputError(
                "The reference and the quantized model have no node in common.",
                why="Nodes are matched by name, op and what is fused into them.",
                remedy="Pass the float model that was quantized, or the prepared model that was converted.",
            )
        model._inputs(as_arriving(model, inputs), {})  # learns the shapes if the model does not know them
        whole = compile_int8(lower_to_int8(model.shared_graph_module()), model.isa)
        return cls(root, graph, rounded, model, whole, points, matched)

    def add(
        self, inputs: tuple[Any, ...], sums: dict[str, _Sums], watch: Callable[[NodeValues], None] | None = None
    ) -> None:
        """Compare one batch."""
        runtime = self._runtime(inputs)
        names = [p.name for p in self.points]
        graph = running_graph(self.rounded) if self.rounded is not None else self.model.graph
        present = {n.name for n in graph.nodes}
        floats = Stream(graph_values(self.float_root, self.float_graph, inputs), names, self.matched)
        rounded = Stream(self._rounded(inputs), names, present)
        local = Stream(self._rounded(inputs, runtime), names, present)
        for point in self.points:
            taken = (stream.take(point.name) for stream in (floats, rounded, local))
            real, fake, alone, ours = map(_real, (*taken, runtime.get(point.name)))
            _compare(point, sums[point.name], real, fake, alone, ours)
            if watch is not None:
                watch(NodeValues(point, real, fake, ours))

    def _rounded(self, inputs: tuple[Any, ...], put: dict[str, Tensor] | None = None) -> Values:
        if self.rounded is not None:
            return graph_values(self.rounded, self.rounded.running_graph(), inputs, put)
        return qdq_values(self.model, as_arriving(self.model, inputs), put)

    def _runtime(self, inputs: tuple[Any, ...]) -> dict[str, Tensor]:
        """The runtime's value of every point, integers dequantized. What the fused program holds comes from there."""
        codes = as_arriving(self.model, inputs)
        given = self.model._inputs(codes, {})
        with islands_unchanged(self.model, self.model.graph):
            try:
                fused = fetch_values(self.model.compiled, given)
            except InputError:
                self.model(*codes)  # tells where, and what to do
                raise
        with islands_unchanged(self.model, self.model.graph):
            whole = fetch_values(self.whole, given)
        integers, floats = whole.codes | fused.codes, whole.floats | fused.floats
        made = quantize_nodes(self.model)
        values: dict[str, Tensor] = {}
        for point in self.points:
            if point.qparams is None:
                values.update({point.name: floats[point.name]} if point.name in floats else {})
            elif made[point.name] in integers:
                values[point.name] = arithmetic.dequantize(integers[made[point.name]], *_tensors(point.qparams))
        return values


def as_arriving(model: QuantizedModel, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """``inputs`` as the quantized model takes them: integers where its qconfig_dict says that they arrive so."""

    def arriving(node: fx.Node, value: Any) -> Any:
        qparams: QParams | None = node.meta.get("arrives_as")
        if qparams is None or not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        codes = arithmetic.quantize(value, *_tensors(qparams), qparams.qmin, qparams.qmax)
        return codes.to(qparams.dtype.storage)

    placeholders: Iterator[fx.Node] = iter(model.graph.find_nodes(op="placeholder"))
    return tuple(arriving(node, value) for node, value in zip(placeholders, inputs, strict=True))


def _float_graph(reference: nn.Module, model: QuantizedModel, inputs: tuple[Any, ...]) -> fx.GraphModule:
    """The float model's graph as it was when the quantized model's observers were put into it."""
    placeholders = model.graph.find_nodes(op="placeholder")
    opaque = [str(n.target) for n in model.graph.find_nodes(op="call_module")]
    names = [str(n.target) for n in placeholders]
    named = dict(zip(names, inputs, strict=True))
    captured = capture(
        reference,
        frontend=model.info.get("frontend", "auto"),
        example=((), named),
        non_traceable_module_name=opaque,
        inputs=names,
    ).float()
    gm = pipeline.run(pipeline.NORMALIZE, captured, Example(kwargs=named))
    _assign_qconfigs(gm.graph, model.graph)
    return pipeline.run(pipeline.FUSE, gm)


def _assign_qconfigs(graph: fx.Graph, quantized: fx.Graph) -> None:
    """Give nodes the qconfigs they had, because rules fuse what is configured alike; what was fused, its producer's."""
    known = {n.name: n for n in quantized.nodes}
    order = {n: i for i, n in enumerate(graph.nodes)}
    for node in graph.nodes:
        producers = [n for n in node.all_input_nodes if "qconfig" in n.meta]
        source = known.get(node.name) or max(producers, key=order.__getitem__, default=None)
        if source is not None:
            node.meta.update({k: source.meta[k] for k in ("qconfig", "qconfig_rule") if k in source.meta})


def _matched(points: list[Record], graph: fx.Graph) -> frozenset[str]:
    nodes = {n.name: n for n in graph.nodes}
    return frozenset(p.name for p in points if p.name in nodes and _is_same(p, nodes[p.name]))


def _is_same(point: Record, node: fx.Node) -> bool:
    op = op_of(node)
    if op is None:
        return node.op == "placeholder" or str(getattr(node.target, "__name__", node.target)) == point.op
    return (op.name, fused_names(node)) == (point.op, point.fused)


def _real(value: Any) -> Tensor | None:
    return value if isinstance(value, Tensor) and value.is_floating_point() else None


def _compare(
    point: Record, sums: _Sums, real: Tensor | None, rounded: Tensor | None, local: Tensor | None, ours: Tensor | None
) -> None:
    """Add one batch's values of ``point`` at every level."""
    for sum_, before, after in (
        (sums.quantization, real, rounded),
        (sums.lowering, rounded, ours),
        (sums.total, real, ours),
    ):
        if before is not None and after is not None:
            sum_.add(before, after)
    if point.qparams is not None and ours is not None:
        sums.quanta = _farther(sums.quanta, point.qparams, rounded, ours)
        sums.local_quanta = _farther(sums.local_quanta, point.qparams, local, ours)


def _farther(before: int | None, qparams: QParams, rounded: Tensor | None, ours: Tensor) -> int | None:
    if rounded is None or ours.numel() == 0:
        return before
    steps = [arithmetic.quantize(v, *_tensors(qparams), qparams.qmin, qparams.qmax) for v in (rounded, ours)]
    return max(before or 0, int((steps[0] - steps[1]).abs().max()))


def _tensors(qparams: QParams) -> tuple[Tensor, Tensor]:
    scale, zero_point = qparams.per_tensor()
    return torch.tensor(scale, dtype=torch.float32), torch.tensor(zero_point)


def _record(point: Record, sums: _Sums) -> NodeComparison:
    return NodeComparison(
        name=point.name,
        op="+".join((point.op, *point.fused)),
        module_path=point.module_path,
        source=point.source,
        decision=point.decision,
        qparams=point.qparams,
        quantization=sums.quantization.deviation(),
        lowering=sums.lowering.deviation(),
        total=sums.total.deviation(),
        quanta=sums.quanta,
        local_quanta=sums.local_quanta,
    )
