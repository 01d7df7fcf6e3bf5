"""The runtime's table of steps (``qfx/runtime/steps/schema.cc``), for reading."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

from qfx.runtime import _C

ANY, SPATIAL, RANK = -1, -2, -3
"""Counts of entries: any; one for each dim of operand 0 but the first and the last; one for each."""


@dataclass(frozen=True)
class Operand:
    """What a step reads; ``any``: the only operand, once or more."""

    name: str
    types: tuple[str, ...]
    presence: Literal["required", "optional", "any"]


@dataclass(frozen=True)
class Result:
    """What a step writes; without types, of the type of the first operand."""

    name: str
    types: tuple[str, ...]


@dataclass(frozen=True)
class Attribute:
    """What a step is told beside its operands.

    Attributes:
        name: Of the attribute.
        kind: Of each entry.
        about: What it is, if its name does not say it.
        count: How many entries: 1, more, :data:`ANY`, :data:`SPATIAL` or :data:`RANK`.
        required: Whether a step needs it.
        low, high: Between which integers and numbers are.
        fallback: What integers and numbers are where they are left out; one entry stands for all.
        types: Of a constant.
    """

    name: str
    kind: Literal["integer", "number", "expr", "constant", "text"]
    about: str
    count: int
    required: bool
    low: float
    high: float
    fallback: tuple[float, ...]
    types: tuple[str, ...]

    @property
    def is_flag(self) -> bool:
        return self.kind == "integer" and self.count == 1 and (self.low, self.high) == (0, 1)


@dataclass(frozen=True)
class Schema:
    """One operation of the program format; ``flags``: what the planner may do with it."""

    op: str
    about: str
    operands: tuple[Operand, ...]
    results: tuple[Result, ...]
    attributes: tuple[Attribute, ...]
    flags: tuple[str, ...]


@functools.cache
def schemas() -> dict[str, Schema]:
    """Every operation by its name."""
    found = {}
    for row in _C.step_schemas():
        found[row["op"]] = Schema(
            row["op"],
            row["about"],
            tuple(Operand(name, tuple(types), presence) for name, types, presence in row["operands"]),
            tuple(Result(name, tuple(types)) for name, types in row["results"]),
            tuple(
                Attribute(**a | {"fallback": tuple(a["fallback"]), "types": tuple(a["types"])})
                for a in row["attributes"]
            ),
            tuple(row["flags"]),
        )
    return found
