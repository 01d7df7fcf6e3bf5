"""What is ranked: an op with the rounding of its weights and of its value, or a group of values with one range."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import fx

from qfx.advice.entries import Entry, entry_for, with_fused
from qfx.advice.simulation import Part, Parts, Simulation, reading_ops
from qfx.ir.nodes import decision_of, operand, outputs
from qfx.models import PreparedModel
from qfx.ops.table import op_of
from qfx.passes.annotate import annotate
from qfx.passes.insert import GROUP, observer_calls
from qfx.passes.resolve import Spelling
from qfx.quantization.qconfig import QConfig


@dataclass(frozen=True)
class Unit:
    """One thing to rank.

    Attributes:
        node: The node of the Normal graph that it is called after.
        members: Every node that it is made of.
        weights: Its switches that round weights.
        values: Its switches that round values.
    """

    node: fx.Node
    members: tuple[fx.Node, ...]
    weights: Parts
    values: Parts

    @property
    def parts(self) -> Parts:
        return self.weights | self.values


class Plan:
    """A prepared model's graph without its observers: what is rounded, as the ops' qconfigs say.

    Args:
        prepared: The prepared model.
        simulation: Of this model.
    """

    def __init__(self, prepared: PreparedModel, simulation: Simulation) -> None:
        self.gm = prepared.graph_module()
        for call in list(observer_calls(self.gm.graph)):
            call.replace_all_uses_with(operand(call))
            self.gm.graph.erase_node(call)
        self.nodes = {n.name: n for n in self.gm.graph.nodes}
        self._ordered, self.parts = simulation.parts, frozenset(simulation.parts)
        placeholders, self._returned = self.gm.graph.find_nodes(op="placeholder"), outputs(self.gm.graph)
        self._leaving = tuple(prepared.info.get("output_quantized_idxs", ()))
        self._border = {placeholders[i].name for i in prepared.info.get("input_quantized_idxs", ())}
        self._border |= {self._returned[i].name for i in self._leaving}
        self._without: dict[frozenset[str], Parts] = {}

    def units(self) -> list[Unit]:
        """In graph order. A value whose range several layers share is a unit of its own, beside those layers."""
        groups: dict[str, list[fx.Node]] = {}
        for part in self._ordered:
            if part.kind == "value":
                groups.setdefault(self.nodes[part.node].meta[GROUP], []).append(self.nodes[part.node])
        layers = {self.nodes[p.node]: p for p in self._ordered if p.kind == "weights"}
        units = []
        for members in groups.values():
            inside = [n for n in members if n in layers]
            weights = frozenset({layers.pop(inside[0])}) if len(inside) == 1 else frozenset[Part]()
            named = inside[0] if weights else members[-1]
            units.append(Unit(named, tuple(members), weights, frozenset(Part("value", n.name) for n in members)))
        units += [Unit(node, (node,), frozenset({part}), frozenset()) for node, part in layers.items()]
        order = {n: i for i, n in enumerate(self.gm.graph.nodes)}
        return sorted(units, key=lambda unit: order[unit.node])

    def without(self, ops: Collection[fx.Node]) -> Parts:
        """The switches that stay on if ``ops`` get no qconfig; what arrives or leaves as integers is rounded anyway."""
        key = frozenset(n.name for n in ops)
        if key not in self._without:
            self._without[key] = self._found_without(ops)
        return self._without[key]

    def _found_without(self, ops: Collection[fx.Node]) -> Parts:
        kept = {n: n.meta.get("qconfig") for n in ops}
        for node in kept:
            node.meta["qconfig"] = None
        try:
            leaving = [i for i in self._leaving if self._returned[i] not in kept]  # the others are at the border anyway
            found = annotate(self.gm, quantized_outputs=leaving)
        finally:
            for node, qconfig in kept.items():
                node.meta["qconfig"] = qconfig
        coded = self._border | {n.name for group in found.groups for n in group.members}
        rounded = {n.name for n, decision in found.decisions.items() if decision.kind != "float"}
        return frozenset(p for p in self.parts if p.node in (coded if p.kind == "value" else rounded))

    def ops_of(self, unit: Unit, *, with_readers: bool) -> list[fx.Node]:
        """The ops that must have no qconfig so that a unit stays float.

        Args:
            unit: The unit.
            with_readers: Whether its value is to stay float where an int8 op reads it, and so that op with it.
        """
        ops = [n for n in unit.members if op_of(n) is not None]
        if with_readers:
            ops += [r for n in unit.members for r in reading_ops(n) if decision_of(r).kind == "int8"]
        return list(dict.fromkeys(ops))

    def entry(self, ops: Collection[fx.Node], qconfig: QConfig | None, spellings: Mapping[str, Spelling]) -> Entry:
        """The entry that gives ``qconfig`` to ``ops`` and what is fused into them."""
        return entry_for(with_fused(ops), qconfig, spellings)


def macs_of(node: fx.Node, value: Callable[[fx.Node], Any]) -> int:
    """Multiplications of a layer or a matrix product: elements of its result times products in each; else 0."""
    op = op_of(node)
    if op is not None and op.sums == "operands":
        return int(value(node).numel() * value(node.args[0]).shape[-1])  # type: ignore[arg-type]
    if op is None or op.sums is None:
        return 0
    weight = value(node.args[1])  # type: ignore[arg-type]
    return int(value(node).numel() * weight[0].numel())
