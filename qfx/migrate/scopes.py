"""What the names in a file stand for: imports, simple assignments, and every use of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import libcst as cst
from libcst.metadata import (
    Assignment,
    BaseAssignment,
    CodeRange,
    ImportAssignment,
    MetadataWrapper,
    ParentNodeProvider,
    PositionProvider,
    Scope,
    ScopeProvider,
)

Chain = cst.Name | cst.Attribute
Statement = cst.Import | cst.ImportFrom


def dotted(node: cst.BaseExpression | None) -> tuple[str, ...]:
    """The parts of ``a.b.c``; empty for any other expression."""
    if isinstance(node, cst.Name):
        return (node.value,)
    if isinstance(node, cst.Attribute):
        head = dotted(node.value)
        return (*head, node.attr.value) if head else ()
    return ()


@dataclass(frozen=True, eq=False)
class Source:
    """One statement that gives a variable its meaning.

    Attributes:
        parts: The dotted name that the variable stands for from here on.
        statement: The import, or None for an assignment.
        alias: Its part of the import.
        value: What is assigned.
    """

    parts: tuple[str, ...]
    statement: Statement | None = None
    alias: cst.ImportAlias | None = None
    value: Chain | None = None


@dataclass(eq=False)
class Variable:
    """A name in the scope that binds it.

    Attributes:
        name: As the file spells it.
        scope: The scope.
        sources: Imports, and assignments of dotted names.
        foreign: Something else is bound to it as well.
        uses: Every place that reads it.
    """

    name: str
    scope: Scope
    sources: list[Source]
    foreign: bool
    uses: list[Use] = field(default_factory=list)

    @property
    def imports(self) -> list[Source]:
        return [source for source in self.sources if source.statement is not None]


@dataclass(eq=False)
class Use:
    """An expression ``a.b.c`` whose first name is a variable.

    Attributes:
        node: The whole expression.
        variable: What ``a`` is.
        rest: ``("b", "c")``.
        scope: Where it stands.
        call: The call that it is the function of.
    """

    node: Chain
    variable: Variable
    rest: tuple[str, ...]
    scope: Scope
    call: cst.Call | None = None

    def meanings(self) -> list[tuple[str, ...]]:
        """The dotted names that it may stand for."""
        return list(dict.fromkeys((*source.parts, *self.rest) for source in self.variable.sources))


class Analysis(cst.CSTVisitor):
    """Every variable and use of a module.

    Attributes:
        module: The module itself.
        variables: In the order of their first use or import.
        by_value: The use that each followed assignment reads.
        strings: String literals.
        lookups: Calls of getattr and its kind with a literal name.
        stars: ``from a import *``.
    """

    def __init__(self, wrapper: MetadataWrapper) -> None:
        super().__init__()
        self.module = wrapper.module
        self.scopes: Mapping[cst.CSTNode, Scope | None] = wrapper.resolve(ScopeProvider)
        self.parents: Mapping[cst.CSTNode, cst.CSTNode] = wrapper.resolve(ParentNodeProvider)
        self._positions: Mapping[cst.CSTNode, CodeRange] = wrapper.resolve(PositionProvider)
        self._variables: dict[tuple[int, str], Variable] = {}
        self._calls: dict[cst.CSTNode, cst.Call] = {}
        self.by_value: dict[cst.CSTNode, Use] = {}
        self.strings: list[cst.SimpleString] = []
        self.lookups: list[tuple[cst.Call, Chain, str]] = []
        self.stars: list[cst.ImportFrom] = []
        self._collect_imports()
        wrapper.module.visit(self)

    @property
    def variables(self) -> list[Variable]:
        return list(self._variables.values())

    def position(self, node: cst.CSTNode) -> tuple[int, int]:
        """Line from 1 and column from 1."""
        start = self._positions[node].start
        return start.line, start.column + 1

    def _collect_imports(self) -> None:
        scopes = dict.fromkeys(scope for scope in self.scopes.values() if scope is not None)
        found = [a for scope in scopes for a in scope.assignments if isinstance(a, ImportAssignment)]
        for assignment in sorted(found, key=lambda a: self.position(a.node)):
            if "." not in assignment.name:
                self.variable(assignment.scope, assignment.name)

    def variable(self, scope: Scope, name: str) -> Variable | None:
        """What ``name`` is at ``scope``; None where nothing in this file binds it."""
        assignments = sorted(scope[name], key=self._order)
        if not assignments:
            return None
        key = (id(assignments[0].scope), name)
        if key not in self._variables:
            sources: list[Source] = []
            made = Variable(name, assignments[0].scope, sources, False)
            self._variables[key] = made  # before the sources, which may lead back here
            for assignment in assignments:
                source = self._source(assignment)
                if source is None:
                    made.foreign = made.foreign or not self._is_none(assignment)
                else:
                    sources.extend(source)
        return self._variables[key]

    def _order(self, assignment: BaseAssignment) -> tuple[int, int]:
        return self.position(assignment.node) if isinstance(assignment, Assignment) else (0, 0)

    def _source(self, assignment: BaseAssignment) -> list[Source] | None:
        if isinstance(assignment, ImportAssignment):
            return _imported(assignment)
        value = self._assigned(assignment)
        parts = dotted(value)
        if value is None or not parts or not isinstance(value, (cst.Name, cst.Attribute)):
            return None
        scope = self.scopes.get(_root(value))
        origin = self.variable(scope, parts[0]) if scope is not None else None
        if origin is None or origin.foreign or not origin.sources:
            return None
        return [Source((*source.parts, *parts[1:]), value=value) for source in origin.sources]

    def _is_none(self, assignment: BaseAssignment) -> bool:
        value = self._assigned(assignment)
        return isinstance(value, cst.Name) and value.value == "None"

    def _assigned(self, assignment: BaseAssignment) -> cst.BaseExpression | None:
        """The value of a plain ``name = value``."""
        if not isinstance(assignment, Assignment):
            return None
        target = self.parents.get(assignment.node)
        statement = self.parents.get(target) if isinstance(target, cst.AssignTarget) else target
        return statement.value if isinstance(statement, (cst.Assign, cst.AnnAssign)) else None

    def visit_Import(self, node: cst.Import) -> bool:
        return False

    def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:
        if isinstance(node.names, cst.ImportStar):
            self.stars.append(node)
        return False

    def visit_SimpleString(self, node: cst.SimpleString) -> None:
        self.strings.append(node)

    def visit_Call(self, node: cst.Call) -> None:
        self._calls[node.func] = node
        if isinstance(node.func, cst.Name) and node.func.value in ("getattr", "hasattr", "setattr", "delattr"):
            values = [arg.value for arg in node.args[:2]]
            if len(values) == 2 and isinstance(values[0], (cst.Name, cst.Attribute)):
                name = values[1].evaluated_value if isinstance(values[1], cst.SimpleString) else None
                if isinstance(name, str):
                    self.lookups.append((node, values[0], name))

    def visit_Attribute(self, node: cst.Attribute) -> bool:
        return not self._use(node)

    def visit_Name(self, node: cst.Name) -> None:
        if not isinstance(self.parents.get(node), (cst.AssignTarget, cst.Param)):
            self._use(node)

    def use_of(self, node: Chain) -> Use | None:
        """``node`` as a use, if its first name is bound in this file."""
        parts = dotted(node)
        scope = self.scopes.get(_root(node)) if parts else None
        variable = self.variable(scope, parts[0]) if scope is not None else None
        if variable is None or scope is None or not variable.sources:
            return None
        return Use(node, variable, parts[1:], scope, self._calls.get(node))

    def _use(self, node: Chain) -> bool:
        """Record a use; whether ``node`` is a chain of names, bound or not."""
        use = self.use_of(node)
        if use is not None:
            use.variable.uses.append(use)
            self.by_value[node] = use
        return bool(dotted(node))


def _root(node: cst.BaseExpression) -> cst.BaseExpression:
    while isinstance(node, cst.Attribute):
        node = node.value
    return node


def _imported(assignment: ImportAssignment) -> list[Source] | None:
    statement = assignment.node
    if not isinstance(statement, (cst.Import, cst.ImportFrom)) or isinstance(statement.names, cst.ImportStar):
        return None
    bound = assignment.as_name
    for alias in statement.names:
        if bound is (alias.name if alias.asname is None else alias.asname.name):
            name = dotted(alias.name)
            if isinstance(statement, cst.ImportFrom):
                here = ["."] * len(statement.relative)
                return [Source((*here, *dotted(statement.module), *name), statement, alias)]
            return [Source(name if alias.asname is not None else name[:1], statement, alias)]
    return None
