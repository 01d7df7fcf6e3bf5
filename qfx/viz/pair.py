"""Two levels side by side, each node connected with what became of it and by which rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qfx.viz.dot import Style, body, connect, header, legend, same_row
from qfx.viz.read import LEVELS
from qfx.viz.scene import Scene


@dataclass(frozen=True)
class Link:
    """What became of a node.

    Attributes:
        source: Its name at the left level.
        target: The name, at the right level, of what it became or runs in.
        rules: What made it so, in order; empty where it only stays.
    """

    source: str
    target: str
    rules: tuple[str, ...]


def links(left: Scene, right: Scene) -> Iterator[Link]:
    """Every connection between two levels of one model; a node that has none is gone without a trace."""
    for box in right.boxes:
        taken = {name: [rule for rule, names in box.rules if name in names] for _, of in box.rules for name in of}
        for name in box.fused:
            taken.setdefault(name, [])
        for name, rules in taken.items():
            if name in left.by_name and name not in right.by_name:
                yield Link(name, box.name, tuple(dict.fromkeys(rules)))
        if box.name in left.by_name:
            yield Link(box.name, box.name, ())


def write_pair(left: Scene, right: Scene, style: Style) -> str:
    """The picture of both; nodes that are the same stand in one row."""
    found = list(links(left, right))
    gone = {box.name: "gone" for box in left.boxes if box.name not in {link.source for link in found}}
    marks = gone | {link.source: ", ".join(link.rules) for link in found if link.rules}
    looks = {
        "left-": Style(None, clusters=False, prefix="left-", marks=marks),
        "right-": Style(style.heat, clusters=False, prefix="right-"),
    }
    lines = list(header("", newrank="true"))
    for scene, (prefix, look) in zip((left, right), looks.items(), strict=True):
        lines.append(f'subgraph "cluster_{prefix}" {{ label="{LEVELS[scene.level].title}"; color="#85858f";')
        lines += [*body(scene, look), "}"]
    for link in found:
        lines.append(connect(f"left-{link.source}", f"right-{link.target}", ", ".join(link.rules) or "stays"))
        if link.source == link.target:
            lines.append(same_row(f"left-{link.source}", f"right-{link.target}"))
    if style.legend:
        both = Scene(right.level, (*left.boxes, *right.boxes), (*left.arrows, *right.arrows))
        lines += legend(both, style.heat)
    return "\n".join([*lines, "}\n"])
