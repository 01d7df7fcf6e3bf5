"""What was decided for every node, as records and as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from torch import fx

from qfx.inline import Inline
from qfx.ir.attributes import read_qparams
from qfx.ir.boundary import APART
from qfx.ir.levels import is_opaque
from qfx.ir.nodes import decision_of
from qfx.ir.types import QParams
from qfx.ops import qdq
from qfx.ops.table import op_of


@dataclass(frozen=True)
class Record:
    """One node of the quantized model.

    Attributes:
        name: The node's name in the graph.
        op: Table op, or the opaque module or function.
        module_path: Where in the user's model (``"layer1.0.conv1"``; empty at the root).
        source: The user's source line, if known.
        decision: ``"int8"`` or ``"float"``; a dynamically quantized layer is int8, one with float16 weights float.
        reason: Why.
        qparams: Quantization parameters of the result, if it has any.
        fused: What runs inside this node: ``"clamp"``, ``"residual"``.
        recovery: What was done about the error of its rounded weights: ``"weights rounded adaptively"``, ``"bias
            corrected"``.
        apart: Why a rewrite that fits the node was not made: a stub or a FloatFunctional stands against it.
    """

    name: str
    op: str
    module_path: str
    source: str | None
    decision: str
    reason: str
    qparams: QParams | None
    fused: tuple[str, ...] = ()
    recovery: tuple[str, ...] = ()
    apart: str = ""


class Report(Inline, Sequence[Record]):
    """The records in graph order; ``str()`` is a table.

    Attributes:
        records: One a node.
        frontend: The frontend that captured the model, "" if that is not known.
        frontend_reason: Why that one, in words.
    """

    def __init__(self, records: Iterable[Record], frontend: str = "", frontend_reason: str = "") -> None:
        self.records = tuple(records)
        self.frontend, self.frontend_reason = frontend, frontend_reason

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        return self.records[index]

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def decided(self, decision: str) -> tuple[Record, ...]:
        """The records with ``decision``."""
        return tuple(r for r in self.records if r.decision == decision)

    def cells(self) -> list[tuple[str, ...]]:
        """The table: names of columns, then a row a record."""
        return [_COLUMNS, *map(_row, self.records)]

    def __str__(self) -> str:
        counts = Counter(r.decision for r in self.records)
        total = ", ".join(f"{n} {d}" for d, n in sorted(counts.items(), reverse=True))
        captured = [f"captured by {self.frontend}: {self.frontend_reason}"] if self.frontend else []
        return "\n".join([*_table(self.cells()), f"{len(self.records)} nodes: {total}", *captured])

    __repr__ = __str__


def build_report(gm: fx.GraphModule) -> Report:
    """The report of a QDQ graph."""
    nodes = [n for n in gm.graph.nodes if n.op.startswith("call_") and _is_reported(n)]
    facts = (str(gm.meta.get(key, "")) for key in ("frontend", "frontend_reason"))
    return Report((_record(gm, n) for n in nodes), *facts)


def _is_reported(node: fx.Node) -> bool:
    op = op_of(node)
    return is_opaque(node) or (op is not None and (op.qparams != "none"))


def _record(gm: fx.GraphModule, node: fx.Node) -> Record:
    op = op_of(node)
    decided = decision_of(node)
    reason = decided.reason
    if not reason:
        reason = node.meta.get("opaque_reason") or node.meta.get("island_reason") or ""
    code = next((u for u in node.users if u.target is qdq.quantize), None)
    return Record(
        name=node.name,
        op=op.name if op else str(getattr(node.target, "__name__", node.target)),
        module_path=node.meta.get("module_path") or "",
        source=node.meta.get("source"),
        decision="float" if decided.kind in ("float", "float16") else "int8",
        reason=reason,
        qparams=read_qparams(gm, code) if code is not None else None,
        fused=fused_names(node),
        recovery=node.meta.get("recovery", ()),
        apart=node.meta.get(APART, ""),
    )


def fused_names(node: fx.Node) -> tuple[str, ...]:
    """What is fused into a node: ``"residual"``, ``"clamp"``."""
    return tuple(name for name, key in (("residual", "residual"), ("clamp", "activation")) if _has(node, key))


def _has(node: fx.Node, key: str) -> bool:
    if key == "residual":
        return node.kwargs.get(key) is not None or len(node.args) > 3
    return node.kwargs.get(key) is not None


_COLUMNS = ("name", "op", "module", "decision", "scale", "zero", "reason", "source")


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


def _row(record: Record) -> tuple[str, ...]:
    scale = f"{record.qparams.scale:.4g}" if record.qparams else ""
    zero = str(record.qparams.zero_point) if record.qparams else ""
    op = "+".join((record.op, *record.fused))
    reason = "; ".join(filter(None, (record.reason, record.apart, *record.recovery)))
    return record.name, op, record.module_path, record.decision, scale, zero, reason, record.source or ""
