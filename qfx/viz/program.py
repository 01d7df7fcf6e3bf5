"""The programs of a quantized model as a scene: kernel calls, and the nodes that torch runs between programs."""

from __future__ import annotations

from dataclasses import replace

from torch import fx

from qfx.lowering.compiled import CompiledSegment
from qfx.models import QuantizedModel
from qfx.runtime import Explanation, StepRecord
from qfx.viz.scene import Arrow, Scene

_COPIES = ("copy_input", "copy_output", "prepare")


def read_program(model: QuantizedModel, int8: Scene) -> Scene:
    """The scene of what the runtime runs: one box a step. What is a view of its input is no box.

    Args:
        model: The model.
        int8: Its Int8 level, whose boxes the steps are called after.
    """
    compiled = model.compiled
    drawn = _Drawn(int8, [n.name for n in compiled.graph.find_nodes(op="placeholder")])
    for index, (part, plan) in enumerate(zip(compiled.segments, model.explain().parts, strict=True)):
        records = _records(part, plan) if isinstance(plan, Explanation) else {}
        group = f"program {index}" if isinstance(plan, Explanation) else f"in torch {index}"
        for node in part.segment.nodes:
            if isinstance(plan, tuple) or node.name in records:
                drawn.add(node, records.get(node.name, []), group)
            else:
                drawn.pass_through(node)
    return drawn.scene(compiled.graph.output_node().name)


def _records(part: CompiledSegment, plan: Explanation) -> dict[str, list[StepRecord]]:
    """The records of a plan by the Int8 node that each belongs to; copies at the border belong to their value."""
    found: dict[str, list[StepRecord]] = {}
    for record in plan.steps:
        node = part.steps.get(record.name)
        found.setdefault(node.name if node is not None else record.name, []).append(record)
    return found


class _Drawn:
    """A scene of programs in the making."""

    def __init__(self, int8: Scene, inputs: list[str]) -> None:
        self.int8 = int8
        self.boxes = [replace(int8.by_name[name], group=()) for name in inputs if name in int8.by_name]
        self.at = {box.name: box.name for box in self.boxes}  # Int8 node -> the box that holds its value
        self.arrows: dict[Arrow, None] = {}

    def add(self, node: fx.Node, records: list[StepRecord], group: str) -> None:
        box = self.int8.by_name.get(node.name)
        if box is None:
            return
        notes = (*(" + ".join(r.kernels) or r.kernel for r in records[-1:]), *map(_note, records))
        self.boxes.append(replace(box, notes=(*notes, *box.notes), group=(group,), says_notes=bool(notes)))
        self.at[node.name] = node.name
        self._read(node.name)

    def pass_through(self, node: fx.Node) -> None:
        source = next((n.name for n in node.all_input_nodes if n.name in self.at), None)
        if source is not None:
            self.at[node.name] = self.at[source]

    def _read(self, name: str) -> None:
        for arrow in self.int8.into.get(name, ()):
            if arrow.source in self.at:
                self.arrows[replace(arrow, source=self.at[arrow.source])] = None

    def scene(self, output: str) -> Scene:
        if output in self.int8.by_name:
            self.boxes.append(replace(self.int8.by_name[output], group=()))
            self._read(output)
        return Scene("program", tuple(self.boxes), tuple(self.arrows))


def _note(record: StepRecord) -> str:
    prefix = f"{record.op.replace('_', ' ')}: " if record.op in _COPIES else ""
    threads = f", {record.threads} threads" if record.threads > 1 else ""
    slices = f", {record.slices} slices" if record.slices > 1 else ""
    return f"{prefix}{record.kernel}{threads}{slices}"
