"""One file's text to its migrated text and the places that need a hand."""

from __future__ import annotations

from dataclasses import dataclass

import libcst as cst
from libcst.metadata import MetadataWrapper

from qfx.migrate.edits import Edit
from qfx.migrate.imports import plan_of
from qfx.migrate.names import Names, names
from qfx.migrate.plan import Finding
from qfx.migrate.scopes import Analysis
from qfx.migrate.stars import with_names


@dataclass(frozen=True)
class Migrated:
    """The text afterwards, in the encoding of the text before, and what is left."""

    text: bytes
    findings: tuple[Finding, ...]


def migrate(text: bytes, table: Names | None = None) -> Migrated:
    """``text`` with the names of ``table``; comments and formatting stay.

    Raises:
        libcst.ParserSyntaxError: ``text`` is not Python.
    """
    table = table or names()
    wrapper = MetadataWrapper(with_names(cst.parse_module(text), table))
    plan = plan_of(Analysis(wrapper), table)
    return Migrated(wrapper.module.visit(Edit(plan)).bytes, tuple(plan.findings))
