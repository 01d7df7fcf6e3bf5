"""What becomes of each import, and what is imported besides."""

from __future__ import annotations

import re

import libcst as cst
from libcst.metadata import Scope

from qfx.migrate.names import Names, below
from qfx.migrate.plan import Plan, Target, remedy_of
from qfx.migrate.scopes import Analysis, Source, Statement, Variable, dotted
from qfx.migrate.scripting import tell_scripted
from qfx.migrate.stars import is_needed
from qfx.migrate.uses import Uses

DOTTED = re.compile(r"torch(ao)?(\.\w+)+")


def plan_of(analysis: Analysis, names: Names) -> Plan:
    """The edits of one file."""
    uses = Uses(analysis, names)
    Imports(uses)
    tell_literals(uses)
    tell_scripted(uses)
    uses.plan.findings.sort()
    return uses.plan


class Imports:
    """Decides for every import of one file, after its uses; the edits go into their plan."""

    def __init__(self, uses: Uses) -> None:
        self.uses, self.analysis, self.names, self.plan = uses, uses.analysis, uses.names, uses.plan
        self._provided: list[tuple[Scope, str, tuple[int, int]]] = []
        for variable in self.analysis.variables:
            self._rewrite_imports(variable)
        for variable in sorted(uses.needed, key=lambda v: self.analysis.position(self._homes(v)[0])):
            self._add(variable)

    def _rewrite_imports(self, variable: Variable) -> None:
        dropped: list[Source] = []
        for source in variable.imports:
            assert source.alias is not None
            if isinstance(source.statement, cst.Import) and source.alias.asname is None:
                if self._drops(source, variable):
                    dropped.append(source)
            else:
                self._rewrite_alias(source, variable)
        self._replace_dropped(dropped, variable)

    def _rewrite_alias(self, source: Source, variable: Variable) -> None:
        assert source.alias is not None
        row = self.uses.own(source)
        if row is None or row.kind == "hand":
            hit = self.names.longest(source.parts)
            if hit is not None:
                self.uses.tell(source.alias, ".".join(source.parts), remedy_of(hit[1], source.parts, hit[0]))
        elif row.kind == "module":
            if variable not in self.uses.stuck:
                self.plan.imports[source.alias] = [
                    _module_target(source, self.uses.new_module(variable), variable.name)
                ]
        else:
            module = self.names.module_of(row.new[0])
            leaf = row.new[0][len(module) + 1 :]
            if "." in leaf:
                self.uses.tell(source.alias, ".".join(source.parts), f"write {row.new[0]}")
            else:
                self.plan.imports[source.alias] = [Target(module, leaf, variable.name)]

    def _drops(self, source: Source, variable: Variable) -> bool:
        """Whether ``import torch.quantization`` is no longer needed by anything that stays."""
        assert source.alias is not None
        path = _path(source)
        if self.names.find_module(path) is None:
            hit = self.names.longest(tuple(path.split(".")))
            if hit is not None:
                self.uses.tell(source.alias, path, remedy_of(hit[1], tuple(path.split(".")), hit[0]))
            return False
        left = (".".join(parts) for use in variable.uses if use in self.uses.left for parts in use.meanings())
        return not variable.foreign and not any(below(name, path) for name in left)

    def _replace_dropped(self, dropped: list[Source], variable: Variable) -> None:
        """Put imports of qfx in place of those that are dropped, and keep torch itself bound where it is still read."""
        rooted = [s.statement for s in variable.imports if s not in dropped]
        read = any(use not in self.uses.moves or use in self.uses.left for use in variable.uses)
        for source in dropped:
            assert source.alias is not None
            assert source.statement is not None
            at, flat = self.analysis.position(source.statement), self._is_flat(source.statement)
            row = self.names.find_module(_path(source))
            assert row is not None
            modules = list(row.new[:1])
            if flat and not any(self.analysis.position(use.node) < at for use in variable.uses):
                own = [module for module in self.uses.needed.get(variable, ()) if below(module, modules[0])]
                modules = own if own and modules != ["qfx"] else modules
            targets = [Target(None, module, None) for module in modules]
            if read and not any(s and self._is_flat(s) and self.analysis.position(s) < at for s in rooted):
                targets.insert(0, Target(None, variable.name, None))
                rooted.append(source.statement)
            self.plan.imports[source.alias] = targets
            if flat:
                self._provided += [(variable.scope, module, at) for module in modules]

    def _homes(self, variable: Variable) -> list[Statement]:
        """The statements to import more after: as far as the first that always runs."""
        statements = [s.statement for s in variable.imports if s.statement is not None]
        flat = [index for index, statement in enumerate(statements) if self._is_flat(statement)]
        return statements[: flat[0] + 1] if flat else statements

    def _add(self, variable: Variable) -> None:
        for module in sorted(self.uses.needed[variable], key=lambda module: module == "qfx"):
            for statement in self._homes(variable):
                at = self.analysis.position(statement)
                if module in self._becomes(statement) or self._is_provided(variable.scope, module, at):
                    continue
                self.plan.added.setdefault(statement, []).append(module)
                if self._is_flat(statement):
                    self._provided.append((variable.scope, module, at))

    def _becomes(self, statement: Statement) -> set[str]:
        """The modules that ``statement`` itself imports afterwards."""
        aliases = () if isinstance(statement.names, cst.ImportStar) else statement.names
        targets = [target for alias in aliases for target in self.plan.imports.get(alias, ())]
        return {target.name for target in targets if target.module is None and target.bound is None}

    def _is_provided(self, scope: Scope, module: str, at: tuple[int, int]) -> bool:
        """Whether ``module`` is surely imported by the time that the statement at ``at`` has run."""
        if any(s is scope and below(name, module) and line <= at for s, name, line in self._provided):
            return True
        bound = self.analysis.variable(scope, "qfx")
        return bound is not None and any(
            below(_path(source), module)
            and self._is_flat(source.statement)
            and (bound.scope is not scope or self.analysis.position(source.statement) < at)
            for source in bound.imports
            if source.statement is not None
        )

    def _is_flat(self, statement: Statement) -> bool:
        """Whether ``statement`` always runs when its scope does."""
        line = self.analysis.parents[statement]
        block = self.analysis.parents[line]
        owner = self.analysis.parents.get(block)
        return isinstance(block, cst.Module) or isinstance(owner, (cst.FunctionDef, cst.ClassDef))


def tell_literals(uses: Uses) -> None:
    """What no scope shows: names in strings, attributes by name, everything of a module."""
    for string in uses.analysis.strings:
        value = string.evaluated_value
        if isinstance(value, str) and DOTTED.fullmatch(value) and uses.names.concerns(value):
            hit = uses.names.longest(tuple(value.split(".")))
            new = hit[1].new[0] if hit is not None and hit[1].new else "its counterpart"
            uses.tell(string, string.value, f"a name in a string: write {new} if it is one")
    for call, chain, name in uses.analysis.lookups:
        use = uses.analysis.use_of(chain)
        for parts in use.meanings() if use is not None else ():
            if uses.names.longest((*parts, name)) is not None:
                uses.tell(call, f"{'.'.join(parts)}, {name!r}", "an attribute by its name: write it out")
    needed = is_needed(uses.analysis.module, uses.analysis.scopes.values())
    for star in uses.analysis.stars:
        module = ".".join(_absolute(star))
        if uses.names.concerns(module) and not needed:
            uses.plan.dropped.append(star)
        elif uses.names.concerns(module):
            uses.tell(star, f"from {module} import *", "name what is imported, and run this again")


def _module_target(source: Source, module: str, bound: str) -> Target:
    parent, _, leaf = module.rpartition(".")
    if isinstance(source.statement, cst.ImportFrom) and parent:
        return Target(parent, leaf, bound)
    return Target(None, module, bound)


def _path(source: Source) -> str:
    """What an import statement names, without the module that ``from`` gives."""
    assert source.alias is not None
    return ".".join(dotted(source.alias.name))


def _absolute(star: cst.ImportFrom) -> tuple[str, ...]:
    return () if star.relative else dotted(star.module)
