"""What a comparison says: one record a node, and a table of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from qfx.arguments import explained
from qfx.columns import table, terminal_width
from qfx.inline import Inline
from qfx.ir.types import QParams


@dataclass(frozen=True)
class Deviation:
    """How far values lie from a reference.

    Attributes:
        sqnr: Signal to noise of the reference over the difference, in dB; infinite where nothing differs.
        cosine: Of the angle between the two, seen as vectors; 1 where nothing differs.
        max_error: The greatest absolute difference.
    """

    sqnr: float
    cosine: float
    max_error: float


@dataclass(frozen=True)
class NodeComparison:
    """One value of the quantized model: an input that is quantized, or what a node computes.

    The error of quantization (float to QDQ) is the price of 8 bits, and a qconfig changes it. The error of lowering
    (QDQ to int8) is rounding that the QDQ graph's float arithmetic does otherwise, and should be next to nothing.

    Attributes:
        name: The node's name in the graph.
        op: Table op, the opaque module or function, or ``"input"``.
        module_path: Where in the user's model (``"layer1.0.conv1"``; empty at the root).
        source: The user's source line, if known.
        decision: ``"int8"`` or ``"float"``.
        qparams: Quantization parameters of the value; None where it is float.
        quantization: The QDQ graph's values against the float model's; None where that has no such node.
        lowering: The runtime's values against the QDQ graph's; None for a value without floats.
        total: The runtime's values against the float model's.
        quanta: The greatest difference of integers between QDQ and int8, each running on its own; None for floats.
        local_quanta: The same with the QDQ node computed from what the int8 node read, so that a difference
            counts where it arises and not again behind it.
    """

    name: str
    op: str
    module_path: str
    source: str | None
    decision: str
    qparams: QParams | None
    quantization: Deviation | None
    lowering: Deviation | None
    total: Deviation | None
    quanta: int | None
    local_quanta: int | None


class Comparison(Inline, Sequence[NodeComparison]):
    """The records in graph order; ``str()`` is a table that fits the terminal.

    Attributes:
        batches: How many batches they are of.
        stopped: Whether there was no time for the others.
    """

    def __init__(self, records: Iterable[NodeComparison], *, batches: int | None = None, stopped: bool = False) -> None:
        self.records, self.batches, self.stopped = tuple(records), batches, stopped

    @overload
    def __getitem__(self, index: int | str) -> NodeComparison: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[NodeComparison]: ...
    def __getitem__(self, index: int | str | slice) -> NodeComparison | Sequence[NodeComparison]:
        if isinstance(index, str):
            found = next((r for r in self.records if r.name == index), None)
            if found is None:
                raise KeyError(f"{index!r} is no node of this comparison")
            return found
        return self.records[index]

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[NodeComparison]:
        return iter(self.records)

    @explained
    def first_beyond(self, quanta: int = 1, *, local: bool = True) -> NodeComparison | None:
        """The first node whose integers differ by more than ``quanta``, or None.

        Args:
            quanta: Differences up to this are rounding.
            local: Compare each node on equal inputs; otherwise both models run on their own.
        """
        for record in self.records:
            difference = record.local_quanta if local else record.quanta
            if difference is not None and difference > quanta:
                return record
        return None

    def cells(self) -> list[tuple[str, ...]]:
        """The table: names of columns, then a row a record."""
        return [_COLUMNS, *map(_row, self.records)]

    def __str__(self) -> str:
        return "\n".join([*table(self.cells(), width=terminal_width(), elastic=_ELASTIC), _summary(self)])

    __repr__ = __str__


def _summary(comparison: Comparison) -> str:
    integers = [r for r in comparison if r.quanta is not None]
    beyond = comparison.first_beyond()
    text = f"{len(comparison)} nodes, {len(integers)} of them integers"
    if comparison.stopped:
        text = f"no time for more than {comparison.batches} of the batches; {text}"
    if beyond is None:
        return f"{text}; on equal inputs none differs by more than one quantum"
    return f"{text}; the first to differ by more than one quantum on equal inputs is {beyond.name}"


_COLUMNS = (
    "name", "op", "module", "decision", "float>QDQ dB", "cosine", "max error", "QDQ>int8 dB", "float>int8 dB",
    "quanta", "local", "source",
)  # fmt: skip
_ELASTIC = ("name", "op", "module", "source")


def _row(r: NodeComparison) -> tuple[str, ...]:
    cosine, error = (f"{r.quantization.cosine:.6f}", f"{r.quantization.max_error:.3g}") if r.quantization else ("", "")
    quanta = ("" if n is None else str(n) for n in (r.quanta, r.local_quanta))
    ratios = (_decibel(r.quantization), cosine, error, _decibel(r.lowering), _decibel(r.total))
    return (r.name, r.op, r.module_path, r.decision, *ratios, *quanta, r.source or "")


def _decibel(deviation: Deviation | None) -> str:
    return "" if deviation is None else f"{deviation.sqnr:.1f}"
