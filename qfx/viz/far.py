"""Arrows that reach so far that they run beside the picture, down a lane of their own.

Graphviz lays an arrow out as a chain of points, one in each row that it passes, and what it takes grows with the square
of the points of a row and faster than their sum: a mask that every layer of a deep network reads, or the skips of a
U-Net, take it minutes. So what is laid out is bounded by the number of boxes, and the longest arrows are drawn here.
"""

from __future__ import annotations

import heapq
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from qfx.viz.scene import Scene

FAR = 'class="far"];'
"""How the line of such an arrow ends in a picture's source."""
_EASY = 600
"""Rows that all arrows of a picture together may pass, whatever its size."""
_LONGEST, _EACH = 30, 3
"""Rows that one arrow may pass in a larger picture, and that all of them may pass for each box."""
_LANE, _LEAVES, _ARRIVES, _HEAD = 7.0, 6.0, 12.0, 6.0
"""Between lanes; below a row, above a row; an arrow's head; in points."""
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_ENDS = re.compile(rf"({_QUOTED}) -> ({_QUOTED}) \[")
_ATTRIBUTE = re.compile(rf"\b(color|id|tooltip)=({_QUOTED})")
_ESCAPED = re.compile(r"\\(.)")
_NODE = re.compile(
    r'class="node[^"]*">\s*<title>(?P<name>[^<]*)</title>.*?(?P<shape><(?:path|polygon|ellipse) [^>]*>)', re.DOTALL
)
_PAIR = re.compile(r"(-?[\d.]+),(-?[\d.]+)")
_ELLIPSE = re.compile(r'(?:cx|cy|rx|ry)="(-?[\d.]+)"')
_SIZE = re.compile(r'width="([\d.]+)(\w*)" height="([\d.]+\w*)"\s+viewBox="0\.00 0\.00 ([\d.]+) ([\d.]+)"')
_BACK = re.compile(r'(<polygon fill="white" stroke="none" points=")(-?[\d.]+),(-?[\d.]+) -?[\d.]+,')

Point = tuple[float, float]


def far_arrows(scene: Scene) -> frozenset[int]:
    """Which arrows of ``scene``, by their index, are too long to lay out."""
    rows = scene.rows
    passed = [rows[arrow.target] - rows[arrow.source] for arrow in scene.arrows]
    if sum(passed) <= _EASY:
        return frozenset()
    left, far = max(_EASY, _EACH * len(scene.boxes)), set()
    for index in sorted(range(len(passed)), key=passed.__getitem__):
        left -= passed[index]
        if passed[index] > _LONGEST or left < 0:
            far.add(index)
    return frozenset(far)


def split_far(source: str) -> tuple[str, list[str]]:
    """A picture's source without its far arrows, and their lines."""
    lines = source.split("\n")
    far = [line for line in lines if line.endswith(FAR)]
    return ("\n".join(line for line in lines if not line.endswith(FAR)) if far else source), far


def add_far(svg: str, far: Iterable[str]) -> str:
    """``svg`` as Graphviz writes it, with the far arrows beside it; the lines are those of :func:`split_far`."""
    boxes = _boxes(svg)
    ends = {line: (boxes[_text(match[1])], boxes[_text(match[2])]) for line in far if (match := _ENDS.match(line))}
    lanes = _lanes(ends.values())
    drawn = "".join(_arrow(line, _corners(a, b, lanes[a])) for line, (a, b) in ends.items())
    head, end = svg[: svg.rindex("</g>")], svg[svg.rindex("</g>") :]
    return _widened(head, _LANE * (max(lanes.values(), default=0) + 3)) + drawn + end


@dataclass(frozen=True)
class _Place:
    """A box in the picture: its middle, and where it and its row begin and end, downwards, in points."""

    x: float
    top: float
    bottom: float
    row_top: float
    row_bottom: float


def _boxes(svg: str) -> Mapping[str, _Place]:
    found = {}
    for match in _NODE.finditer(svg):
        xs, ys = zip(*_points(match["shape"]), strict=True)
        found[html.unescape(match["name"])] = (min(xs), min(ys), max(xs), max(ys))
    rows: dict[float, float] = {}
    for _, top, _, bottom in found.values():
        middle = round((top + bottom) / 2)
        rows[middle] = max(rows.get(middle, 0.0), (bottom - top) / 2)
    return {name: _place(box, rows[round((box[1] + box[3]) / 2)]) for name, box in found.items()}


def _place(box: tuple[float, float, float, float], half: float) -> _Place:
    left, top, right, bottom = box
    middle = (top + bottom) / 2
    return _Place((left + right) / 2, top, bottom, middle - half, middle + half)


def _points(shape: str) -> list[Point]:
    """Corners of what surrounds a path, a polygon or an ellipse."""
    if shape.startswith("<ellipse"):
        x, y, across, down = (float(number) for number in _ELLIPSE.findall(shape))
        return [(x - across, y - down), (x + across, y + down)]
    return [(float(x), float(y)) for x, y in _PAIR.findall(shape)]


def _lanes(ends: Iterable[tuple[_Place, _Place]]) -> dict[_Place, int]:
    """A lane for all arrows of one box, that no other box's arrows run in at the same height."""
    lowest: dict[_Place, float] = {}
    for source, target in ends:
        lowest[source] = max(lowest.get(source, target.row_top), target.row_top)
    lanes: dict[_Place, int] = {}
    free: list[tuple[float, int]] = []
    for source in sorted(lowest, key=lambda place: place.row_bottom):
        reused = bool(free) and free[0][0] < source.row_bottom
        lanes[source] = heapq.heappop(free)[1] if reused else len(free)
        heapq.heappush(free, (lowest[source], lanes[source]))
    return lanes


def _corners(source: _Place, target: _Place, lane: int) -> list[Point]:
    """Down from the source's row, along the lane, and into the target from above."""
    x = -_LANE * (lane + 2)
    below, above = source.row_bottom + _LEAVES, target.row_top - _ARRIVES
    return [
        (source.x, source.bottom), (source.x, below), (x, below),
        (x, above), (target.x, above), (target.x, target.top - _HEAD),
    ]  # fmt: skip


def _arrow(line: str, corners: Sequence[Point]) -> str:
    """An element like those that Graphviz writes for arrows, whose lines are curves too."""
    say = {name: html.escape(_text(text)) for name, text in _ATTRIBUTE.findall(line)}
    path = f"M{_at(corners[0])}C"
    path += " ".join(
        f"{_at(_between(a, b, 1 / 3))} {_at(_between(a, b, 2 / 3))} {_at(b)}" for a, b in pairwise(corners)
    )
    x, y = corners[-1]
    head = " ".join(map(_at, ((x + 2.1, y), (x, y + _HEAD), (x - 2.1, y), (x + 2.1, y))))
    look = f'stroke="{say["color"]}" stroke-width="1.2"'
    return (
        f'<g id="{say["id"]}" class="edge far">\n<g><a xlink:title="{say["tooltip"]}">\n'
        f'<path fill="none" {look} d="{path}"/>\n<polygon fill="{say["color"]}" {look} points="{head}"/>\n'
        "</a></g>\n</g>\n"
    )


def _widened(svg: str, by: float) -> str:
    """The picture with ``by`` points more on its left."""
    match = _SIZE.search(svg)
    assert match is not None
    width, unit, height, high = float(match[1]), match[2], match[3], match[5]
    size = (
        f'width="{width + by:.0f}{unit}" height="{height}"\n viewBox="{-by:.2f} 0.00 {float(match[4]) + by:.2f} {high}"'
    )
    svg = svg[: match.start()] + size + svg[match.end() :]
    return _BACK.sub(lambda m: f"{m[1]}{float(m[2]) - by:.2f},{m[3]} {float(m[2]) - by:.2f},", svg, count=1)


def _text(quoted: str) -> str:
    """What stands between quotes in a picture's source."""
    return _ESCAPED.sub(lambda m: "\n" if m[1] == "n" else m[1], quoted[1:-1])


def _at(point: Point) -> str:
    return f"{point[0]:.2f},{point[1]:.2f}"


def _between(a: Point, b: Point, share: float) -> Point:
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share
