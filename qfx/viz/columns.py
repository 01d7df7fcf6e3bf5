"""A long picture as columns side by side, so that a person can take it in."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

from qfx.viz.scene import Arrow, Box, Scene

_ROWS = 28
"""Boxes one below the other that one column may hold."""
_SHAPE = 1.5
"""Width of the picture over its height that is aimed at."""
_BOX = (170.0, 75.0)
"""About what a box takes in each direction, arrows included, in points."""
_CROSSING = 2
"""Values that may go from one column to the next."""


def columns_of(scene: Scene) -> list[Scene]:
    """``scene`` cut where few values cross: one scene a column; all of it where it is not long, or can't be cut.

    A value that goes on in the next column leaves its own through a box that names where it goes, and arrives through
    one that names where it is from.
    """
    rows = scene.rows
    height, width = max(rows.values(), default=0) + 1, max(Counter(rows.values()).values(), default=1)
    if height <= _ROWS:
        return [scene]
    wanted = math.ceil(math.sqrt(_SHAPE * height * _BOX[1] / (width * _BOX[0])))
    cuts = _cuts(scene, rows, height, wanted)
    bounds = [0, *cuts, height]
    return [_column(scene, rows, low, high, i) for i, (low, high) in enumerate(pairwise(bounds))]


def _cuts(scene: Scene, rows: Mapping[str, int], height: int, wanted: int) -> list[int]:
    """Rows before which a column ends: near equal parts, and only where few values cross."""
    crossing = _crossing(scene, rows, height)
    reach = max(height // (3 * wanted), 1)
    cuts: list[int] = []
    for part in range(1, wanted):
        middle = round(part * height / wanted)
        near = range(max(middle - reach, 1), min(middle + reach + 1, height))
        best = min(near, key=lambda row: (crossing[row], abs(row - middle)))
        if crossing[best] <= _CROSSING and best not in cuts:
            cuts.append(best)
    return cuts


def _crossing(scene: Scene, rows: Mapping[str, int], height: int) -> list[int]:
    """How many values are made above each row and read in it or below."""
    last: dict[str, int] = {}
    for arrow in scene.arrows:
        last[arrow.source] = max(last.get(arrow.source, 0), rows[arrow.target])
    change = [0] * (height + 1)
    for name, row in last.items():
        change[min(rows[name] + 1, height)] += 1
        change[min(row + 1, height)] -= 1
    total, crossing = 0, []
    for step in change:
        total += step
        crossing.append(total)
    return crossing


def _column(scene: Scene, rows: Mapping[str, int], low: int, high: int, index: int) -> Scene:
    inside = {box.name for box in scene.boxes if low <= rows[box.name] < high}
    boxes = [box for box in scene.boxes if box.name in inside]
    arrows, ends = [], {}
    for arrow in scene.arrows:
        arrives, leaves = arrow.target in inside, arrow.source in inside
        if arrives and leaves:
            arrows.append(arrow)
        elif arrives or leaves:
            end = _end(scene, arrow, arrives, index)
            arrows.append(replace(arrow, source=end.name) if arrives else replace(arrow, target=end.name))
            ends[end.name] = end
    firsts = [end for end in ends.values() if end.name.startswith(_FROM)]
    lasts = [end for end in ends.values() if end.name.startswith(_TO)]
    return Scene(scene.level, (*firsts, *boxes, *lasts), tuple(dict.fromkeys(arrows)))


_FROM, _TO = "from:", "to:"


def _end(scene: Scene, arrow: Arrow, arrives: bool, index: int) -> Box:
    """The box that stands in column ``index`` for the other end of an arrow."""
    other = scene.by_name[arrow.source if arrives else arrow.target]
    head = f"from {other.title}" if arrives else f"to {other.title}"
    name = f"{_FROM if arrives else _TO}{index}:{other.name}"
    return Box(name, head, "elsewhere", "", other.module_path or other.name, value=arrow.value)
