"""The tensors of a graph under construction: which path holds what, folded constants included."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from qfx.ir.derivation import DERIVATION, Derivation, Derived, Source, derivation_of
from qfx.ops.terms import Attr, Folded


class Constants:
    """Makes one ``get_attr`` node a path. A path keeps its name; a second meaning of it gets a suffix.

    Args:
        root: The module whose tensors the graph uses.
        graph: The graph under construction; nodes are appended to it.
        computed: Derivations of tensors that the model computes at each call, by path.
    """

    def __init__(self, root: nn.Module, graph: fx.Graph, computed: Mapping[str, Derivation] | None = None) -> None:
        self.root, self.graph, self.computed = root, graph, computed or {}
        self.tensors: dict[str, Tensor] = {}
        self._keys: dict[str, Hashable] = {}
        self._nodes: dict[str, fx.Node] = {}
        self._values: dict[fx.Node, Tensor] = {}
        self._released: list[fx.Node] = []
        self._keyed: list[Tensor] = []  # kept alive

    def tensor(self, node: fx.Node) -> Tensor:
        """The tensor behind a ``get_attr`` node of the new graph."""
        return self._values[node]

    def attribute(self, path: str) -> Any:
        """The node of the root's tensor at ``path``; what is no tensor there, as it is."""
        value: Any = self.root
        for atom in path.split("."):
            value = getattr(value, atom)
        return self.add(path, value, ("raw", id(value)), self._own(path)) if isinstance(value, Tensor) else value

    def add(self, path: str, tensor: Tensor, key: Hashable, derivation: Derivation) -> fx.Node:
        """The node for ``tensor`` at ``path``, or beside it when ``path`` holds something else (another ``key``)."""
        path = self._claim(path, key)
        if path not in self._nodes:
            self.tensors[path] = tensor
            node = self._nodes[path] = constant_node(self.graph, path, tensor)
            node.meta[DERIVATION] = derivation
            self._values[node] = tensor
        return self._nodes[path]

    def _claim(self, path: str, key: Hashable) -> str:
        base, suffix = path, 0
        while _is_of_modules(path) or self._keys.setdefault(path, key) != key:
            suffix += 1
            path = f"{base}_{suffix}"
        return path

    def _release(self, node: fx.Node) -> None:
        """Frees the path of a tensor of the model that nothing but folded constants reads so far."""
        path = str(node.target)
        if not node.users and self._nodes.get(path) is node and isinstance(node.meta[DERIVATION], Source):
            del self._nodes[path], self._keys[path]
            self._released.append(node)

    def settle(self) -> None:
        """Gives the tensors that were read after all, when their path was taken, a path of their own."""
        for node in self._released:
            if node.users:
                path = node.target = self._claim(str(node.target), node)
                self.tensors[path] = self._values[node]

    def fold(self, folded: Folded, owner: str) -> fx.Node:
        """The node of a folded constant, named beside its first constant operand (else under ``owner``)."""
        operands = [self._operand(operand, owner) for operand in folded.operands]
        home = next((parent(path) for path, _ in operands if path is not None), owner)
        key = (folded.compute, tuple(path if path is not None else self._key(value) for path, value in operands))
        path = join(home, folded.name)
        for operand in folded.operands:
            if isinstance(operand, fx.Node):
                self._release(operand)
        derivation = Derived(folded.compute, tuple(self._derivation(operand, owner) for operand in folded.operands))
        return self.add(path, fold_tensor(folded.compute, [value for _, value in operands]), key, derivation)

    def _key(self, value: Any) -> Hashable:
        """What tells ``value`` from others: a tensor's id, which stays its own; a number with its type and sign."""
        if isinstance(value, Tensor):
            self._keyed.append(value)
            return id(value)
        return type(value), repr(value)

    def _derivation(self, operand: Any, owner: str) -> Any:
        return self._own(join(owner, operand.name)) if isinstance(operand, Attr) else derivation_of(operand)

    def _own(self, path: str) -> Derivation:
        """The derivation of a tensor of the root."""
        return self.computed.get(path, Source(path))

    def _operand(self, operand: Any, owner: str) -> tuple[str | None, Any]:
        if isinstance(operand, Attr):
            value: Any = self.root.get_submodule(owner)
            for atom in operand.name.split("."):
                value = getattr(value, atom)
            return join(owner, operand.name), value
        if isinstance(operand, fx.Node):
            derivation = operand.meta[DERIVATION]
            path = derivation.path if isinstance(derivation, Source) else str(operand.target)
            return path, self.tensor(operand)
        return None, operand


def fold_tensor(compute: Callable[..., Any], operands: list[Any]) -> Tensor:
    """``compute`` of the operands' values: a Parameter without gradient when a Parameter is among them."""
    with torch.no_grad():
        value: Tensor = compute(*(op.detach() if isinstance(op, Tensor) else op for op in operands))
    if any(isinstance(operand, nn.Parameter) for operand in operands) and value.is_floating_point():
        return nn.Parameter(value.contiguous(), requires_grad=False)
    return value.contiguous()


def _is_of_modules(path: str) -> bool:
    """Whether the last name of ``path`` is one that every module has, such as ``to``."""
    return hasattr(nn.Module, path.rpartition(".")[2])


def constant_node(graph: fx.Graph, path: str, tensor: Tensor) -> fx.Node:
    """A ``get_attr`` node at the graph's insertion point, with the metadata of ``tensor``."""
    node = graph.create_node("get_attr", path)
    node.meta.update(module_path=parent(path), source=None, shape=tuple(tensor.shape), dtype=tensor.dtype)
    return node


def parent(path: str) -> str:
    """The module path of an attribute path."""
    return path.rpartition(".")[0]


def join(path: str, name: str) -> str:
    """``name`` under ``path``, which may be the root's ""."""
    return f"{path}.{name}" if path else name
