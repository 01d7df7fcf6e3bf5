"""What becomes of each use of a name, and which names of modules keep their meaning."""

from __future__ import annotations

from dataclasses import dataclass

import libcst as cst
from libcst.metadata import Scope

from qfx.migrate.names import Names, Row, below
from qfx.migrate.plan import Finding, Plan, remedy_of
from qfx.migrate.scopes import Analysis, Chain, Source, Use, Variable


@dataclass(frozen=True)
class Move:
    """A use that has a new name: the row, and how many attributes after the first name the row covers."""

    row: Row
    depth: int


class Uses:
    """Decides for every use of one file.

    Attributes:
        plan: The edits so far.
        moves: Uses that have a new name.
        left: Uses that need a hand, and why.
        stuck: Names of old modules that keep their meaning.
        needed: For each variable the modules of qfx to import where it is imported.
    """

    def __init__(self, analysis: Analysis, names: Names) -> None:
        self.analysis, self.names = analysis, names
        self.plan = Plan()
        self.moves: dict[Use, Move] = {}
        self.left: dict[Use, str] = {}
        self.needed: dict[Variable, list[str]] = {}
        self._followers = {s.value: v for v in analysis.variables for s in v.sources if s.value is not None}
        for variable in analysis.variables:
            for use in variable.uses:
                self._classify(use)
        self.stuck = self._stuck_variables()
        for variable in analysis.variables:
            self._rewrite_uses(variable)

    def _classify(self, use: Use) -> None:
        found = [(parts, self.names.longest(parts)) for parts in use.meanings()]
        hits = [(parts, hit) for parts, hit in found if hit is not None]
        if not hits:
            return
        if len(hits) < len(found) or (use.variable.foreign and not self._is_item(use.variable)):
            self.left[use] = f"{use.variable.name} may stand for something else here; import it under one name"
            return
        moves = set()
        for parts, (count, row) in hits:
            if row.kind == "hand" or (row.kind == "module" and count < len(parts)):
                self.left[use] = remedy_of(row, parts, count)
                return
            moves.add((row.new, count - (len(parts) - len(use.rest)), row))
        if len({(new, depth) for new, depth, _ in moves}) > 1:
            self.left[use] = f"{use.variable.name} stands for two things here; import one of them"
            return
        _, depth, row = moves.pop()
        self.moves[use] = Move(row, depth)

    def own(self, source: Source) -> Row | None:
        """The row of the variable itself, where an import or assignment makes it one."""
        name = ".".join(source.parts)
        if isinstance(source.statement, cst.Import):
            bare = source.alias is not None and source.alias.asname is None
            return None if bare else self.names.find_module(name)
        return self.names.find(name)

    def _is_item(self, variable: Variable) -> bool:
        """Whether every import of ``variable`` is itself a name of the table, such as a function."""
        rows = [self.own(source) for source in variable.sources]
        return bool(rows) and all(row is not None and row.kind == "name" for row in rows)

    def is_module(self, variable: Variable) -> bool:
        rows = [self.own(source) for source in variable.sources]
        return any(row is not None and row.kind == "module" for row in rows)

    def _stuck_variables(self) -> set[Variable]:
        """Names of old modules that keep their meaning, because something is taken from them that has no new name."""
        modules = [v for v in self.analysis.variables if self.is_module(v)]
        stuck = {v for v in modules if v.foreign or any(use in self.left for use in v.uses)}
        stuck |= {v for v in modules if any(getattr(self.own(s), "kind", None) != "module" for s in v.sources)}
        while True:
            held = {self.analysis.by_value[s.value].variable for v in stuck for s in v.sources if s.value is not None}
            if held & set(modules) <= stuck:
                return stuck
            stuck |= held & set(modules)

    def new_module(self, variable: Variable) -> str:
        """The module of qfx that a module's name stands for afterwards: the one that holds everything taken from it."""
        moves = [(use, self.moves[use]) for use in variable.uses if use in self.moves]
        taken = {self._goal(use, move) for use, move in moves}
        taken = {new if self._is_module_name(new) else self.names.module_of(new) for new in taken}
        if len(taken) == 1:
            return taken.pop()
        own = self.own(variable.sources[0])
        assert own is not None
        return own.new[0]

    def _is_module_name(self, new: str) -> bool:
        return self.names.module_of(new) == new

    def _goal(self, use: Use, move: Move) -> str:
        follower = self._followers.get(use.node)
        if follower is not None and move.row.kind == "module" and follower not in self.stuck:
            return self.new_module(follower)
        return move.row.new[0]

    def _rewrite_uses(self, variable: Variable) -> None:
        base = self.new_module(variable) if self.is_module(variable) and variable not in self.stuck else None
        for use in variable.uses:
            if use in self.left:
                if not self._told_at_import(variable):
                    self.tell(use.node, _text(use), self.left[use])
            elif use in self.moves:
                self._rewrite_use(use, self.moves[use], base)

    def _told_at_import(self, variable: Variable) -> bool:
        return any(
            hit is not None and (hit[1].kind == "hand" or hit[0] < len(source.parts))
            for source in variable.sources
            for hit in [self.names.longest(source.parts)]
        )

    def _rewrite_use(self, use: Use, move: Move, base: str | None) -> None:
        follower = self._followers.get(use.node)
        if follower in self.stuck and move.row.kind == "module":
            return
        self._rewrite_keywords(use, move)
        if move.depth <= 0 and base is None:
            return
        new = self._goal(use, move)
        if base is not None and below(new, base):
            text = use.variable.name + new[len(base) :]
            if not below(base, self.names.module_of(new)) and self._qfx_is_free(use.scope):
                self._need(use.variable, new)
        elif self._qfx_is_free(use.scope):
            text = new
            self._need(use.variable, new)
        else:
            self.left[use] = "the name qfx means something else here; rename that, and run this again"
            self.tell(use.node, _text(use), self.left[use])
            return
        if move.row.kind == "module" and follower is None:
            self.tell(use.node, _text(use), f"check what is taken from it: it becomes {new}")
        node = _head(use, move.depth)
        if text != _text(use, move.depth):
            self.plan.chains[node] = text

    def _rewrite_keywords(self, use: Use, move: Move) -> None:
        if use.call is None or use.rest[max(move.depth, 0) :] not in ((), ("with_args",)):
            return
        for arg in use.call.args:
            name = arg.keyword.value if arg.keyword is not None else ""
            if name in move.row.renamed:
                self.plan.keywords[arg] = move.row.renamed[name]
            elif name in move.row.refused:
                remedy = f"{move.row.new[0]} has no such argument; leave it out, or give it by position"
                self.tell(arg, f"{_text(use)}({name}=...)", remedy)

    def _qfx_is_free(self, scope: Scope) -> bool:
        bound = self.analysis.variable(scope, "qfx")
        return bound is None or (not bound.foreign and all(s.parts == ("qfx",) for s in bound.sources))

    def _need(self, variable: Variable, new: str) -> None:
        """Import the module of ``new`` where ``variable`` is imported."""
        while not variable.imports:
            value = variable.sources[0].value
            assert value is not None
            variable = self.analysis.by_value[value].variable
        module = self.names.module_of(new)
        needed = self.needed.setdefault(variable, [])
        if module not in needed:
            needed.append(module)

    def tell(self, node: cst.CSTNode, name: str, remedy: str) -> None:
        self.plan.findings.append(Finding(*self.analysis.position(node), name, remedy))


def _text(use: Use, depth: int | None = None) -> str:
    return ".".join((use.variable.name, *use.rest[:depth]))


def _head(use: Use, depth: int) -> Chain:
    """The part of the expression that ends ``depth`` attributes after its first name."""
    node = use.node
    for _ in range(len(use.rest) - max(depth, 0)):
        assert isinstance(node, cst.Attribute)
        assert isinstance(node.value, (cst.Name, cst.Attribute))
        node = node.value
    return node
