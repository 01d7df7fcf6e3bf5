"""What is to become of a file: the edits, and the places that need a hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import libcst as cst

from qfx.migrate.names import Row
from qfx.migrate.scopes import Statement


@dataclass(frozen=True, order=True)
class Finding:
    """A place that needs a hand: line and column from 1, what stands there, what to do."""

    line: int
    column: int
    name: str
    remedy: str


@dataclass(frozen=True)
class Target:
    """What an import brings in instead: ``from module import name as bound``, or ``import name as bound``."""

    module: str | None
    name: str
    bound: str | None


@dataclass
class Plan:
    """The edits of one file.

    Attributes:
        chains: New dotted text for expressions.
        keywords: New names of arguments.
        imports: What each part of an import becomes; parts that are not here stay.
        added: Modules to import after a statement.
        dropped: Star imports of which nothing is used.
        findings: What is left for a hand.
    """

    chains: dict[cst.CSTNode, str] = field(default_factory=dict)
    keywords: dict[cst.Arg, str] = field(default_factory=dict)
    imports: dict[cst.ImportAlias, list[Target]] = field(default_factory=dict)
    added: dict[Statement, list[str]] = field(default_factory=dict)
    dropped: list[cst.ImportFrom] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def remedy_of(row: Row, parts: Iterable[str], count: int) -> str:
    if row.kind == "hand":
        return row.what
    return f"{row.new[0]} has no {'.'.join(list(parts)[count:])}; docs/migrating.md lists what there is"
