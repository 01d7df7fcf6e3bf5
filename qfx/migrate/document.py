"""The tables of docs/migrating.md, from the table of names."""

from __future__ import annotations

from collections.abc import Iterable

from qfx.migrate.names import Row, rows

BEGIN = "<!-- the tables below come from qfx/migrate/names.tsv: pytest tests/migrate --update-golden -->"
SPELLED = {
    "name": "rewritten",
    "module": "rewritten",
    "same": "stays",
    "idea": "",
    "hand": "by hand",
}


def document(text: str) -> str:
    """``text``, a page that holds BEGIN, with the tables after it."""
    prose, found, _ = text.partition(BEGIN)
    assert found, f"the page has no line {BEGIN}"
    return f"{prose}{BEGIN}\n\n{tables()}"


def tables() -> str:
    """Both tables as Markdown: the inventory, and the names beyond it."""
    inventory = [row for row in rows() if row.id]
    beyond = [row for row in rows() if not row.id and row.kind in ("name", "module")]
    by_hand = [row for row in rows() if row.kind == "hand"]
    paths = [row for row in rows() if row.kind == "alias"]
    return "\n".join(
        [
            "### The inventory",
            "",
            *_table(("", "in torch", "in qfx", "the tool", "what holds"), map(_inventory_cells, inventory)),
            "",
            "### Names beyond it",
            "",
            *_table(("in torch", "in qfx", "what holds"), ((_old(r), _new(r), r.what) for r in beyond)),
            "",
            "### What needs a hand",
            "",
            *_table(("in torch", "what to do"), ((_old(r), r.what) for r in by_hand)),
            "",
            "### Other paths to the same names",
            "",
            *_table(("path", "read as"), ((_old(r), _new(r)) for r in paths)),
            "",
        ]
    )


def _inventory_cells(row: Row) -> tuple[str, ...]:
    return row.id, _old(row), _new(row), SPELLED[row.kind], row.what


def _old(row: Row) -> str:
    return f"`{row.old}`" if row.old.startswith("torch.") else row.old


def _new(row: Row) -> str:
    return " ".join(f"`{name}`" for name in row.new)


def _table(head: tuple[str, ...], cells: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [head, tuple("---" for _ in head), *cells]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
