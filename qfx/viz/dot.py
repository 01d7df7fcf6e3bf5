"""Scenes in Graphviz's language."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from qfx.viz import palette
from qfx.viz.columns import columns_of
from qfx.viz.far import FAR, far_arrows
from qfx.viz.scene import Arrow, Box, Grove, Heat, Scene, Value, grouped

_FONT = "Helvetica"
_LONG = 44
"""Characters of a line that a label shows; the whole text is in the tooltip."""
_MANY = 400
"""Arrows from which on labels are kept short, so that laying them out stays quick."""
_LABELLED = 1500
"""Arrows from which on only their tooltips say what they carry."""


@dataclass(frozen=True)
class Style:
    """What to draw of a scene besides boxes and arrows.

    Attributes:
        heat: A number a box, shown as its colour.
        clusters: Whether frames show the modules or programs that boxes lie in.
        legend: Whether a box explains the colours.
        columns: Whether a long picture is cut into columns.
        prefix: Put before names, so that two scenes fit into one picture.
        marks: A line more for the labels of some boxes, by name.
    """

    heat: Heat | None = None
    clusters: bool = True
    legend: bool = True
    columns: bool = True
    prefix: str = ""
    marks: Mapping[str, str] = field(default_factory=dict)


def write_dot(scene: Scene, style: Style, title: str = "") -> str:
    """The picture of one scene."""
    columns = columns_of(scene) if style.columns else [scene]
    lines = [*header(title)]
    for index, column in enumerate(columns):
        lines += body(column, style, f"{index}-") if len(columns) > 1 else body(column, style)
    if style.legend:
        boxes = tuple(box for column in columns for box in column.boxes)
        lines += legend(Scene(scene.level, boxes, scene.arrows), style.heat)
    return "\n".join([*lines, "}\n"])


def header(title: str, newrank: str = "false") -> Iterator[str]:
    """The head of a picture, up to its first box."""
    yield "digraph qfx {"
    yield _row("graph", rankdir="TB", fontname=_FONT, fontsize="12", ranksep="0.3", nodesep="0.25", label=title,
               labelloc="t", newrank=newrank, nslimit="4", nslimit1="4", pad="0.2")  # fmt: skip
    yield _row("node", fontname=_FONT, fontsize="12", margin="0.12,0.06", height="0.3", penwidth="1.2")
    yield _row("edge", fontname=_FONT, fontsize="9", arrowsize="0.6", penwidth="1.2")


def body(scene: Scene, style: Style, column: str = "") -> Iterator[str]:
    """Boxes in their frames, and arrows; ``column`` stands before the names of frames, each of which is in one only."""
    grove = grouped(scene) if style.clusters else Grove(boxes=list(scene.boxes))
    yield from _grove(grove, style, column)
    short, labelled = len(scene.arrows) > _MANY, len(scene.arrows) <= _LABELLED
    told: set[tuple[str, Value]] = set()
    far = far_arrows(scene)
    for index, arrow in enumerate(scene.arrows):
        first = (arrow.source, arrow.value) not in told
        told.add((arrow.source, arrow.value))
        label = _flow(arrow.value, short) if first and labelled and index not in far else ""
        drawn = _arrow(arrow, f"{style.prefix}{column}arrow-{index}", style, label)
        yield f"{drawn.removesuffix('];')}, {FAR}" if index in far else drawn


def _grove(grove: Grove, style: Style, column: str) -> Iterator[str]:
    for box in grove.boxes:
        yield _box(box, style)
    for group in grove.groups.values():
        yield f"subgraph {_quoted(f'cluster_{style.prefix}{column}{group.path[-1]}')} {{"
        yield _row("graph", label=_shortened(group.path[-1]), style="rounded", color="#b9b9c3", fontcolor="#55555f",
                   fontsize="10", labeljust="l", tooltip=group.path[-1], margin="10",
                   id=f"{style.prefix}{column}frame-{group.path[-1]}")  # fmt: skip
        yield from _grove(group, style, column)
        yield "}"


def _box(box: Box, style: Style) -> str:
    kind = palette.KINDS[box.kind]
    share = style.heat.share(box.name) if style.heat else None
    fill = kind.fill if style.heat is None else "#ffffff" if share is None else palette.heat(share)
    attributes = {
        "label": _label(box, style, palette.ink(fill)),
        "shape": kind.shape,
        "style": kind.style,
        "color": kind.line,
        "fillcolor": fill,
        "tooltip": tooltip(box),
        "id": f"{style.prefix}box-{box.name}",
        "class": f"kind-{box.kind}",
    }
    return _row(_quoted(style.prefix + box.name), **attributes)


def _label(box: Box, style: Style, ink: str) -> _Markup:
    """As Graphviz's HTML-like label; every text in it is escaped."""
    grey = "#4a4a52" if ink == "#000000" else "#f0f0f0"
    small = [_shortened(box.module_path)] if box.module_path else []
    small += [_shortened(note) for note in box.notes[:1] if box.says_notes]
    small += [_shortened(box.reason)] if box.kind == "opaque" and box.reason else []
    number = style.heat.values.get(box.name) if style.heat else None
    small += [f"{number:.3g}"] if number is not None else []
    head = f'<FONT COLOR="{ink}"><B>{_escaped(_shortened(box.title))}</B></FONT>'
    rest = "".join(f'<BR/><FONT POINT-SIZE="9" COLOR="{grey}">{_escaped(line)}</FONT>' for line in small)
    mark = style.marks.get(box.name)
    if mark:
        rest += f'<BR/><FONT POINT-SIZE="9" COLOR="{palette.LINK}">{_escaped(_shortened(mark))}</FONT>'
    return _Markup(f"<{head}{rest}>")


def tooltip(box: Box) -> str:
    """Everything known of a box, a line each."""
    value = " ".join(filter(None, (box.value.dtype, box.value.size)))
    lines = [
        f"{box.name}: {box.title}",
        *(f"{name}: {text}" for name, text in (
            ("module", box.module_path), ("source", box.source), ("why", box.reason), ("result", value),
            ("qparams", box.value.grid), ("runs inside", ", ".join(box.fused)),
            ("rules", ", ".join(dict.fromkeys(rule for rule, _ in box.rules))), ("also", "; ".join(box.notes)),
        ) if text),
    ]  # fmt: skip
    return "\n".join(lines)


def _arrow(arrow: Arrow, name: str, style: Style, label: str) -> str:
    colour = palette.EDGES[flow_kind(arrow.value)].line
    ends = f"{_quoted(style.prefix + arrow.source)} -> {_quoted(style.prefix + arrow.target)}"
    text = {"label": label} if label else {}
    about = " ".join(filter(None, (arrow.value.dtype, arrow.value.size, arrow.value.grid)))
    told = f"{arrow.source} to {arrow.target}: {about}"
    return _row(ends, color=colour, fontcolor="#4a4a52", id=name, tooltip=told, **text)


def flow_kind(value: Value) -> str:
    """A row of :data:`qfx.viz.palette.EDGES`."""
    if value.qparams is not None:
        return "code"
    return "float" if "float" in value.dtype else "other"


def _flow(value: Value, short: bool) -> str:
    """What an arrow carries: shape, dtype and qparams."""
    if short:
        return value.size
    grid = ""
    if value.qparams is not None and not isinstance(value.qparams.scale, tuple):
        grid = f" {value.qparams.scale:.3g}, {value.qparams.zero_point}"
    return "\n".join(filter(None, (value.size, f"{value.dtype}{grid}")))


def legend(scene: Scene, heat: Heat | None) -> Iterator[str]:
    """A frame that says what the colours mean, of what the picture shows."""
    rows = [_swatch(k.fill, k.line, k.text) for name, k in palette.KINDS.items() if _has(scene, name)]
    if heat is not None:
        low, high = heat.ends()
        rows = [_swatch(palette.heat(i / 4), "#85858f", _step(heat, i / 4, low, high)) for i in range(5)]
        rows = [f'<TR><TD COLSPAN="2" ALIGN="LEFT"><B>{_escaped(heat.title)}</B></TD></TR>', *rows]
    kinds = dict.fromkeys(flow_kind(arrow.value) for arrow in scene.arrows)
    rows += [_swatch(palette.EDGES[k].line, palette.EDGES[k].line, palette.EDGES[k].text) for k in kinds]
    table = f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="3" CELLPADDING="2">{"".join(rows)}</TABLE>'
    yield _row("legend", label=_Markup(f"<{table}>"), shape="box", style="rounded", color="#b9b9c3", fontsize="9",
               tooltip="legend", id="legend")  # fmt: skip


def _step(heat: Heat, share: float, low: float, high: float) -> str:
    return f"{low + (high - low) * share:.3g}"


def _has(scene: Scene, kind: str) -> bool:
    return any(box.kind == kind for box in scene.boxes)


def _swatch(fill: str, line: str, text: str) -> str:
    cell = f'<TD BORDER="1" COLOR="{line}" BGCOLOR="{fill}" WIDTH="18"></TD>'
    return f'<TR>{cell}<TD ALIGN="LEFT">{_escaped(text)}</TD></TR>'


# ---------------------------------------------------------------- the language


def _row(head: str, **attributes: str) -> str:
    return f"{head} [{', '.join(f'{key}={_text(value)}' for key, value in attributes.items())}];"


class _Markup(str):
    """An HTML-like label that this module wrote; every text in it is escaped."""


def _text(value: str) -> str:
    return value if isinstance(value, _Markup) else _quoted(value)


def _quoted(text: str) -> str:
    escaped = _printable(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _escaped(text: str) -> str:
    return html.escape(_printable(text))


def _printable(text: str) -> str:
    """Without what neither XML nor a C string may hold."""
    return "".join(c if c == "\n" or c.isprintable() else "�" for c in text)


def _shortened(text: str) -> str:
    """A line as a label shows it: the middle of a long one is left out."""
    if len(text) <= _LONG:
        return text
    return f"{text[: _LONG // 2]}…{text[-(_LONG // 2 - 1) :]}"


def connect(source: str, target: str, about: str) -> str:
    """A dashed connection between two levels."""
    ends = f"{_quoted(source)} -> {_quoted(target)}"
    look = {"style": "dashed", "color": palette.LINK, "arrowhead": "vee", "tailport": "e", "headport": "w"}
    return _row(ends, **look, constraint="false", tooltip=about)


def same_row(*names: str) -> str:
    """Boxes that stand at one height."""
    return f"{{ rank=same; {'; '.join(map(_quoted, names))}; }}"
