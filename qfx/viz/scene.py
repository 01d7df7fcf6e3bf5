"""What a picture shows, apart from how it is drawn: boxes, arrows between them, and what flows along those."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from qfx.ir.types import QParams

Applied = tuple[str, tuple[str, ...]]
"""A rule's name and the names of the nodes that it took in."""


@dataclass(frozen=True)
class Value:
    """What a node computes.

    Attributes:
        dtype: ``"quint8"``, ``"float32"``, ``"int64"`` ...; empty where unknown.
        shape: Logical shape; None where unknown.
        qparams: Of integers that stand for real values.
    """

    dtype: str = ""
    shape: tuple[int, ...] | None = None
    qparams: QParams | None = None

    @property
    def size(self) -> str:
        """The shape in words: ``"2x64x56x56"``."""
        return "x".join(map(str, self.shape)) if self.shape is not None else ""

    @property
    def grid(self) -> str:
        """The qparams in words: ``"scale 0.0213, zero point 128"``."""
        if self.qparams is None:
            return ""
        scale, zero = self.qparams.scale, self.qparams.zero_point
        if isinstance(scale, tuple) or isinstance(zero, tuple):
            return f"one scale a channel, dim {self.qparams.axis}"
        return f"scale {scale:.3g}, zero point {zero}"


@dataclass(frozen=True)
class Box:
    """A node of the picture.

    Attributes:
        name: The node's name in its graph, by which reports and comparisons name it too.
        title: What it does, with what is fused into it: ``"conv + relu"``.
        kind: A row of :data:`qfx.viz.palette.KINDS`.
        op: Table op, module or function.
        module_path: Where in the user's model; empty at the root.
        source: The user's source line; empty where unknown.
        reason: Why it was decided so, or why it stays outside the programs.
        notes: More lines about it: the kernel, the observer's path.
        value: Its result.
        fused: Names of the nodes that run inside it.
        rules: The rules that made it.
        group: The frames around it, outermost first: names of modules or programs.
        says_notes: Whether its label shows the first of its notes.
    """

    name: str
    title: str
    kind: str
    op: str
    module_path: str = ""
    source: str = ""
    reason: str = ""
    notes: tuple[str, ...] = ()
    value: Value = Value()
    fused: tuple[str, ...] = ()
    rules: tuple[Applied, ...] = ()
    group: tuple[str, ...] = ()
    says_notes: bool = False


@dataclass(frozen=True)
class Arrow:
    """A value on its way from one box to another."""

    source: str
    target: str
    value: Value


@dataclass(frozen=True)
class Scene:
    """One level of one model.

    Attributes:
        level: A key of :data:`qfx.viz.read.LEVELS`.
        boxes: In graph order.
        arrows: In graph order.
    """

    level: str
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]

    @cached_property
    def by_name(self) -> dict[str, Box]:
        """Every box by its name."""
        return {box.name: box for box in self.boxes}

    @cached_property
    def into(self) -> dict[str, list[Arrow]]:
        """The arrows into each box."""
        found: dict[str, list[Arrow]] = {}
        for arrow in self.arrows:
            found.setdefault(arrow.target, []).append(arrow)
        return found

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """How many boxes each box has above it, along the longest way."""
        rows: dict[str, int] = {}
        for box in self.boxes:
            rows[box.name] = 1 + max((rows.get(a.source, -1) for a in self.into.get(box.name, ())), default=-1)
        return rows


@dataclass(frozen=True)
class Heat:
    """A number a node, and what it means.

    Attributes:
        title: What the number is: ``"SQNR, dB"``.
        values: By node name.
        hot_is_low: Whether low numbers are the ones to look at.
    """

    title: str
    values: Mapping[str, float] = field(default_factory=dict)
    hot_is_low: bool = False

    @cached_property
    def _range(self) -> tuple[float, float]:
        finite = [v for v in self.values.values() if math.isfinite(v)]
        return (min(finite), max(finite)) if finite else (0.0, 0.0)

    def share(self, name: str) -> float | None:
        """From 0 (cold) to 1 (hot); None for a node without a number."""
        value = self.values.get(name)
        if value is None or math.isnan(value):
            return None
        low, high = self._range
        warmth = 0.0 if high == low else (min(max(value, low), high) - low) / (high - low)
        return 1.0 - warmth if self.hot_is_low else warmth

    def ends(self) -> tuple[float, float]:
        """The numbers at the cold and at the hot end."""
        low, high = self._range
        return (high, low) if self.hot_is_low else (low, high)


@dataclass
class Grove:
    """Boxes in the nested groups that they lie in."""

    path: tuple[str, ...] = ()
    boxes: list[Box] = field(default_factory=list)
    groups: dict[str, Grove] = field(default_factory=dict)

    def walk(self) -> Iterator[Box]:
        """Every box inside, outer ones first."""
        yield from self.boxes
        for group in self.groups.values():
            yield from group.walk()

    @property
    def count(self) -> int:
        return len(self.boxes) + sum(group.count for group in self.groups.values())


def grouped(scene: Scene) -> Grove:
    """The boxes of ``scene`` in their groups; a group of one box is no group."""
    root = Grove()
    for box in scene.boxes:
        grove = root
        for name in box.group:
            grove = grove.groups.setdefault(name, Grove((*grove.path, name)))
        grove.boxes.append(box)
    _flatten(root)
    return root


def _flatten(grove: Grove) -> None:
    for name, group in list(grove.groups.items()):
        _flatten(group)
        if group.count == 1:
            grove.boxes += group.walk()
            del grove.groups[name]
