"""The planned edits on the syntax tree; everything else keeps its bytes."""

from __future__ import annotations

from collections.abc import Sequence

import libcst as cst

from qfx.migrate.plan import Plan, Target
from qfx.migrate.scopes import Chain, Statement


class Edit(cst.CSTTransformer):
    """Applies a plan to the module that it was made for."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> cst.BaseExpression:
        return self._renamed(original_node, updated_node)

    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> cst.BaseExpression:
        return self._renamed(original_node, updated_node)

    def _renamed(self, original: Chain, updated: Chain) -> cst.BaseExpression:
        if original not in self.plan.chains:
            return updated
        return chain(self.plan.chains[original]).with_changes(lpar=updated.lpar, rpar=updated.rpar)

    def leave_Arg(self, original_node: cst.Arg, updated_node: cst.Arg) -> cst.Arg:
        if original_node not in self.plan.keywords:
            return updated_node
        return updated_node.with_changes(keyword=cst.Name(self.plan.keywords[original_node]))

    def leave_SimpleStatementLine(
        self, original_node: cst.SimpleStatementLine, updated_node: cst.SimpleStatementLine
    ) -> cst.BaseStatement | cst.FlattenSentinel[cst.BaseStatement] | cst.RemovalSentinel:
        body = self._body(original_node.body, updated_node.body)
        comments = [line.comment for line in original_node.leading_lines]
        if not body and not any((*comments, original_node.trailing_whitespace.comment)):
            return cst.RemoveFromParent()
        body = body or [cst.Pass()]
        if len(original_node.body) > 1 or len(body) == 1:
            return updated_node.with_changes(body=body)
        first = updated_node.with_changes(body=body[:1])
        return cst.FlattenSentinel([first, *(cst.SimpleStatementLine([statement]) for statement in body[1:])])

    def leave_SimpleStatementSuite(
        self, original_node: cst.SimpleStatementSuite, updated_node: cst.SimpleStatementSuite
    ) -> cst.SimpleStatementSuite:
        return updated_node.with_changes(body=self._body(original_node.body, updated_node.body) or [cst.Pass()])

    def _body(
        self, original: Sequence[cst.BaseSmallStatement], updated: Sequence[cst.BaseSmallStatement]
    ) -> list[cst.BaseSmallStatement]:
        body: list[cst.BaseSmallStatement] = []
        for before, after in zip(original, updated, strict=True):
            if before in self.plan.dropped:
                continue
            if isinstance(before, (cst.Import, cst.ImportFrom)) and self._changes(before):
                new = self._import(before) if isinstance(before, cst.Import) else self._import_from(before)
                new += [cst.Import([cst.ImportAlias(chain(module))]) for module in self.plan.added.get(before, ())]
                # Between statements of one line the separator of the first is the default one; the last keeps its own.
                body += [*new[:-1], new[-1].with_changes(semicolon=before.semicolon)] if new else []
            else:
                body.append(after)
        return body

    def _changes(self, statement: Statement) -> bool:
        names = () if isinstance(statement.names, cst.ImportStar) else statement.names
        return statement in self.plan.added or any(alias in self.plan.imports for alias in names)

    def _import(self, node: cst.Import) -> list[cst.BaseSmallStatement]:
        names: list[cst.ImportAlias] = []
        for alias in node.names:
            targets = self.plan.imports.get(alias)
            names += [alias] if targets is None else [_plain(target) for target in targets]
        default = cst.MaybeSentinel.DEFAULT
        return [node.with_changes(names=[n.with_changes(comma=default) for n in names], semicolon=default)]

    def _import_from(self, node: cst.ImportFrom) -> list[cst.BaseSmallStatement]:
        assert not isinstance(node.names, cst.ImportStar)
        groups: dict[str | None, list[cst.ImportAlias]] = {}
        plain: list[cst.BaseSmallStatement] = []
        for alias in node.names:
            targets = self.plan.imports.get(alias)
            if targets is None:
                groups.setdefault(None, []).append(alias)
                continue
            for target in targets:
                if target.module is None:
                    plain.append(cst.Import([_plain(target)]))
                else:
                    groups.setdefault(target.module, []).append(_named(alias, target))
        return [*(_from(node, module, names) for module, names in groups.items()), *plain]


def chain(text: str) -> Chain:
    """``a.b.c`` as an expression."""
    first, *rest = text.split(".")
    node: Chain = cst.Name(first)
    for name in rest:
        node = cst.Attribute(node, cst.Name(name))
    return node


def _plain(target: Target) -> cst.ImportAlias:
    bound = None if target.bound in (None, target.name) else cst.AsName(cst.Name(str(target.bound)))
    return cst.ImportAlias(chain(target.name), bound)


def _named(alias: cst.ImportAlias, target: Target) -> cst.ImportAlias:
    """``alias`` under its new name, bound to the same name as before."""
    asname = alias.asname
    if asname is None and target.bound != target.name:
        asname = cst.AsName(cst.Name(str(target.bound)))
    return alias.with_changes(name=cst.Name(target.name), asname=asname)


def _from(node: cst.ImportFrom, module: str | None, names: list[cst.ImportAlias]) -> cst.ImportFrom:
    """``node`` with only these names, from another module if one is given."""
    assert not isinstance(node.names, cst.ImportStar)
    names = [*names[:-1], names[-1].with_changes(comma=_last_comma(node, names[-1].comma))]
    changed = node.with_changes(names=names, semicolon=cst.MaybeSentinel.DEFAULT)
    return changed if module is None else changed.with_changes(module=chain(module), relative=[])


def _last_comma(node: cst.ImportFrom, own: cst.Comma | cst.MaybeSentinel) -> cst.Comma | cst.MaybeSentinel:
    """The comma after the last name: the indentation of the one that ``node`` ends with, but the name's own comment."""
    assert not isinstance(node.names, cst.ImportStar)
    if node.lpar is None:
        return cst.MaybeSentinel.DEFAULT
    last = node.names[-1].comma
    space = own.whitespace_after if isinstance(own, cst.Comma) else None
    if not isinstance(own, cst.Comma) or not isinstance(space, cst.ParenthesizedWhitespace):
        return last
    end = last.whitespace_after if isinstance(last, cst.Comma) else node.rpar and node.rpar.whitespace_before
    if isinstance(end, cst.ParenthesizedWhitespace) and isinstance(last, cst.Comma):
        return own.with_changes(whitespace_after=space.with_changes(last_line=end.last_line, indent=end.indent))
    return last if space.first_line.comment is None else own
