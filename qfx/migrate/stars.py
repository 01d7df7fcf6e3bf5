"""``from torch.quantization import *`` as the names that the file takes from it, before anything else is looked at."""

from __future__ import annotations

import libcst as cst
from libcst.metadata import MetadataWrapper, ScopeProvider

from qfx.migrate.names import Names
from qfx.migrate.scopes import dotted


def with_names(module: cst.Module, table: Names) -> cst.Module:
    """``module`` whose star imports of torch's quantization name what is used of them.

    A star stays where nothing is used of it, and beside the names where a name is left that no table knows and no
    other star may give.
    """
    wrapper = MetadataWrapper(module)
    stars = _Stars()
    wrapper.module.visit(stars)
    known = [star for star in stars.found if table.concerns(_module(star))]
    if not known:
        return module
    given: dict[cst.ImportFrom, list[str]] = {star: [] for star in known}
    free = _free_names(wrapper)
    left = set(free)
    for name in free:
        source = next((s for s in reversed(known) if table.find(f"{_module(s)}.{name}") is not None), None)
        if source is not None:
            given[source].append(name)
            left.discard(name)
    keep = bool(left) and len(known) == len(stars.found)
    return wrapper.module.visit(_Named({star: names for star, names in given.items() if names}, keep))


def _module(star: cst.ImportFrom) -> str:
    return "" if star.relative else ".".join(dotted(star.module))


def _free_names(wrapper: MetadataWrapper) -> list[str]:
    """Names that nothing in the file binds, in alphabetical order."""
    scopes = {scope for scope in wrapper.resolve(ScopeProvider).values() if scope is not None}
    read = {(access.scope, parts[0]) for s in scopes for access in s.accesses if (parts := dotted(access.node))}
    return sorted({name for scope, name in read if not scope[name] and not name.startswith("__")})


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
