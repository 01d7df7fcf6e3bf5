"""Colours: Okabe and Ito's set for kinds and dtypes, which colour-blind people tell apart, and one scale of heat.

Okabe, Ito, "Color Universal Design" (2008). No picture says anything by colour alone: kinds differ in their border and
in the words of their label too.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """How a box looks.

    Attributes:
        text: What the legend says.
        fill: Colour inside.
        line: Colour of the border.
        style: Graphviz's style.
        shape: Graphviz's shape.
    """

    text: str
    fill: str
    line: str
    style: str = "rounded,filled"
    shape: str = "box"


KINDS = {
    "int8": Kind("int8 arithmetic", "#d3e8f5", "#0072b2"),
    "dynamic": Kind("int8 weights, activations quantized per call", "#d0efe4", "#009e73"),
    "weight_only": Kind("weights in fewer bits, float arithmetic", "#f3dfea", "#b0578d"),
    "float": Kind("float arithmetic", "#fbe8c8", "#c77f00"),
    "opaque": Kind("outside the op table: torch runs it", "#fdd9c4", "#d55e00", "rounded,filled,dashed,bold"),
    "quantize": Kind("quantize, dequantize", "#eef6fb", "#56b4e9", "filled"),
    "observer": Kind("observer", "#fffbe0", "#a39a00", "filled", "note"),
    "copy": Kind("copy at a border", "#f1f1f3", "#85858f", "filled"),
    "border": Kind("input, output", "#ffffff", "#55555f", "filled", "oval"),
    "elsewhere": Kind("stands in another column", "#ffffff", "#85858f", "filled,dashed"),
}

EDGES = {
    "code": Kind("8-bit integers on the edge", "#0072b2", "#0072b2"),
    "float": Kind("floats on the edge", "#c77f00", "#c77f00"),
    "other": Kind("other values on the edge", "#85858f", "#85858f"),
}

LINK = "#b0578d"
"""Of a connection between two levels."""

HEAT = ("#fffff0", "#fee8b0", "#fdbb6b", "#f0803c", "#c8402f", "#8b1a2b")


def heat(share: float) -> str:
    """From almost white at 0 to dark red at 1: its lightness falls evenly, so that it reads without hue."""
    position = min(max(share, 0.0), 1.0) * (len(HEAT) - 1)
    index = min(int(position), len(HEAT) - 2)
    parts = zip(_channels(HEAT[index]), _channels(HEAT[index + 1]), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * (position - index)):02x}" for a, b in parts)


def ink(fill: str) -> str:
    """Black or white, whichever reads better on ``fill``."""
    red, green, blue = _channels(fill)
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#ffffff"


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
