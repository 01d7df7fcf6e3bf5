"""Changes in place as new values: what shows a part of the changed tensor is computed anew, from the new one."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from qfx.frontends.mutation import (
    AUGMENTED,
    MADE_IN_CALL,
    REFUSED,
    Storage,
    changes_operand,
    first_operand,
    function_name,
    hazards,
    storages,
)
from qfx.frontends.views import WHOLE, NoInverse, basic_steps, is_piece, through_steps, written_through


def functionalized(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> fx.Graph:
    """``graph`` without the changes in place that a graph of values can't express otherwise.

    Those are changes of tensors that other views show which are used later, assignments to items, and changes of
    tensors that the code makes anew at each call. Modules that change their operand are set not to. Changes through
    views that have no inverse stay: :func:`qfx.frontends.mutation.mutation_hazards` tells.

    Args:
        graph: A raw trace, which is not changed.
        modules: The modules that it calls, by path.
    """
    while True:
        bases = _bases(graph, modules)
        if not bases:
            return graph
        writer = _FunctionalWriter(graph, modules, bases)
        try:
            return writer.written()
        except NoInverse as reason:
            writer.at_fault.meta[REFUSED] = str(reason)


def _bases(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> set[fx.Node]:
    """The nodes that made the memory of what is to be rewritten."""
    found = storages(graph, modules)
    bases = {found[node].base for node, _ in hazards(graph, modules)}
    for node in graph.nodes:
        if changes_operand(node, modules) and first_operand(node) is not None:
            base = found[node].base
            if node.target in _ASSIGNMENTS or "out" in node.kwargs or MADE_IN_CALL in base.meta:
                bases.add(base)
    return {base for base in bases if REFUSED not in base.meta and (base.op != "get_attr" or MADE_IN_CALL in base.meta)}


_ASSIGNMENTS = {operator.setitem, "__setitem__", operator.ipow, operator.ifloordiv, operator.imod}
_ASSIGNMENTS |= {operator.iand, operator.ior, operator.ixor}


class _FunctionalWriter:
    """Writes the graph anew. ``env`` maps nodes to the new ones; of aliases, ``stamps`` says of which version."""

    def __init__(self, graph: fx.Graph, modules: Mapping[str, nn.Module], bases: set[fx.Node]) -> None:
        self.old, self.modules, self.new = graph, modules, fx.Graph(tracer_cls=graph._tracer_cls)
        self.storages: dict[fx.Node, Storage] = {n: s for n, s in storages(graph, modules).items() if s.base in bases}
        self.versions = dict.fromkeys(bases, 0)
        self.env: dict[fx.Node, fx.Node] = {}
        self.stamps: dict[fx.Node, int] = {}
        self.at_fault = self.here = next(iter(graph.nodes))

    def written(self) -> fx.Graph:
        """The new graph.

        Raises:
            NoInverse: The base ``at_fault`` can't be rewritten.
        """
        for node in self.old.nodes:
            self.here = node
            if node in self.storages and node not in self.versions and changes_operand(node, self.modules):
                self.at_fault = self.storages[node].base
                self._change(node)
            else:
                self._copy(node)
        self.new.lint()
        return self.new

    def _copy(self, node: fx.Node) -> fx.Node:
        made = self.env[node] = self.new.node_copy(node, self._fresh)
        if node in self.storages:
            self.stamps[node] = self.versions[self.storages[node].base]
        return made

    def _fresh(self, node: fx.Node) -> fx.Node:
        """The present value of a node."""
        if node not in self.storages:
            return self.env[node]
        if self.stamps.get(node) == self.versions[self.storages[node].base]:
            return self.env[node]
        source = first_operand(node)
        assert source is not None, "a base that is not of its version"
        return self._fresh(source) if changes_operand(node, self.modules) else self._copy(node)

    def _change(self, node: fx.Node) -> None:
        target = first_operand(node)
        assert target is not None
        value = self._pure(node, self._fresh(target))
        new, at, base = {target: value}, target, self.storages[node].base
        while at is not base:
            try:
                value, at = self._back(at, value)
            except NoInverse:
                if self._is_read_beside(at):
                    raise
                break
            new[at] = value
        self.versions[base] += 1
        for alias, made in new.items():
            self.env[alias], self.stamps[alias] = made, self.versions[base]

    def _is_read_beside(self, view: fx.Node) -> bool:
        """Whether anything later reads the memory of ``view`` otherwise than through it."""
        through, seen = {view}, False
        for node in self.old.nodes:
            seen = seen or node is self.here
            read = [operand for operand in node.all_input_nodes if operand in self.storages]
            read = [operand for operand in read if self.storages[operand].base is self.storages[view].base]
            if node in self.storages and first_operand(node) in through:
                through.add(node)
            if seen and any(operand not in through for operand in read):
                return True
        return False

    def _back(self, at: fx.Node, value: Any) -> tuple[Any, fx.Node]:
        """``value`` of the alias ``at`` in what that was made from, and that."""
        source = first_operand(at)
        assert source is not None
        if changes_operand(at, self.modules):
            return value, source
        split = source if is_piece(at) else None
        whole = first_operand(split) if split is not None else source
        assert whole is not None
        given = self._mapped(at), self._mapped(split) if split is not None else None
        return written_through(self._emit, *given, self._fresh(whole), value), whole

    def _mapped(self, node: fx.Node) -> Any:
        """The call of a node with the arguments behind the first in the new graph."""
        args, kwargs = fx.node.map_arg((node.args[1:], dict(node.kwargs)), self._fresh)
        return SimpleNamespace(op=node.op, target=node.target, args=(None, *args), kwargs=kwargs)

    # The pure form of a change.

    def _pure(self, node: fx.Node, shown: fx.Node) -> Any:
        if "out" in node.kwargs:
            return self._returned(node)
        call = self._mapped(node)
        rest, kwargs = (
            call.args[1:],
            {name: v for name, v in call.kwargs.items() if node.kwargs[name] is not first_operand(node)},
        )
        if node.op == "call_module":
            self.modules[str(node.target)].inplace = False  # type: ignore[assignment]
            return self._call("call_module", node.target, (shown, *rest), kwargs)
        if node.target in (operator.setitem, "__setitem__"):
            return self._assigned(shown, *rest)
        if node.target in AUGMENTED:
            return self._call("call_function", AUGMENTED[node.target], (shown, *rest), {})
        name = str(node.target) if node.op == "call_method" else function_name(node.target)
        stem = name.strip("_").removeprefix("i") if name.startswith("__i") else name.removesuffix("_")
        if stem in _FILLS and name.endswith("_"):
            return _FILLS[stem](self._emit, shown, *rest)
        if stem in _DRAWS and name.endswith("_"):
            return self._drawn(stem, shown, rest, kwargs)
        if node.op == "call_method" and name.startswith("__i"):
            return self._call("call_function", getattr(operator, stem), (shown, *rest), {})
        if name.endswith("_") and stem not in _IMPURE:
            return self._renamed(node, stem, (shown, *rest), kwargs)
        if not name.endswith("_"):  # a function with a flag
            rest = tuple(
                False if given is True and name_ == "inplace" else given for given, name_ in _named(node.target, rest)
            )
            return self._call("call_function", node.target, (shown, *rest), {**kwargs, **_flag(kwargs)})
        raise NoInverse(f"the change by {name}")

    def _drawn(self, stem: str, shown: fx.Node, rest: tuple[Any, ...], kwargs: Mapping[str, Any]) -> fx.Node:
        """What a tensor is filled with, by the op that returns it."""
        given = (*rest, *(value for name, value in kwargs.items() if name != "generator"))
        aten = torch.ops.aten
        op = getattr(aten, _DRAWS[stem]).default
        if stem == "bernoulli":
            given = given or (0.5,)
            op = aten.bernoulli.Tensor if isinstance(given[0], fx.Node) else aten.bernoulli.p
        elif stem == "random" and given:
            op = aten.randint_like.default if len(given) == 1 else aten.randint_like.low_dtype
        if given != rest and stem not in ("bernoulli", "random"):  # which have one order of numbers only
            return self._call(
                "call_function", op, (shown, *rest), {n: v for n, v in kwargs.items() if n != "generator"}
            )
        return self._call("call_function", op, (shown, *given), {})

    def _returned(self, node: fx.Node) -> fx.Node:
        """The call without a tensor to write its result into."""
        if not callable(node.target) or isinstance(node.target, torch._ops.OpOverload):
            raise NoInverse(f"the change by {function_name(node.target)} with out=")
        kwargs = {name: value for name, value in node.kwargs.items() if name != "out"}
        return self._call("call_function", node.target, *fx.node.map_arg((node.args, kwargs), self._fresh))

    def _renamed(self, node: fx.Node, stem: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> fx.Node:
        if node.op == "call_method" and hasattr(Tensor, stem):
            return self._call("call_method", stem, args, kwargs)
        target: Any = node.target
        if isinstance(target, torch._ops.OpOverload):
            found = _without_change(target, stem)
        else:
            found = next((getattr(home, stem) for home in (torch, F) if hasattr(home, stem)), None)
        if found is None or node.op == "call_method":
            raise NoInverse(f"the change by {stem}_")
        return self._call("call_function", found, args, kwargs)

    def _assigned(self, shown: fx.Node, index: Any, value: Any) -> Any:
        steps, tensors = basic_steps(index)

        def put(part: Any) -> Any:
            if not tensors:
                return _FILLS["copy"](self._emit, part, value)
            places = [self._emit(torch.tensor, item) if isinstance(item, list) else item for item in tensors]
            filled = value
            if isinstance(value, (int, float)):
                index = tuple(WHOLE if place is None else place for place in places)
                filled = self._emit(operator.getitem, self._emit(torch.full_like, part, value), index)
            return self._emit(torch.ops.aten.index_put.default, part, places, filled)

        return through_steps(self._emit, steps, shown, put)

    def _call(self, op: str, target: Any, args: Any, kwargs: Any) -> fx.Node:
        made = self.new.create_node(op, target, args, kwargs, name=self.here.name.strip("_"))
        made.meta.update(self.here.meta)
        return made

    def _emit(self, function: Callable[..., Any], *args: Any) -> fx.Node:
        made = self.new.call_function(function, args)
        self._place(made)
        return made

    def _place(self, made: fx.Node) -> None:
        made.meta.update(module_path=self.here.meta.get("module_path", ""), source=self.here.meta.get("source"))


def _without_change(overload: Any, stem: str) -> Any:
    """The op that returns what ``overload`` writes: that of the same arguments, whatever its overload is called."""
    packet = getattr(torch.ops.aten, stem, None)
    wanted = [str(argument.type) for argument in overload._schema.arguments]
    found = (getattr(packet, name) for name in (packet.overloads() if packet is not None else ()))
    return next((op for op in found if [str(argument.type) for argument in op._schema.arguments] == wanted), None)


def _named(function: Any, rest: tuple[Any, ...]) -> list[tuple[Any, str]]:
    """The arguments behind the first with their names, as far as they are known."""
    code = getattr(function, "__code__", None)
    names = code.co_varnames[1 : code.co_argcount] if code is not None else ()
    return [(given, names[i] if i < len(names) else "") for i, given in enumerate(rest)]


def _flag(kwargs: Mapping[str, Any]) -> dict[str, bool]:
    return {"inplace": False} if "inplace" in kwargs else {}


def _fill(emit: Callable[..., Any], shown: Any, value: Any = 0) -> Any:
    if isinstance(value, (int, float)):
        return emit(torch.full_like, shown, value)
    return emit(torch.ops.aten.copy.default, shown, value)


def _copied(emit: Callable[..., Any], shown: Any, value: Any, *unused: Any) -> Any:
    return _fill(emit, shown, value)


_FILLS: dict[str, Callable[..., Any]] = {"zero": _fill, "fill": _fill, "copy": _copied}
_IMPURE = {"set", "resize", "resize_as", "transpose", "t", "swapaxes", "swapdims", "squeeze", "unsqueeze"}
_IMPURE |= {"as_strided", "detach"}
"""Changes of how a tensor shows its memory."""

_DRAWS = {name: name for name in ("uniform", "random", "bernoulli", "exponential", "geometric", "cauchy", "log_normal")}
_DRAWS["normal"] = "normal_functional"
"""What fills a tensor with random numbers, and the op that returns them."""
