"""What a sensitivity analysis says: one record a node, and a table of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, overload

from qfx.advice.entries import Entry, merge_qconfig_dict
from qfx.arguments import explained
from qfx.columns import table, terminal_width
from qfx.errors import InputError

By = Literal["alone_loss", "gain_if_float"]


@dataclass(frozen=True)
class NodeSensitivity:
    """What rounding one node costs. Losses are in the unit of the metric; see :class:`Sensitivity`.

    Attributes:
        name: The node's name in the graph.
        op: Table op with what is fused into it (``"conv+clamp"``), or ``"input"``.
        module_path: Where in the user's model (``"layer1.0.conv1"``; empty at the root).
        source: The user's source line, if known.
        members: Names of all nodes whose values share its qparams; its own name alone for most.
        alone_loss: Loss of the model if this node is rounded, weights and value, and all else is float; what the
            metric gives for the float model is taken off.
        weights_loss: The same with only its weights rounded; None for a node without.
        value_loss: The same with only its value rounded; None for a node whose value is not.
        gain_if_float: Loss of the int8 model less its loss with the ``entry`` in the qconfig_dict: all else int8.
        macs_share: Its part of the model's multiplications, 0..1.
        entry: What leaves the node float: a part of a qconfig_dict. Where most of the loss is the value's, the int8
            ops that read it are named too, for they would need it rounded.
        rough: Whether the losses were measured on the first samples only, and scaled to all of them by what the whole
            int8 model loses; those of the worst nodes never are.
    """

    name: str
    op: str
    module_path: str
    source: str | None
    members: tuple[str, ...]
    alone_loss: float
    weights_loss: float | None
    value_loss: float | None
    gain_if_float: float
    macs_share: float
    entry: Entry = field(repr=False)
    rough: bool = False


class Sensitivity(Sequence[NodeSensitivity]):
    """The records, worst ``alone_loss`` first; ``str()`` is a table.

    Attributes:
        metric: ``"noise to signal"``, the mean squared error of the model's outputs over the mean square of the float
            model's; or the name of the user's metric.
        float_loss: The metric of the float model; 0 for noise to signal.
        int8_loss: The metric of the whole model in int8.
        unreached: Names of the nodes for which there was no time.
    """

    def __init__(
        self,
        records: Iterable[NodeSensitivity],
        qconfig_dict: Mapping[str, Any],
        *,
        metric: str,
        float_loss: float,
        int8_loss: float,
        unreached: Iterable[str] = (),
    ) -> None:
        self.records = tuple(sorted(records, key=lambda r: -r.alone_loss))
        self.metric, self.float_loss, self.int8_loss = metric, float_loss, int8_loss
        self.unreached = tuple(unreached)
        self._qconfig_dict = dict(qconfig_dict)

    @overload
    def __getitem__(self, index: int | str) -> NodeSensitivity: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[NodeSensitivity]: ...
    def __getitem__(self, index: int | str | slice) -> NodeSensitivity | Sequence[NodeSensitivity]:
        if isinstance(index, str):
            found = next((r for r in self.records if index in (r.name, *r.members)), None)
            if found is None:
                raise KeyError(f"{index!r} is no node of this analysis")
            return found
        return self.records[index]

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[NodeSensitivity]:
        return iter(self.records)

    @property
    def in_decibels(self) -> bool:
        """Whether losses are noise to signal, which the table shows as SQNR in dB."""
        return self.metric == NOISE_TO_SIGNAL

    @explained
    def worst(self, n: int = 10, by: By = "alone_loss") -> tuple[NodeSensitivity, ...]:
        """The ``n`` records with the greatest ``by``, greatest first.

        Args:
            n: How many; fewer if there are not as many.
            by: ``"alone_loss"`` or ``"gain_if_float"``.

        Raises:
            InputError: ``by`` or ``n`` is something else.
        """
        if by not in ("alone_loss", "gain_if_float"):
            raise InputError(f"There is no order by {by!r}.", remedy='Use by="alone_loss" or by="gain_if_float".')
        if isinstance(n, bool) or not isinstance(n, int) or n < 0:
            raise InputError(f"{n!r} is no number of nodes.", remedy="Pass a whole number, such as 3.")
        return tuple(sorted(self.records, key=lambda r: -getattr(r, by))[:n])

    @explained
    def gain_in_decibels(self, record: NodeSensitivity) -> float:
        """By how many dB the SQNR of the int8 model grows if ``record`` stays float. For noise to signal only."""
        left = self.int8_loss - record.gain_if_float
        return math.inf if left <= 0 else 10 * math.log10(self.int8_loss / left)

    @explained
    def as_qconfig_dict(self, n: int = 1, by: By = "gain_if_float") -> dict[str, Any]:
        """The qconfig_dict of the analysis with entries that leave the worst ``n`` nodes float.

        Raises:
            InputError: As of :meth:`worst`.
        """
        merged = dict(self._qconfig_dict)
        for record in self.worst(n, by):
            merged = merge_qconfig_dict(merged, record.entry)
        return merged

    def __str__(self) -> str:
        return "\n".join([*_table(self), self._summary()])

    __repr__ = __str__

    def _summary(self) -> str:
        rough = sum(r.rough for r in self)
        left = f"; ~: {rough} measured on the first samples only" if rough else ""
        left += f"; no time for {len(self.unreached)} more: {', '.join(self.unreached)}" if self.unreached else ""
        return self._measured() + left

    def _measured(self) -> str:
        if self.in_decibels:
            return f"{len(self)} nodes; the int8 model has an SQNR of {sqnr(self.int8_loss):.1f} dB"
        return f"{len(self)} nodes; {self.metric} is {self.float_loss:.6g} in float, {self.int8_loss:.6g} in int8"


NOISE_TO_SIGNAL = "noise to signal"


def sqnr(noise_to_signal: float) -> float:
    """dB of a noise-to-signal ratio; infinite where there is no noise."""
    return math.inf if noise_to_signal <= 0 else -10 * math.log10(noise_to_signal)


def _table(s: Sensitivity) -> list[str]:
    unit = "dB" if s.in_decibels else s.metric
    columns = ("name", "op", "module", f"alone {unit}", "weights", "value", f"gain {unit}", "MACs %", "source")
    rows = [columns, *(_row(s, r) for r in s)]
    return table(rows, width=terminal_width(), elastic=("name", "op", "module", "source"))


def _row(s: Sensitivity, r: NodeSensitivity) -> tuple[str, ...]:
    losses = (r.alone_loss, r.weights_loss, r.value_loss)
    if s.in_decibels:
        shown = ["" if loss is None else f"{sqnr(loss):.1f}" for loss in losses]
        gain = f"{s.gain_in_decibels(r):+.2f}"
    else:
        shown = ["" if loss is None else f"{loss:.4g}" for loss in losses]
        gain = f"{r.gain_if_float:+.4g}"
    if r.rough:
        shown, gain = [loss and f"~{loss}" for loss in shown], f"~{gain}"
    share = f"{100 * r.macs_share:.1f}" if r.macs_share else ""
    return (r.name, r.op, r.module_path, *shown, gain, share, r.source or "")
