"""``from torch.quantization import *`` as the names that the file takes from it, before anything else is looked at."""

from __future__ import annotations

from collections.abc import Iterable

import libcst as cst
from libcst.metadata import MetadataWrapper, Scope, ScopeProvider

from qfx.migrate.names import Names
from qfx.migrate.scopes import dotted


def with_names(module: cst.Module, table: Names) -> cst.Module:
    """``module`` whose star imports of torch's quantization name what is used of them.

    A star of which nothing is used stays for now (:func:`is_needed`), and so does one beside its names where a name is
    left that no table knows and no other star may give.
    """
    wrapper = MetadataWrapper(module)
    stars = _Stars()
    wrapper.module.visit(stars)
    known = [star for star in stars.found if table.concerns(_module(star))]
    if not known:
        return module
    given: dict[cst.ImportFrom, list[str]] = {star: [] for star in known}
    free = free_names(wrapper.resolve(ScopeProvider).values())
    left = set(free)
    for name in free:
        rows = {star: table.find(f"{_module(star)}.{name}") for star in known}
        meant = next((row for row in reversed(rows.values()) if row is not None), None)
        if meant is not None:  # what the last star gives, by the first that gives the same
            given[next(star for star, row in rows.items() if row == meant)].append(name)
            left.discard(name)
    keep = bool(left) and len(known) == len(stars.found)
    return wrapper.module.visit(_Named({star: names for star, names in given.items() if names}, keep))


def _module(star: cst.ImportFrom) -> str:
    return "" if star.relative else ".".join(dotted(star.module))


def free_names(scopes: Iterable[Scope | None]) -> list[str]:
    """Names that nothing in the file binds, in alphabetical order."""
    accesses = [access for scope in set(scopes) if scope is not None for access in scope.accesses]
    read = {(access.scope, parts[0]) for access in accesses if (parts := dotted(access.node))}
    return sorted({name for scope, name in read if not scope[name] and not name.startswith("__")})


def is_needed(module: cst.Module, scopes: Iterable[Scope | None]) -> bool:
    """Whether a star that is left may matter: a name is free, or the file does nothing but import for others."""
    lines = [line for line in module.body if not (isinstance(line, cst.SimpleStatementLine) and _imports(line))]
    return bool(free_names(scopes)) or not lines


def _imports(line: cst.SimpleStatementLine) -> bool:
    """Whether a line imports, or is a docstring."""
    kinds = (cst.Import, cst.ImportFrom)
    return all(
        isinstance(s, kinds) or (isinstance(s, cst.Expr) and isinstance(s.value, cst.SimpleString)) for s in line.body
    )


class _Stars(cst.CSTVisitor):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[cst.ImportFrom] = []

    def visit_ImportFrom(self, node: cst.ImportFrom) -> None:
        if isinstance(node.names, cst.ImportStar):
            self.found.append(node)


class _Named(cst.CSTTransformer):
    """Puts names in the place of stars, on the same line."""

    def __init__(self, given: dict[cst.ImportFrom, list[str]], keep: bool) -> None:
        super().__init__()
        self.given, self.keep = given, keep

    def leave_ImportFrom(
        self, original_node: cst.ImportFrom, updated_node: cst.ImportFrom
    ) -> cst.ImportFrom | cst.FlattenSentinel[cst.ImportFrom]:
        names = self.given.get(original_node)
        if names is None:
            return updated_node
        named = updated_node.with_changes(names=[cst.ImportAlias(cst.Name(name)) for name in names])
        if not self.keep:
            return named
        return cst.FlattenSentinel([updated_node.with_changes(semicolon=cst.MaybeSentinel.DEFAULT), named])
