"""Which values of a raw trace are the same tensor or share memory, and in-place changes that this makes visible."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

_SAME = {"contiguous", "detach", "to", "float", "cpu", "type_as", "requires_grad_", "dropout", "dropout1d", "dropout2d"}
_SAME |= {"dropout3d", "alpha_dropout", "feature_alpha_dropout", "feature_dropout", "alias", "lift_fresh"}
_SAME_MODULES = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
_SAME_MODULES += (nn.FeatureAlphaDropout,)  # type: ignore[assignment]
_VIEWS = {"view", "reshape", "flatten", "permute", "transpose", "t", "swapaxes", "swapdims", "movedim", "moveaxis"}
_VIEWS |= {"chunk", "split", "tensor_split", "unbind", "narrow", "select", "squeeze", "unsqueeze", "expand", "ravel"}
_VIEWS |= {"expand_as", "view_as", "reshape_as", "unflatten", "getitem", "diagonal", "unfold", "getattr"}
_VIEWS |= {"slice", "split_with_sizes", "numpy_T", "mT"}
_VIEW_MODULES = (nn.Flatten, nn.Unflatten)
AUGMENTED: dict[Any, Callable[..., Any]] = {
    operator.iadd: operator.add, operator.isub: operator.sub, operator.imul: operator.mul,
    operator.itruediv: operator.truediv, operator.ifloordiv: operator.floordiv, operator.imod: operator.mod,
    operator.ipow: operator.pow, operator.iand: operator.and_, operator.ior: operator.or_, operator.ixor: operator.xor,
}  # fmt: skip
"""Augmented assignments and what they compute."""

_AUGMENTED_METHODS = {f"__{function.__name__}__" for function in AUGMENTED} | {"__setitem__"}

MADE_IN_CALL = "made_in_call"
"""Key of the ``meta`` of a ``get_attr`` node whose tensor the code makes anew at each call."""

REFUSED = "not_functional"
"""Key of the ``meta`` of a tensor whose changes in place are no functions: why."""


@dataclass(frozen=True)
class Storage:
    """``base``: the node that made the memory. ``identity``: the node that made this tensor over it."""

    base: fx.Node
    identity: fx.Node


def storages(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> dict[fx.Node, Storage]:
    """The storage of every node's value; nodes with one ``identity`` hold one tensor."""
    found: dict[fx.Node, Storage] = {}
    for node in graph.nodes:
        source = first_operand(node)
        if source is None or _copies_items(node):
            found[node] = Storage(node, node)
        elif changes_operand(node, modules) or _is(node, modules, _SAME, _SAME_MODULES):
            found[node] = found[source]
        elif _is(node, modules, _VIEWS, _VIEW_MODULES):
            found[node] = Storage(found[source].base, node)
        else:
            found[node] = Storage(node, node)
    return found


def changes_operand(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Whether ``node`` changes its first operand in place, or the one that it is to write its result into."""
    if isinstance(node.kwargs.get("out"), fx.Node):
        return True
    if node.op == "call_module":
        return getattr(modules[str(node.target)], "inplace", False) is True
    if node.op == "call_method":
        name = str(node.target)
        in_place = name.endswith("_") and not name.endswith("__") and name != "requires_grad_"
        return in_place or name in _AUGMENTED_METHODS
    if node.op == "call_function":
        name = function_name(node.target)
        in_place_name = (name.endswith("_") and not name.endswith("__")) or name in _AUGMENTED_METHODS
        return (
            node.target in AUGMENTED
            or node.target is operator.setitem
            or in_place_name
            or _argument(node, "inplace") is True
        )
    return False


def mutation_hazards(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> Iterator[tuple[fx.Node, str]]:
    """In-place changes with an effect that a graph of values can't express, each with the reason."""
    found = storages(graph, modules)
    for node, reason in hazards(graph, modules):
        why = found[node].base.meta.get(REFUSED)
        yield node, f"{reason} ({why})" if why else reason
    for node in graph.nodes:
        if node.target in (operator.setitem, "__setitem__"):
            why = found[node].base.meta.get(REFUSED)
            yield node, f"an item of a tensor is changed in place ({why})" if why else _OF_THE_MODEL


_OF_THE_MODEL = "an item of a parameter or buffer is changed in place"


def hazards(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> Iterator[tuple[fx.Node, str]]:
    """Changes in place of the model's tensors, and of what other views show that are used later."""
    found = storages(graph, modules)
    order = {node: index for index, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        source = first_operand(node)
        if source is None or not changes_operand(node, modules) or is_number(source):
            continue
        base = found[source].base
        if base.op == "get_attr" and (MADE_IN_CALL not in base.meta or REFUSED in base.meta):
            whose = "a tensor that the code makes" if MADE_IN_CALL in base.meta else "a parameter or buffer"
            yield node, f"{whose}, {base.target}, is changed in place"
        views = [other for other, storage in found.items() if storage.base is base]
        views = [other for other in views if found[other].identity is not found[source].identity]
        views = [other for other in views if order[other] < order[node]]
        if any(order[user] > order[node] for view in views for user in view.users if not _is_size_query(view)):
            yield node, "a tensor is changed in place while a view of it is still in use"


def _copies_items(node: fx.Node) -> bool:
    """Whether ``node`` is an item access by a tensor of indices, which copies."""
    if node.target not in (operator.getitem, "__getitem__") or len(node.args) < 2:
        return False
    items = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
    return any(isinstance(item, list) or (isinstance(item, fx.Node) and not is_number(item)) for item in items)


def first_operand(node: fx.Node) -> fx.Node | None:
    """The first argument of a call, or the one that it writes its result into, if it is a node."""
    if not node.op.startswith("call"):
        return None
    written = node.kwargs.get("out")
    if isinstance(written, fx.Node):
        return written
    first: Any = node.args[0] if node.args else next(iter(node.kwargs.values()), None)
    return first if isinstance(first, fx.Node) else None


def _argument(node: fx.Node, name: str) -> Any:
    if name in node.kwargs:
        return node.kwargs[name]
    code = getattr(node.target, "__code__", None)
    names = code.co_varnames[: code.co_argcount] if code is not None else ()
    return node.args[names.index(name)] if name in names[: len(node.args)] else None


def _is(node: fx.Node, modules: Mapping[str, nn.Module], names: set[str], classes: tuple[type, ...]) -> bool:
    if node.op == "call_module":
        return "island_reason" not in node.meta and isinstance(modules[str(node.target)], classes)
    name = str(node.target) if node.op == "call_method" else function_name(node.target)
    return name in names and not _is_size_query(node)


def function_name(function: Any) -> str:
    """The name of a function; of an op without its overload."""
    packet = getattr(function, "overloadpacket", function)
    return str(getattr(packet, "__name__", ""))


def _is_size_query(node: fx.Node) -> bool:
    return node.op == "call_function" and node.target is getattr and node.args[1] not in ("T", "mT", "H", "data")


def is_number(node: fx.Node) -> bool:
    """Whether a node computes a number, not a tensor."""
    if node.op == "call_method":
        return node.target in ("size", "dim", "numel", "item")
    if node.op != "call_function":
        return False
    if function_name(node.target) == "sym_size":
        return True
    if node.target is operator.getitem:
        return isinstance(node.args[0], fx.Node) and (is_number(node.args[0]) or _is_size_query(node.args[0]))
    if _is_size_query(node):
        return True
    own = getattr(node.target, "__module__", "") in ("_operator", "math", "builtins")
    return own and bool(node.all_input_nodes) and all(map(is_number, node.all_input_nodes))
