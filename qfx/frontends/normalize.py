"""Captured to Normal: calls that the alias tables know become table ops; the rest stays, opaque, with a reason."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from qfx.frontends.constants import Constants, join, parent
from qfx.frontends.leaves import ISLAND_REMEDY, WHOLE
from qfx.frontends.mutation import MADE_IN_CALL, changes_operand, storages
from qfx.frontends.randomness import RANDOM, Drawn, draws
from qfx.ir import boundary
from qfx.ir.computed import COMPUTED
from qfx.ir.derivation import TRAINABLE, Call, Derived, Slot, derivation_of
from qfx.ir.nodes import DEFAULT
from qfx.ops.extents import DIM_FUNCTIONS, facts_kept, is_dim, made, origin_of, record_rank
from qfx.ops.shape.spellings import dropout_module, drops
from qfx.ops.spelling import Alias, finite, is_arithmetic, is_computed_number
from qfx.ops.spellings import alias_of
from qfx.ops.table import TABLE, op_of
from qfx.ops.terms import ZEROS, Attr, Folded, Item, NotNormal, Pieces, Shape, Term
from qfx.patterns.symbolic_shape import input_ranks

_ASSERTIONS = {"_assert", "_assert_async", "assert_fn", "_assert_is_none", "_assert_tensor_metadata"}


def normalize(captured: fx.GraphModule) -> fx.GraphModule:
    """The Normal level of a captured model.

    Calls become table ops with every argument resolved; parameters are ``get_attr`` nodes under their module paths;
    what only matters in training, assertions and dead code are gone. A call outside the tables keeps its form and
    has ``meta["opaque_reason"]``. Where the captured nodes have no ``meta["shape"]``, the ranks of inputs are taken
    from the convolutions and pools that read them. Nodes have ``meta`` ``module_path``, ``source``, ``alias`` (the
    module class, function or method name that the user wrote) and ``module_class``.

    Args:
        captured: The result of a frontend; it is not changed.
    """
    normal = _normalize(captured, {})
    unknown = [node for node in normal.graph.find_nodes(op="placeholder") if "shape" not in node.meta]
    if unknown and any("opaque_reason" in node.meta for node in normal.graph.nodes):
        found = input_ranks(normal.graph)
        ranks = {str(node.target): found[node] for node in unknown if node in found}
        return _normalize(captured, ranks) if ranks else normal
    return normal


def _normalize(captured: fx.GraphModule, ranks: Mapping[str, int]) -> fx.GraphModule:
    """The Normal level, given the ranks of some inputs whose shapes are unknown."""
    writer = _NormalWriter(captured, ranks)
    with facts_kept():
        for node in captured.graph.nodes:
            writer.visit(node)
    writer.constants.settle()
    writer.graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))
    for node in writer.graph.find_nodes(op="placeholder"):
        if str(node.target).startswith("**") and not node.users:
            writer.graph.erase_node(node)
    _place_operands(writer.graph)
    _name_constants(writer.graph)
    writer.graph.lint()
    used = {str(node.target) for node in writer.graph.nodes if node.op == "get_attr"}
    attributes: dict[str, Any] = {path: tensor for path, tensor in writer.constants.tensors.items() if path in used}
    attributes.update(
        {str(node.target): writer.modules[str(node.target)] for node in writer.graph.nodes if node.op == "call_module"}
    )
    normal = fx.GraphModule(attributes, writer.graph, type(captured).__name__)
    normal.meta.update({key: value for key, value in captured.meta.items() if key != COMPUTED})
    return normal.eval()


def _place_operands(graph: fx.Graph) -> None:
    """Puts constants and dim values before their first user: frontends read them at different places."""
    placed: set[fx.Node] = set()

    def place(value: fx.Node, user: fx.Node) -> None:
        if value not in placed and (value.op == "get_attr" or is_dim(value)):
            placed.add(value)
            for operand in value.all_input_nodes:
                place(operand, user)
            user.prepend(value)

    for user in list(graph.nodes):
        if user.op != "get_attr" and not is_dim(user):
            for operand in user.all_input_nodes:
                place(operand, user)


def _name_constants(graph: fx.Graph) -> None:
    """Names constants after their paths, now that those that were only folded are gone."""
    taken = {node.name for node in graph.nodes}
    for node in graph.find_nodes(op="get_attr"):
        name = str(node.target).replace(".", "_")
        if name not in taken and name.isidentifier() and node.name.rpartition("_")[0] == name.lower():
            taken = taken - {node.name} | {name.lower()}
            node.name = name.lower()


class _NormalWriter:
    """Writes the Normal graph node by node. ``env`` maps captured nodes to nodes, numbers, shapes and tuples."""

    def __init__(self, captured: fx.GraphModule, ranks: Mapping[str, int]) -> None:
        self.graph, self.ranks, self.captured = fx.Graph(), ranks, captured
        self.trainable = bool(captured.meta.get(TRAINABLE, False))
        self.modules: dict[str, nn.Module] = dict(captured.named_modules())
        self.home = str(captured.meta.get(WHOLE, ""))
        computed = captured.meta.get(COMPUTED, {}) if self.trainable else {}
        derivations = {path: weight.derivation for path, weight in computed.items()}
        self.constants = Constants(captured.get_submodule(self.home), self.graph, derivations)
        self.storages = storages(captured.graph, self.modules)
        self.env: dict[fx.Node, Any] = {}
        self._dims: dict[Any, fx.Node] = {}
        self._written: dict[Term, Any] = {}

    def visit(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            new = self.env[node] = self._copy(node, node.args, {})
            if str(node.target) in self.ranks:
                new.meta.setdefault("rank", self.ranks[str(node.target)])
        elif node.op == "get_attr":
            new = self.env[node] = self.constants.attribute(str(node.target))
            if MADE_IN_CALL in node.meta and isinstance(new, fx.Node) and not self.constants.tensor(new).any():
                new.meta[ZEROS] = True
        elif node.op == "output":
            self._copy(node, self._concrete(node.args), {})
        elif getattr(node.target, "__name__", "") not in _ASSERTIONS:
            self.env[node] = self._call(node)
            self._forward_mutation(node)

    def _call(self, node: fx.Node) -> Any:
        args, kwargs = self._look_up(node.args), self._look_up(node.kwargs)
        if not kwargs and is_arithmetic(node.target) and args and all(map(_is_plain, args)):
            with contextlib.suppress(ArithmeticError, TypeError, ValueError):
                return node.target(*args)  # type: ignore[operator]
        if is_arithmetic(node.target) and _is_of_numbers(args) and not _is_of_dims(node.target, args):
            return self._opaque(node, "a number computed from sizes")
        if node.op != "call_module" and _is_constant_call(args, kwargs):
            return self._evaluate(node, args, kwargs)
        if node.op == "call_function" and op_of(node.target) is not None:  # of a model that came quantized
            return self._copy(node, args, kwargs)
        try:
            alias, module = self._alias(node)
            value = alias.apply(module, args, kwargs)
            if isinstance(value, Shape) and "unpacked" in node.meta:
                record_rank(value.of, node.meta["unpacked"])
            kept = self.trainable and drops(alias)
            return self._dropout(value, node, alias) if kept else self._write(value, node, alias)
        except NotNormal as reason:
            return self._opaque(node, str(reason))

    def _dropout(self, x: fx.Node, node: fx.Node, alias: Alias) -> fx.Node:
        """A dropout of a model to be trained stays; ``meta["dropout"]`` is the path of the module that does it."""
        path = str(node.target)
        if node.op != "call_module":
            path = join(node.meta["module_path"], node.name)
            given: Any = node.args, node.kwargs
            self.captured.add_submodule(path, dropout_module(node.target, *given[0], **given[1]))
        new: fx.Node = self._write(Term("dropout", (x,)), node, alias)
        new.meta["dropout"] = path
        return new

    def _alias(self, node: fx.Node) -> tuple[Alias, nn.Module | None]:
        """The alias of a call, with the module that it calls."""
        if "island_reason" in node.meta:
            raise NotNormal(node.meta["island_reason"])
        module = self.modules[str(node.target)] if node.op == "call_module" else None
        alias = _module_alias(type(module)) if module is not None else alias_of(node.target)
        if alias is None or (node.op == "call_method") != isinstance(alias.spelling, str):
            random, remedy = f": {RANDOM}" * _is_random(node), node.meta.get(ISLAND_REMEDY)
            raise NotNormal(f"no table op for {_spelled(node, module)}{random}{f'; {remedy}' if remedy else ''}")
        if self.trainable and isinstance(module, nn.RNNBase) and module.dropout > 0.0:
            raise NotNormal("it drops results between its layers while it trains, which no op does")
        return alias, module

    def _write(self, value: Any, node: fx.Node, alias: Alias) -> Any:
        """The value of ``node``: terms become nodes, the outermost one under the name that it had."""
        self._written.clear()
        return self._written_value(value, node, alias)

    def _written_value(self, value: Any, node: fx.Node, alias: Alias) -> Any:
        if isinstance(value, Term):
            return self._term(value, node, alias, node.name)
        if isinstance(value, (tuple, list)):
            return type(value)(self._written_value(item, node, alias) for item in value)
        return value

    def _term(self, value: Any, node: fx.Node, alias: Alias | None, name: str | None = None) -> Any:
        owner = str(node.target) if node.op == "call_module" else node.meta["module_path"]
        owner = "" if owner == self.home else owner
        if isinstance(value, Attr):
            return self.constants.attribute(join(owner, value.name))
        if isinstance(value, Folded):
            return self.constants.fold(value, owner)
        if isinstance(value, Item):
            return finite(self.constants.tensor(value.of).item())
        if isinstance(value, (tuple, list)):
            return type(value)(self._term(item, node, alias) for item in value)
        if not isinstance(value, Term):
            return value
        if value in self._written:
            return self._written[value]
        made = self._written[value] = self._call_of(value, node, alias, name)
        return made

    def _call_of(self, value: Term, node: fx.Node, alias: Alias | None, name: str | None) -> Any:
        """A term as a call. One that occurs twice in what a rule returns is one call."""
        args = tuple(self._term(item, node, alias) for item in value.args)
        kwargs = {key: self._term(item, node, alias) for key, item in value.kwargs.items()}
        while args and args[-1] is None and isinstance(value.op, str) and TABLE[value.op].weights:
            args = args[:-1]
        target = TABLE[value.op].fn if isinstance(value.op, str) else value.op
        if value.op == "size" or target in DIM_FUNCTIONS:
            return self._dim(target, args, kwargs, node)
        _require_constants(value.op, kwargs)
        new = self._create("call_function", target, args, kwargs, node, name)
        if not isinstance(value.op, str):
            new.meta["opaque_reason"] = f"no table op for torch.{value.op.__name__}"
        made(new)
        return new

    def _dim(self, target: Callable[..., Any], args: Any, kwargs: dict[str, Any], node: fx.Node) -> Any:
        if all(isinstance(arg, int) for arg in args):
            return target(*args)
        if target is TABLE["size"].fn:
            origin, dim = origin_of(args[0], kwargs["dim"])
            args, kwargs = (origin,), {"dim": dim}
        key = (target, args, tuple(map(type, args)), tuple(kwargs.items()))
        if key not in self._dims:
            self._dims[key] = self._create("call_function", target, args, kwargs, node, None)
        return self._dims[key]

    def _create(self, kind: str, target: Any, args: Any, kwargs: Any, node: fx.Node, name: str | None) -> fx.Node:
        new = self.graph.create_node(kind, target, args, kwargs, name=name)
        new.meta["module_path"] = node.meta.get("module_path", "")
        new.meta["source"] = node.meta.get("source")
        if name is not None:
            new.meta.update({key: node.meta[key] for key in ("shape", "dtype", "number", DEFAULT) if key in node.meta})
        new.meta.update(boundary.kept(node))
        if node.op.startswith("call"):
            new.meta["alias"] = node.meta.get("module_class") or node.meta.get("alias", node.target)
            new.meta["module_class"] = node.meta.get("module_class")
        return new

    def _copy(self, node: fx.Node, args: Any, kwargs: Any) -> fx.Node:
        return self._create(node.op, node.target, args, kwargs, node, node.name)

    def _opaque(self, node: fx.Node, reason: str) -> fx.Node:
        new = self._copy(node, self._concrete(node.args), self._concrete(node.kwargs))
        new.meta["opaque_reason"] = reason
        if "island_reason" in node.meta:
            new.meta["island_reason"] = reason
        return new

    def _evaluate(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        """A call on constants alone, computed now."""
        operands: list[fx.Node] = []

        def slot(operand: fx.Node) -> Slot:
            operands.append(operand)
            return Slot(len(operands) - 1)

        call = Call(node.target, _map_nodes(args, slot), _map_nodes(kwargs, slot))
        with torch.no_grad(), Drawn() as drawn:
            value = call(*map(self.constants.tensor, operands))
        if drawn.found:
            return self._opaque(node, f"{_spelled(node, None)}: {RANDOM}")
        return self._constant_result(value, node, node.name, Derived(call, tuple(map(derivation_of, operands))))

    def _constant_result(self, value: Any, node: fx.Node, name: str, derived: Derived) -> Any:
        if isinstance(value, Tensor):
            operand = next((self.env[x] for x in node.all_input_nodes if isinstance(self.env[x], fx.Node)), None)
            home = parent(str(operand.target)) if operand is not None else node.meta["module_path"]
            key = ("evaluated", node.name, name)
            return self.constants.add(join(home, name), value.detach().clone(), key, derived)
        if isinstance(value, (tuple, list)) and any(isinstance(item, Tensor) for item in value):
            return tuple(
                self._constant_result(item, node, f"{name}_{i}", Derived(operator.itemgetter(i), (derived,)))
                for i, item in enumerate(value)
            )
        return value

    def _look_up(self, args: Any) -> Any:
        return _map_nodes(args, self.env.__getitem__)

    def _concrete(self, args: Any) -> Any:
        """Arguments for a call outside the table: shapes and pieces as the values that they stand for."""
        return _map_nodes(args, lambda node: self._concrete_value(self.env[node], node))

    def _concrete_value(self, value: Any, node: fx.Node) -> Any:
        if isinstance(value, Shape):
            shape = self._create("call_function", getattr, (value.of, "shape"), {}, node, None)
            shape.meta["opaque_reason"] = "a call outside the table reads the whole shape"
            return shape
        if isinstance(value, Pieces):
            try:
                alias, _ = self._alias(node)
                return self._write(value.all(), node, alias)
            except NotNormal as reason:
                return self._opaque(node, str(reason))
        return value

    def _forward_mutation(self, node: fx.Node) -> None:
        """After a change in place, every name of the changed tensor means the result."""
        if not changes_operand(node, self.modules) or not isinstance(self.env[node], fx.Node):
            return
        identity = self.storages[node].identity
        for other in self.env:
            if self.storages[other].identity is identity:
                self.env[other] = self.env[node]


def _require_constants(op: str | Callable[..., Any], kwargs: Mapping[str, Any]) -> None:
    """Raises NotNormal for an attribute that is computed from sizes where the runtime takes a constant."""
    allowed = TABLE[op].computed if isinstance(op, str) else ()
    for name, value in kwargs.items():
        nodes: list[fx.Node] = []
        _map_nodes(value, nodes.append)
        if name not in allowed and any(is_dim(found) or is_computed_number(found) for found in nodes):
            raise NotNormal(f"its {name.replace('_', ' ')} depends on a size")


def _is_of_numbers(args: Any) -> bool:
    """Whether every operand is a number, one at least of them computed from sizes."""
    flat = [item for arg in args for item in (arg if isinstance(arg, (tuple, list)) else (arg,))]
    computed = [item for item in flat if is_dim(item) or is_computed_number(item) or isinstance(item, Shape)]
    return bool(computed) and all(_is_plain(item) or item in computed for item in flat)


def _is_of_dims(function: Any, args: Any) -> bool:
    """Whether a call is an item of a shape, or arithmetic of dim values."""
    if function in (operator.getitem, getattr):
        return True
    return function in DIM_FUNCTIONS and all(isinstance(arg, int) or is_dim(arg) for arg in args)


def _is_plain(value: Any) -> bool:
    """Whether ``value`` is a number, or a tuple or list of numbers."""
    return isinstance(value, (int, float)) or (isinstance(value, (tuple, list)) and all(map(_is_plain, value)))


def _module_alias(cls: type[nn.Module]) -> Alias | None:
    """The alias of a module class or of the nearest base that has one (the trace made sure it computes the same)."""
    return next((alias for base in cls.__mro__ if (alias := alias_of(base)) is not None), None)


_DRAWING = {"gumbel_softmax"}
"""Functions of ``torch.nn.functional`` that draw random numbers and are no operators."""


def _is_random(node: fx.Node) -> bool:
    """Whether ``node`` calls something that draws random numbers, by its name."""
    name = str(node.target) if node.op == "call_method" else str(getattr(node.target, "__name__", ""))
    if getattr(node.target, "__module__", "") == "torch.nn.functional" and name in _DRAWING:
        return True
    packet = getattr(torch.ops.aten, name.partition(".")[0].strip("_"), None) if node.op != "call_module" else None
    return packet is not None and any(draws(getattr(packet, overload)) for overload in packet.overloads())


def _is_constant_call(args: Any, kwargs: Any) -> bool:
    nodes: list[fx.Node] = []
    others: list[Any] = []
    _map_nodes((args, kwargs), nodes.append, others.append)
    constant = bool(nodes) and all(node.op == "get_attr" for node in nodes)
    return constant and not any(isinstance(other, (Shape, Pieces)) for other in others)


def _map_nodes(value: Any, function: Callable[[fx.Node], Any], other: Callable[[Any], Any] | None = None) -> Any:
    """``value`` with ``function`` of every node in its tuples, lists, dicts and slices."""
    if isinstance(value, fx.Node):
        return function(value)
    if isinstance(value, (tuple, list)):
        items = [_map_nodes(item, function, other) for item in value]
        if hasattr(value, "_fields"):
            return type(value)(*items)
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, dict):
        return {key: _map_nodes(item, function, other) for key, item in value.items()}
    if isinstance(value, slice):
        return slice(*(_map_nodes(bound, function, other) for bound in (value.start, value.stop, value.step)))
    if other is not None:
        other(value)
    return value


def _spelled(node: fx.Node, module: nn.Module | None) -> str:
    if module is not None:
        return f"{type(module).__module__}.{type(module).__name__}"
    if node.op == "call_method":
        return f"the tensor method {node.target}"
    target: Any = node.target
    if target is operator.getitem:
        return "this item access"
    return f"{getattr(target, '__module__', None) or 'torch'}.{getattr(target, '__name__', target)}"
