"""What was decided for every node, as records and as a table."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

from torch import fx

from qfx.arguments import explained
from qfx.columns import table, terminal_width
from qfx.errors import QfxError
from qfx.frontends.constants import join
from qfx.inline import Inline
from qfx.ir.attributes import read_qparams
from qfx.ir.boundary import APART
from qfx.ir.levels import is_opaque
from qfx.ir.nodes import decision_of
from qfx.ir.types import QParams
from qfx.ops import qdq
from qfx.ops.calls import arguments
from qfx.ops.table import op_of
from qfx.passes.islands import INSIDE
from qfx.passes.wide import COMPUTES, PART_OF


@dataclass(frozen=True)
class Record:
    """One node of the quantized model, or one layer of a float island.

    Attributes:
        name: The node's name in the graph; for a layer of an island, that and the layer's path in it.
        op: Table op, or the opaque module or function.
        module_path: Where in the user's model (``"layer1.0.conv1"``; empty at the root).
        source: The user's source line, if known.
        decision: ``"int8"`` or ``"float"``; a dynamically quantized layer is int8, one whose weights
            alone are in fewer bits float.
        reason: Why.
        qparams: Quantization parameters of the result, if it has any.
        fused: What runs inside this node: ``"clamp"``, ``"residual"``.
        recovery: What was done about errors of rounding: ``"weights rounded adaptively"``, ``"bias corrected"``; a
            range of its own where a fixed or shared one would have left it few integers.
        apart: Why a rewrite that fits the node was not made: a stub or a FloatFunctional stands against it.
        is_layer: Whether it has weights: a layer of the model, also one inside of a part that torch runs.
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
    is_layer: bool = False

    @property
    def reasons(self) -> tuple[str, ...]:
        """Everything that is told of the decision: why, why not otherwise, what else was done."""
        return tuple(filter(None, (self.reason, self.apart, *self.recovery)))

    def to_dict(self) -> dict[str, Any]:
        """The record as values that JSON can hold; of ``qparams`` scale, zero point, dtype and bounds, or None."""
        q = self.qparams
        made = None if q is None else (q.scale, q.zero_point, q.dtype.name, q.qmin, q.qmax)
        facts = {name: getattr(self, name) for name in _FACTS} | dict(zip(_GRID, made or [None] * 5, strict=True))
        return {name: list(fact) if isinstance(fact, tuple) else fact for name, fact in facts.items()}


_FACTS = ("name", "op", "module_path", "source", "decision", "reason", "fused", "recovery", "apart", "is_layer")
_GRID = ("scale", "zero_point", "dtype", "qmin", "qmax")


class Report(Inline, Sequence[Record]):
    """The records in graph order; ``str()`` is a summary and a table that fits the terminal.

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

    @explained
    def decided(self, decision: str) -> tuple[Record, ...]:
        """The records with ``decision``."""
        return tuple(r for r in self.records if r.decision == decision)

    def layers(self) -> tuple[Record, ...]:
        """The records of layers: what has weights."""
        return tuple(r for r in self.records if r.is_layer)

    def cells(self) -> list[tuple[str, ...]]:
        """The table with every reason in words: names of columns, then a row a record."""
        return [_COLUMNS, *(_row(record, "; ".join(record.reasons)) for record in self.records)]

    def summary(self) -> list[str]:
        """Lines that count the nodes by decision and op, and tell the frontend."""
        lines = [f"{len(self.records)} nodes: {_counted(Counter(r.decision for r in self.records)) or 'none'}"]
        for decision in sorted({r.decision for r in self.records}, reverse=True):
            lines.append(f"{decision}: {_counted(Counter(r.op for r in self.decided(decision)))}")
        if self.frontend:
            lines.append(f"captured by {self.frontend}: {self.frontend_reason}")
        return lines

    @explained
    def text(self, width: int | None = None) -> str:
        """The summary, a row a node with the numbers of its reasons, and the reasons, each once.

        Args:
            width: The most characters of a line, for which names, modules and source lines lose their middle; None
                leaves all of them whole.
        """
        numbers = {reason: str(i) for i, reason in enumerate(self.reasons(), 1)}
        rows = [_row(record, ",".join(numbers[reason] for reason in record.reasons)) for record in self.records]
        wrapped = (line for line in self.summary() for line in _wrapped(line, "", width))
        reasons = (line for reason, number in numbers.items() for line in _wrapped(reason, f"{number:>3}  ", width))
        shown = table([_COLUMNS, *rows], width=width, elastic=_ELASTIC)
        return "\n".join([*wrapped, "", *shown, *(["", "why:", *reasons] if numbers else [])])

    def reasons(self) -> dict[str, int]:
        """How many nodes have each reason, in the order in which they are met."""
        return dict(Counter(reason for record in self.records for reason in record.reasons))

    def to_dict(self) -> dict[str, Any]:
        """The report as values that JSON can hold: ``frontend``, ``frontend_reason``, ``counts``, ``nodes``."""
        return {
            "frontend": self.frontend,
            "frontend_reason": self.frontend_reason,
            "counts": dict(Counter(r.decision for r in self.records)),
            "nodes": [record.to_dict() for record in self.records],
        }

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame``: a row a node, with the columns of :meth:`Record.to_dict`.

        Raises:
            QfxError: pandas is not installed.
        """
        try:
            import pandas as pd  # type: ignore[import-not-found, import-untyped, unused-ignore]
        except ImportError as error:
            raise QfxError(
                "to_pandas() needs pandas, which is not installed.", remedy="pip install pandas, or use to_dict()."
            ) from error
        return pd.DataFrame([r.to_dict() for r in self.records], columns=[*_FACTS, *_GRID])

    def __str__(self) -> str:
        return self.text(terminal_width())

    __repr__ = __str__


def build_report(gm: fx.GraphModule) -> Report:
    """The report of a QDQ graph."""
    nodes = [n for n in gm.graph.nodes if n.op.startswith("call_") and _is_reported(n)]
    facts = (str(gm.meta.get(key, "")) for key in ("frontend", "frontend_reason"))
    return Report((record for n in nodes for record in (_record(gm, n), *_inside(n))), *facts)


def _inside(node: fx.Node) -> Iterator[Record]:
    """The layers inside of the island that ``node`` calls."""
    home = node.meta.get("module_path") or ""
    for below, kind, decided in node.meta.get(INSIDE, ()):
        yield Record(
            name=f"{node.name}.{below}",
            op=kind,
            module_path=join(home, below),
            source=None,
            decision=_shown(decided.kind),
            reason=decided.reason,
            qparams=None,
            is_layer=True,
        )


def _shown(kind: str) -> str:
    return "float" if kind in ("float", "weight_only") else "int8"


def _is_reported(node: fx.Node) -> bool:
    op = op_of(node)
    return is_opaque(node) or (op is not None and op.qparams != "none" and PART_OF not in node.meta)


def _record(gm: fx.GraphModule, node: fx.Node) -> Record:
    op = op_of(node)
    decided = decision_of(node)
    reason = decided.reason
    if not reason:
        reason = node.meta.get("opaque_reason") or node.meta.get("island_reason") or ""
    whole = next((u for u in node.users if u.name == node.meta.get(COMPUTES)), node)
    code = next((u for u in whole.users if u.target is qdq.quantize and PART_OF not in u.meta), None)
    return Record(
        name=whole.name,
        op=op.name if op else str(getattr(node.target, "__name__", node.target)),
        module_path=node.meta.get("module_path") or "",
        source=node.meta.get("source"),
        decision=_shown(decided.kind),
        reason=reason,
        qparams=read_qparams(gm, code) if code is not None else None,
        fused=tuple(dict.fromkeys((*fused_names(node), *fused_names(whole)))),
        recovery=node.meta.get("recovery", ()),
        apart=node.meta.get(APART, ""),
        is_layer=_is_layer(gm, node),
    )


def _is_layer(gm: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node has weights that no record of its own tells of."""
    op = op_of(node)
    if op is not None:
        return bool(op.weights or op.matrices) and node.kwargs.get("result", "output") == "output"
    if node.op != "call_module" or node.meta.get(INSIDE):
        return False
    module = gm.get_submodule(str(node.target))
    return any(tensor.dim() > 1 for tensor in (*module.parameters(), *module.buffers()))


def fused_names(node: fx.Node) -> tuple[str, ...]:
    """What is fused into a node: ``"residual"``, ``"clamp"``."""
    return tuple(name for name, key in (("residual", "residual"), ("clamp", "activation")) if _has(node, key))


def _has(node: fx.Node, key: str) -> bool:
    op = op_of(node)
    return op is not None and arguments(op, node).get(key) is not None


_COLUMNS = ("name", "op", "module", "decision", "scale", "zero", "why", "source")
_ELASTIC = ("name", "op", "module", "source")


def _row(record: Record, why: str) -> tuple[str, ...]:
    scale = f"{record.qparams.scale:.4g}" if record.qparams else ""
    zero = str(record.qparams.zero_point) if record.qparams else ""
    op = "+".join((record.op, *record.fused))
    return record.name, op, record.module_path, record.decision, scale, zero, why, record.source or ""


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _wrapped(text: str, head: str, width: int | None) -> list[str]:
    """``text`` behind ``head``, in lines of ``width``."""
    if width is None:
        return [head + text]
    return textwrap.wrap(
        text, max(width, _NARROWEST), initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False
    )


_NARROWEST = 40
