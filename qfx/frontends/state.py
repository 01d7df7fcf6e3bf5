"""Everything that a model's code can reach and change: kept before a call, compared after it, and put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from qfx.frontends.places import ATOMS, Place
from qfx.frontends.reach import Kind, attributes_of, has_elements, holds_state, kinds_of


@dataclass
class Record:
    """An object, where it was found first, and what it held."""

    value: Any
    place: Place
    kind: Kind
    contents: Any


@dataclass
class Snapshot:
    """What ``root`` and its code could reach when this was made.

    Modules with their hooks, objects and containers in attributes; attributes of classes; and what functions close
    over, have as defaults, and read from the globals of their Python module.

    Args:
        root: A model.
    """

    root: nn.Module
    records: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.records = list(reachable(self.root))
        self._ids = {id(record.value) for record in self.records}

    def holds(self, value: object) -> bool:
        """Whether ``value`` could be reached."""
        return id(value) in self._ids

    def changes(self) -> list[Place]:
        """Where something is not what it was: registered tensors first, each attribute once."""
        found: dict[tuple[str, str], Place] = {}
        for record in self.records:
            for place in _differences(record):
                found.setdefault((place.owner, place.attribute), place)
        return sorted(found.values(), key=lambda place: not place.registered)

    def restore(self, where: Callable[[Place], bool] | None = None) -> None:
        """Puts back all of it, in place; given ``where``, what is at such places."""
        for record in self.records:
            if where is None or where(record.place):
                record.kind.write(record.value, record.contents)

    def count_on(self, ahead: Callable[[Any, Any], Any]) -> None:
        """Sets each number that changed to ``ahead(now, step)``; ``step`` is by how much it changed."""
        for record in self.records:
            if not isinstance(record.value, np.ndarray):
                now = record.kind.read(record.value)
                later = _later(now, record.contents, ahead)
                if not same(later, now):
                    record.kind.write(record.value, later)


def reachable(root: nn.Module) -> Iterator[Record]:
    """Every object that can change, with what it holds now."""
    seen: dict[int, Any] = {}
    pending: list[tuple[Any, Place]] = [(root, Place(""))]
    while pending:
        value, place = pending.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value  # which keeps its id its own
        for kind in kinds_of(value):
            record = Record(value, place, kind, kind.read(value))
            yield record
            pending += reversed(list(kind.parts(record.contents, place)))


def same(now: Any, before: Any) -> bool:
    """Whether two values are equal all through: tensors and arrays by their elements, objects by their attributes."""
    if now is before:
        return True
    if type(now) is not type(before) or isinstance(now, fx.Proxy):
        return False
    if isinstance(now, Tensor):
        return _same_elements(now, before)
    if isinstance(now, np.ndarray):
        return now.shape == before.shape and now.dtype == before.dtype and now.tobytes() == before.tobytes()
    if isinstance(now, ATOMS):
        return bool(now == before) or repr(now) == repr(before) == "nan"
    if isinstance(now, Mapping):
        return now.keys() == before.keys() and all(same(now[key], before[key]) for key in now)
    if isinstance(now, (list, tuple)):
        return len(now) == len(before) and all(map(same, now, before))
    if holds_state(now):
        return same(attributes_of(now), attributes_of(before))
    return isinstance(now, (set, frozenset)) and now == before


def _same_elements(now: Tensor, before: Tensor) -> bool:
    if now.shape != before.shape or now.dtype != before.dtype or not has_elements(now) or not has_elements(before):
        return False
    if torch.equal(now, before):
        return True
    return bool(((now == before) | (torch.isnan(now) & torch.isnan(before))).all())


def _differences(record: Record) -> Iterator[Place]:
    if isinstance(record.value, Tensor):  # without another copy of its elements
        before = record.contents
        if before is not None and not _same_elements(record.value.detach(), before):
            yield record.place
        return
    now = record.kind.read(record.value)
    if record.kind.whole:
        if not same(now, record.contents):
            yield record.place
        return
    before, after = _by_place(record, record.contents), _by_place(record, now)
    for place in {**before, **after}:
        if place not in before or place not in after or not same(after[place], before[place]):
            yield place


def _by_place(record: Record, contents: Any) -> dict[Place, Any]:
    return {place: value for value, place in record.kind.parts(contents, record.place)}


def _later(now: Any, before: Any, ahead: Callable[[Any, Any], Any]) -> Any:
    """Contents of a record with the numbers among them that changed as :meth:`Snapshot.count_on` says."""
    if isinstance(now, (int, float)) and isinstance(before, (int, float)) and not isinstance(now, bool):
        return ahead(now, now - before) if now != before else now
    if isinstance(now, Tensor) and isinstance(before, Tensor):
        return ahead(now, now - before) if _counts(now, before) and bool(now != before) else now
    if isinstance(now, dict) and isinstance(before, dict):
        return {key: _later(value, before.get(key), ahead) if _is_leaf(value) else value for key, value in now.items()}
    if type(now) is type(before) is list and len(now) == len(before):
        return [_later(*pair, ahead) if _is_leaf(pair[0]) else pair[0] for pair in zip(now, before, strict=True)]
    if isinstance(now, tuple) and hasattr(now, "_fields"):
        return type(now)(*(_later(*pair, ahead) for pair in zip(now, before, strict=True)))
    return now


def _counts(now: Tensor, before: Tensor) -> bool:
    """Whether a tensor is one number, of a dtype that holds large ones."""
    alike = now.dtype == before.dtype and now.dtype.itemsize > 2
    return alike and now.numel() == before.numel() == 1 and has_elements(now) and not now.is_complex()


def _is_leaf(value: Any) -> bool:
    return isinstance(value, (int, float, Tensor))
