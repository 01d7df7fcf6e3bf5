"""Tables in plain text, as wide as the terminal that shows them."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence

_GAP = "  "
_LEAST = 12
"""Characters that a shortened column keeps."""
_FALLBACK = (120, 24)
"""Columns and lines where there is no terminal."""


def terminal_width() -> int:
    """Columns of the terminal; of ``COLUMNS`` where that is set; 120 where there is neither."""
    return shutil.get_terminal_size(_FALLBACK).columns


def table(
    rows: Sequence[Sequence[str]], *, width: int | None = None, elastic: Collection[str] = (), ruled: bool = True
) -> list[str]:
    """Lines of a table.

    Args:
        rows: Names of columns, then a row a line.
        width: The most characters that a line may have; None for any.
        elastic: Names of the columns whose cells may lose their middle to keep the width, the widest first. What
            does not fit even so is left as it is.
        ruled: Whether a rule stands under the names.
    """
    widths = _fitted([max(map(len, column)) for column in zip(*rows, strict=True)], rows[0], width, elastic)
    lines = [_line(row, widths) for row in rows]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]] if ruled else lines


def shortened(text: str, width: int) -> str:
    """``text``, or its head and tail around an ellipsis where it is longer than ``width``."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 3
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (shortened(cell, width).ljust(width) for cell, width in zip(row, widths, strict=True))
    return _GAP.join(cells).rstrip()


def _fitted(widths: list[int], names: Sequence[str], limit: int | None, elastic: Collection[str]) -> list[int]:
    """``widths`` with the widest elastic columns taken in until the table fits ``limit``."""
    over = sum(widths) + len(_GAP) * (len(widths) - 1) - limit if limit is not None else 0
    may = [i for i, name in enumerate(names) if name in elastic]
    while over > 0 and any(widths[i] > _LEAST for i in may):
        widest = max(may, key=lambda i: widths[i])
        widths[widest] -= 1
        over -= 1
    return widths
