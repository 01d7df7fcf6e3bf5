"""The instruction set levels as ``qfx/kernels/core/isa.inc`` lists them, for docs and tests."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

LIST = Path(__file__).resolve().parent.parent / "qfx" / "kernels" / "core" / "isa.inc"
_LINE = re.compile(r'^QFX_ISA\((\w+), (\w+), (\w+), ([^"]+), "[^"]*", \w+\)$', re.MULTILINE)


@dataclass(frozen=True)
class Level:
    """One line of the list.

    Attributes:
        name: As ``QFX_ISA`` takes it.
        architecture: ``"x86"``, ``"arm"`` or ``"any"``.
        features: What its CPUs have, by the names of ``cpu_info()``; those of its parents too.
    """

    name: str
    architecture: str
    features: frozenset[str]


def levels() -> tuple[Level, ...]:
    """Every level, those of one architecture from the weakest up."""
    found: dict[str, Level] = {}
    for name, architecture, parent, adds in _LINE.findall(LIST.read_text(encoding="utf-8")):
        own = frozenset(part for part in adds.split(" | ") if part != "0")
        found[name] = Level(name, architecture, own | (found[parent].features if parent in found else frozenset()))
    return tuple(found.values())
