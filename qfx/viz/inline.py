"""Views for notebooks: pictures of models, tables of what is told node by node. See :mod:`qfx.inline`."""

from __future__ import annotations

import html
from collections.abc import Sequence
from functools import singledispatch
from typing import Any

from qfx.comparison import Comparison
from qfx.errors import QfxError
from qfx.ir.module import GraphCarrier
from qfx.lowering.explain import ModelExplanation
from qfx.passes.report import Report
from qfx.runtime import Explanation
from qfx.viz.dot import Style, write_dot
from qfx.viz.read import LEVELS, read
from qfx.viz.render import inline_svg

_MOST = 400
"""Boxes that a picture in a notebook may have."""

_TOO_LARGE = "Too large to show here: qfx.draw(model, 'graph.svg'), or qfx.write_report('page.html', model)."

_FRAME = "max-height:32em;overflow:auto;border:1px solid #b9b9c3;border-radius:6px"
_CELL = "text-align:left;white-space:nowrap;padding:2px 8px"


@singledispatch
def as_html(thing: Any) -> str:
    """``thing`` as HTML for a notebook."""
    return f"<pre>{html.escape(repr(thing))}</pre>"


@as_html.register
def _(model: GraphCarrier) -> str:
    try:
        scene = read(model)
        title = f"{type(model).__name__}: {LEVELS[scene.level].title}, {len(scene.boxes)} nodes"
        if len(scene.boxes) > _MOST:
            return _note(title, _TOO_LARGE)
        picture = inline_svg(write_dot(scene, Style()))
    except QfxError as error:
        return _note(type(model).__name__, str(error))
    return f'<div><b>{html.escape(title)}</b><div style="{_FRAME};background:#fff;padding:8px">{picture}</div></div>'


@as_html.register
def _(report: Report) -> str:
    return _table(report.cells(), "; ".join(report.summary()))


@as_html.register
def _(comparison: Comparison) -> str:
    return _table(comparison.cells(), str(comparison).splitlines()[-1])


@as_html.register
def _(plan: ModelExplanation) -> str:
    return "".join(
        _table(part.cells(), f"program {i}, {part.isa}") if isinstance(part, Explanation)
        else _note(f"{i}: in torch", ", ".join(part))
        for i, part in enumerate(plan.parts)
    )  # fmt: skip


def _note(title: str, text: str) -> str:
    return f"<div><b>{html.escape(title)}</b><pre>{html.escape(text)}</pre></div>"


def _table(cells: Sequence[Sequence[str]], caption: str) -> str:
    head, *rows = cells
    lines = [_line("th", head), *(_line("td", row) for row in rows)]
    table = f"<table>{''.join(lines)}</table>"
    return f'<div><b>{html.escape(caption)}</b><div style="{_FRAME}">{table}</div></div>'


def _line(tag: str, cells: Sequence[str]) -> str:
    opened = f'<{tag} style="{_CELL}">'
    return f"<tr>{''.join(f'{opened}{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"
