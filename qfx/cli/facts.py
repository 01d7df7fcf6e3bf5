"""What a command found out: for people and for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qfx.columns import table as lines_of_table


@dataclass(frozen=True)
class Facts:
    """The result of a command.

    Attributes:
        text: What it prints.
        data: What it prints with ``--json``.
        status: The exit status.
    """

    text: str
    data: Mapping[str, Any] = field(default_factory=dict)
    status: int = 0


def as_json(data: Any) -> str:
    """``data`` as JSON, on one line; a number that is not finite is null."""
    return json.dumps(finite(data), allow_nan=False)


def finite(data: Any) -> Any:
    """``data`` with None for every float that JSON can't say."""
    if isinstance(data, Mapping):
        return {str(key): finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width under their names."""
    return "\n".join(lines_of_table([columns, *rows], ruled=False))


def size(count: float) -> str:
    """Bytes in the unit that reads best: ``"512 B"``, ``"12.3 kB"``, ``"4.56 MB"`` (powers of ten)."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def decibel(sqnr: float | None) -> str:
    """A ratio for people."""
    return "not measured" if sqnr is None else f"{sqnr:.1f} dB"
