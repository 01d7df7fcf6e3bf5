"""Labels as wide as they were laid out, in whatever font a picture is shown.

Graphviz lays labels out with the widths of one font; a viewer may have another. ``textLength`` (SVG 1.1, 10.5) says how
wide a text is to be, and a browser condenses or stretches the font that it has.
"""

from __future__ import annotations

import re

_NODE = re.compile(
    r'<g id="[^"]*" class="(?:node|cluster|edge)[^"]*">.*?(?=<g id="[^"]*" class="|</g>\s*</svg>)', re.DOTALL
)
_TEXT = re.compile(r'<text [^>]*?x="(?P<x>-?[\d.]+)"[^>]*>(?P<text>[^<]*)</text>')
_SHAPE = re.compile(
    r'<ellipse [^>]*cx="(?P<cx>[^"]+)" cy="[^"]+" rx="(?P<rx>[^"]+)"'
    r'|<(?:path|polygon) [^>]*(?:d|points)="(?P<points>[^"]+)"'
)
_CELL = re.compile(r'<polygon [^>]*stroke="none"')
"""Of a table, whose lines begin below each other instead of standing in the middle."""
_PAIR = re.compile(r"(-?[\d.]+)[ ,]-?[\d.]+")
_ENTITY = re.compile(r"&#?\w+;")
_NARROW, _WIDE = frozenset(" .,:;'!|iljtfI()[]/-"), frozenset("mMwW@%—…")
_MARGIN = 8.0
"""Between a frame and what is in it, in points."""
_NEAR = 1.0
"""How far from the middle of its box a centred line may seem, in points."""


def fit_labels(svg: str) -> str:
    """``svg``, as Graphviz writes it, with ``textLength`` at the labels of boxes, frames and arrows."""
    return _NODE.sub(lambda match: _fit(match[0]), svg)


def _fit(group: str) -> str:
    if 'class="edge' in group:
        return _TEXT.sub(lambda m: _sized(m, _estimated(m)), group)
    shape = _SHAPE.search(group)
    if shape is None:
        return group
    left, right = _extent(shape)
    middle = (left + right) / 2
    lines = list(_TEXT.finditer(group))
    centred = all('text-anchor="start"' in m[0] and float(m["x"]) < middle + _NEAR for m in lines)
    if 'class="node' in group and centred and not _CELL.search(group):
        return _TEXT.sub(lambda m: _sized(m, 2 * (middle - float(m["x"]))), group)
    starts = {m: float(m["x"]) if 'text-anchor="start"' in m[0] else left + _MARGIN for m in lines}
    most = max((_estimated(m) / max(right - _MARGIN - x, 1.0) for m, x in starts.items()), default=0.0)
    return _TEXT.sub(lambda m: _sized(m, _estimated(m) / max(most, 1.0)), group)


def _extent(shape: re.Match[str]) -> tuple[float, float]:
    if shape["points"] is None:
        return float(shape["cx"]) - float(shape["rx"]), float(shape["cx"]) + float(shape["rx"])
    xs = [float(x) for x in _PAIR.findall(shape["points"])]
    return min(xs), max(xs)


def _sized(match: re.Match[str], width: float) -> str:
    if width <= 0 or not match["text"].strip():
        return match[0]
    return match[0].replace("<text ", f'<text textLength="{width:.2f}" lengthAdjust="spacingAndGlyphs" ', 1)


def _estimated(match: re.Match[str]) -> float:
    """About what a line is wide in Helvetica, in points."""
    size = re.search(r'font-size="([\d.]+)"', match[0])
    text = _ENTITY.sub("x", match["text"])
    ems = sum(0.28 if c in _NARROW else 0.85 if c in _WIDE else 0.69 if c.isupper() else 0.556 for c in text)
    return ems * float(size[1] if size else 14.0) * (1.07 if 'font-weight="bold"' in match[0] else 1.0)
