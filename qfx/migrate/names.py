"""The table of old and new names, and how a dotted name of torch is found in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

TABLE = Path(__file__).with_name("names.tsv")
KINDS = ("name", "module", "alias", "same", "idea", "hand")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        id: Its number in the inventory (``"S077"``); empty for names beyond it.
        kind: ``name`` is rewritten to ``new``; so is ``module``, with what lies below it; ``alias`` is another path to
            the module ``new``; ``same`` stays as it is written, for torch's own functions take QTensors; ``idea`` is
            no name but something to rely on; ``hand`` has no counterpart, and ``what`` says what to do.
        old: The dotted name in torch, or words for an idea.
        new: Dotted names in qfx, the first of which ``old`` is rewritten to.
        keywords: ``a>b`` for an argument with another name, ``-a`` for one that qfx does not take.
        what: What holds, in short.
    """

    id: str
    kind: str
    old: str
    new: tuple[str, ...]
    keywords: str
    what: str

    @property
    def renamed(self) -> dict[str, str]:
        """Arguments that have another name in qfx."""
        return dict(word.split(">") for word in self.keywords.split() if ">" in word)

    @property
    def refused(self) -> frozenset[str]:
        """Arguments that qfx does not take."""
        return frozenset(word[1:] for word in self.keywords.split() if word.startswith("-"))


@lru_cache(maxsize=1)
def rows() -> tuple[Row, ...]:
    """The whole table, in its order."""
    lines = TABLE.read_text(encoding="utf-8").splitlines()[1:]
    return tuple(_row(*line.split("\t")) for line in lines)


def _row(id: str, kind: str, old: str, new: str, keywords: str, what: str) -> Row:
    return Row(id, kind, old, tuple(new.split()), keywords, what)


def below(name: str, module: str) -> bool:
    """Whether the dotted ``name`` is ``module`` or lies in it."""
    return name == module or name.startswith(module + ".")


@dataclass(frozen=True)
class Names:
    """The rows that say where a name went, by dotted name."""

    table: tuple[Row, ...]

    @cached_property
    def _exact(self) -> dict[str, Row]:
        return {row.old: row for row in self.table if row.kind in ("name", "module", "hand")}

    @cached_property
    def _aliases(self) -> dict[str, str]:
        return {row.old: row.new[0] for row in self.table if row.kind == "alias"}

    @cached_property
    def _modules(self) -> dict[str, Row]:
        return {row.old: row for row in self.table if row.kind == "module"}

    @cached_property
    def _new_modules(self) -> frozenset[str]:
        return frozenset(row.new[0] for row in self._modules.values())

    def find(self, name: str) -> Row | None:
        """The row of exactly ``name``, by whatever path it is written."""
        if name in self._exact:
            return self._exact[name]
        shorter = self._shorter(name)
        return None if shorter is None else self.find(shorter)

    def find_module(self, name: str) -> Row | None:
        """The row of the module ``name``, where a function may have the same name."""
        if name in self._modules:
            return self._modules[name]
        shorter = self._shorter(name)
        return None if shorter is None else self.find_module(shorter)

    def _shorter(self, name: str) -> str | None:
        paths = [path for path in self._aliases if below(name, path)]
        if not paths:
            return None
        path = max(paths, key=len)
        return self._aliases[path] + name[len(path) :]

    def longest(self, parts: tuple[str, ...]) -> tuple[int, Row] | None:
        """How many leading ``parts`` name something in the table, and its row."""
        for count in range(len(parts), 0, -1):
            row = self.find(".".join(parts[:count]))
            if row is not None:
                return count, row
        return None

    def concerns(self, name: str) -> bool:
        """Whether ``name`` belongs to torch's quantization, known to the table or not."""
        return any(below(name, path) for path in (*self._modules, *self._aliases)) or self.find(name) is not None

    def module_of(self, new: str) -> str:
        """The module of qfx to import for the dotted name ``new``."""
        return max((m for m in self._new_modules if below(new, m)), key=len, default="qfx")


@lru_cache(maxsize=1)
def names() -> Names:
    """The table as it is shipped."""
    return Names(rows())
