"""GraphCarrier: an ``nn.Module`` that owns an fx graph and survives deepcopy, pickle and torch.save as it is.

``fx.GraphModule`` re-traces its own code when it is unpickled and loses node metadata; a carrier stores its nodes
as plain records instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import fx, nn

_STATE = ("_graph", "_forward")


class GraphCarrier(nn.Module):
    """A module whose forward is an fx graph; parameters, buffers and submodules keep their original paths.

    Attributes:
        level: Name of the level the graph is at (see :mod:`qfx.ir.levels`).
        info: Facts about the whole model that passes carry along (plain picklable values).
    """

    level: str

    def __init__(self, gm: fx.GraphModule, level: str) -> None:
        super().__init__()
        self.level = level
        self.info: dict[str, Any] = dict(gm.meta)
        self._graph = gm.graph
        self._forward: Callable[..., Any] | None = None
        adopt_attributes(self, gm)
        self.train(gm.training)

    @property
    def graph(self) -> fx.Graph:
        """The fx graph that forward runs."""
        return self._graph

    def graph_module(self) -> fx.GraphModule:
        """A GraphModule over this carrier's parameters with a copy of its graph, for a pass to rewrite."""
        gm = fx.GraphModule(self, copy_graph(self._graph))
        gm.meta.update(self.info)
        gm.train(self.training)
        return gm

    def run_graph(self, *args: Any) -> Any:
        """Run the graph as generated Python code, one torch call a node."""
        if self._forward is None:
            code = self._graph.python_code("self")
            namespace = dict(code.globals)
            exec(code.src, namespace)
            self._forward = namespace["forward"]
        return self._forward(self, *args)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Positional values of the graph's placeholders, in order, for a call with ``args`` and ``kwargs``.

        Raises:
            TypeError: As Python does for a call that does not fit the signature.
        """
        return bind_placeholders(self._graph, args, kwargs)

    def __getstate__(self) -> dict[str, Any]:
        state = {k: v for k, v in self.__dict__.items() if k not in _STATE}
        state["_nodes"] = list(_records(self._graph))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        nodes = state.pop("_nodes")
        super().__setstate__(state)
        self.__dict__.update(_graph=_rebuild(nodes), _forward=None)

    def __deepcopy__(self, memo: dict[int, Any]) -> GraphCarrier:
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        state = {k: deepcopy(v, memo) for k, v in self.__dict__.items() if k not in self._not_copied()}
        state["_nodes"] = list(_records(self._graph))
        twin.__setstate__(state)
        return twin

    def _not_copied(self) -> tuple[str, ...]:
        return _STATE


def bind_placeholders(graph: fx.Graph, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """Values of ``graph``'s placeholders, in order; missing ones take the default recorded in the placeholder."""
    nodes = graph.find_nodes(op="placeholder")
    names = [str(n.target) for n in nodes]
    if len(args) > len(nodes):
        raise TypeError(f"forward() takes {len(nodes)} inputs ({', '.join(names)}) but {len(args)} were given")
    values = dict(zip(names, args, strict=False))
    for key, value in kwargs.items():
        if key not in names:
            raise TypeError(f"forward() got an unexpected input {key!r}; its inputs are {', '.join(names)}")
        if key in values:
            raise TypeError(f"forward() got two values for input {key!r}")
        values[key] = value
    missing = [n for n, node in zip(names, nodes, strict=True) if n not in values and not node.args]
    if missing:
        raise TypeError(f"forward() misses input {', '.join(missing)}; its inputs are {', '.join(names)}")
    return tuple(values[n] if n in values else node.args[0] for n, node in zip(names, nodes, strict=True))


def adopt_attributes(target: nn.Module, source: nn.Module) -> None:
    """Give ``target`` the children, parameters and buffers of ``source`` (shared, not copied)."""
    for name, child in source.named_children():
        target.add_module(name, child)
    for name, parameter in source.named_parameters(recurse=False):
        target.register_parameter(name, parameter)
    for name, buffer in source.named_buffers(recurse=False):
        target.register_buffer(name, buffer, persistent=name not in source._non_persistent_buffers_set)
    for name, value in vars(source).items():
        if isinstance(value, torch.Tensor) and not hasattr(target, name):
            setattr(target, name, value)


def copy_graph(graph: fx.Graph) -> fx.Graph:
    """A copy with equal node names and its own metadata dictionaries."""
    return _rebuild(list(_records(graph)))


class _Ref:
    """A node argument inside a record."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return _Ref, (self.name,)


def _records(graph: fx.Graph) -> Iterator[tuple[Any, ...]]:
    for node in graph.nodes:
        args = fx.node.map_arg(node.args, lambda n: _Ref(n.name))
        kwargs = fx.node.map_arg(node.kwargs, lambda n: _Ref(n.name))
        yield node.name, node.op, node.target, _plain(args), _plain(kwargs), dict(node.meta)


def _plain(value: Any) -> Any:
    """fx's immutable containers as ordinary ones, so that records pickle anywhere."""
    if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
        return (tuple if isinstance(value, tuple) else list)(_plain(v) for v in value)
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value


def _rebuild(records: list[tuple[Any, ...]]) -> fx.Graph:
    graph, nodes = fx.Graph(), {}

    def resolve(value: Any) -> Any:
        if isinstance(value, _Ref):
            return nodes[value.name]
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*(resolve(v) for v in value))
        if isinstance(value, (tuple, list)):
            return type(value)(resolve(v) for v in value)
        if isinstance(value, dict):
            return {k: resolve(v) for k, v in value.items()}
        if isinstance(value, slice):
            return slice(resolve(value.start), resolve(value.stop), resolve(value.step))
        return value

    for name, op, target, args, kwargs, meta in records:
        node = graph.create_node(op, target, resolve(args), resolve(kwargs), name=name)
        node.meta.update(meta)
        nodes[name] = node
    return graph
