"""Puts a replacement into a graph: new nodes with the metadata of the old, folded constants under the old paths."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from qfx.ir import boundary
from qfx.ir.derivation import DERIVATION, Derived, derivation_of
from qfx.ops.table import TABLE
from qfx.ops.terms import Folded, Term
from qfx.patterns.pattern import Match

RULES = "rules"
"""Node metadata: the rules that made the node what it is, in order; of each its name and the nodes it took in."""

_KEPT = ("module_path", "source", "alias", "module_class", "qconfig", "qconfig_rule")


class Replacer:
    """Replaces matches in one graph module.

    Args:
        graph_module: Rewritten in place.
    """

    def __init__(self, graph_module: fx.GraphModule) -> None:
        self.graph_module, self.graph = graph_module, graph_module.graph
        self._folded: dict[int, Tensor] = {}

    def replace(self, match: Match, replacement: Term | fx.Node, rule: str) -> fx.Node:
        """Puts what ``rule`` says in the place of the match's root and erases what nothing reads any more."""
        self._folded = {id(folded): self._compute(folded) for folded in _folded_in(replacement)}
        with self.graph.inserting_before(match.root):
            new = replacement if isinstance(replacement, fx.Node) else self._write(replacement, match)
        if isinstance(replacement, Term):
            _describe(new, replacement.like or match.root, match)
        record_rule(new, rule, match.interior, replacement.like or match.root if isinstance(replacement, Term) else new)
        match.root.replace_all_uses_with(new)
        self._erase(match.root)
        if isinstance(replacement, Term):
            _take_name(new, replacement.like or match.root)
        return new

    def _write(self, value: Any, match: Match) -> Any:
        if isinstance(value, Folded):
            return self._fold(value, match)
        if isinstance(value, (tuple, list)):
            return type(value)(self._write(item, match) for item in value)
        if not isinstance(value, Term):
            return value
        args = [self._write(item, match) for item in value.args]
        while len(args) > 1 and args[-1] is None:
            args.pop()
        kwargs = {key: self._write(item, match) for key, item in value.kwargs.items()}
        target = TABLE[value.op].fn if isinstance(value.op, str) else value.op
        like = value.like or match.root
        new = self.graph.create_node("call_function", target, tuple(args), kwargs, name=like.name)
        new.meta.update({key: like.meta[key] for key in _KEPT if key in like.meta})
        new.meta.update(boundary.kept(like))
        return new

    def _fold(self, folded: Folded, match: Match) -> fx.Node:
        constants = [operand for operand in folded.operands if isinstance(operand, fx.Node)]
        home = str((folded.beside or constants[0]).target).rpartition(".")[0]
        path = self._free_path(f"{home}.{folded.name}" if home else folded.name, match)
        tensor = self._folded[id(folded)]
        set_tensor(self.graph_module, path, tensor)
        node = self.graph.create_node("get_attr", path)
        node.meta.update(module_path=home, source=None, shape=tuple(tensor.shape), dtype=tensor.dtype)
        node.meta[DERIVATION] = Derived(folded.compute, tuple(map(derivation_of, folded.operands)))
        return node

    def _compute(self, folded: Folded) -> Tensor:
        values = [tensor_of(self.graph_module, op) if isinstance(op, fx.Node) else op for op in folded.operands]
        with torch.no_grad():
            tensor: Tensor = folded.compute(*(v.detach() if isinstance(v, Tensor) else v for v in values))
        parameter = any(isinstance(value, nn.Parameter) for value in values)
        return nn.Parameter(tensor, requires_grad=False) if parameter else tensor

    def _free_path(self, path: str, match: Match) -> str:
        """``path`` when only the match reads it, else the path with a suffix."""
        base, suffix = path, 0
        while self._is_read(path, match):
            suffix += 1
            path = f"{base}_{suffix}"
        return path

    def _is_read(self, path: str, match: Match) -> bool:
        for node in self.graph.nodes:
            if node.op == "call_module" and path.startswith(f"{node.target}."):
                return True
            if node.op == "get_attr" and node.target == path and not set(node.users) <= match.interior:
                return True
            if node.op == "get_attr" and node.target == path and not node.users:
                return True
        return False

    def _erase(self, node: fx.Node) -> None:
        operands = node.all_input_nodes
        self.graph.erase_node(node)
        for operand in operands:
            if not operand.users and operand.op in ("call_function", "get_attr") and not operand._erased:
                self._erase(operand)


def _take_name(new: fx.Node, old: fx.Node) -> None:
    """Give ``new`` the name of the erased node it stands for, so that reports name what the user wrote."""
    if old._erased:
        new.name = old.name


def _folded_in(value: Any) -> Iterator[Folded]:
    """Every folded constant of a replacement: all are computed before any takes over a path."""
    if isinstance(value, Folded):
        yield value
    elif isinstance(value, Term):
        yield from _folded_in((*value.args, *value.kwargs.values()))
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _folded_in(item)


def nodes_in(value: Any) -> Iterator[fx.Node]:
    """Every node of the graph that a replacement reads."""
    if isinstance(value, fx.Node):
        yield value
    elif isinstance(value, Folded):
        yield from nodes_in(value.operands)
    elif isinstance(value, Term):
        yield from nodes_in((*value.args, *value.kwargs.values()))
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from nodes_in(item)


def _describe(new: fx.Node, like: fx.Node, match: Match) -> None:
    """The metadata of the root's value, and the record of what was fused into ``new``."""
    new.meta.update(
        {key: match.root.meta[key] for key in ("shape", "dtype", "batch_dim", "extents") if key in match.root.meta}
    )
    fused = dict.fromkeys(like.meta.get("fused", ()))
    for node in sorted(match.interior - {like}, key=lambda node: node.name):
        fused.update(dict.fromkeys((*node.meta.get("fused", ()), (node.meta.get("module_path", ""), node.name))))
    if fused:
        new.meta["fused"] = tuple(fused)


def record_rule(new: fx.Node, rule: str, consumed: Iterable[fx.Node], like: fx.Node) -> None:
    """Note on ``new``, which stands for ``like``, that ``rule`` made it from ``consumed``, and what made those."""
    nodes = sorted(set(consumed) - {like, new}, key=lambda node: node.name)
    made = dict.fromkeys(applied for node in (like, *nodes) for applied in node.meta.get(RULES, ()))
    new.meta[RULES] = (*made, (rule, tuple(node.name for node in nodes)))


def tensor_of(graph_module: nn.Module | None, node: fx.Node) -> Tensor:
    """The tensor of a ``get_attr`` node."""
    found: Any = graph_module
    for atom in str(node.target).split("."):
        found = getattr(found, atom)
    assert isinstance(found, Tensor), node.target
    return found


def set_tensor(graph_module: fx.GraphModule, path: str, tensor: Tensor) -> None:
    """Registers ``tensor`` at ``path``, in the place of what is there; a Parameter stays one."""
    prefix, _, name = path.rpartition(".")
    if prefix:
        graph_module.add_submodule(prefix, nn.Module()) if not _has_module(graph_module, prefix) else None
    owner = graph_module.get_submodule(prefix)
    if hasattr(owner, name):
        delattr(owner, name)
    if isinstance(tensor, nn.Parameter):
        owner.register_parameter(name, tensor)
    else:
        owner.register_buffer(name, tensor)


def _has_module(graph_module: fx.GraphModule, path: str) -> bool:
    try:
        graph_module.get_submodule(path)
    except AttributeError:
        return False
    return True
