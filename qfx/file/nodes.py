"""Nodes of a graph as records: ``name, kind, target, args, kwargs, metadata``; an operand is the number of a node."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Iterable
from typing import Any

from torch import fx, nn

from qfx.errors import ConversionError
from qfx.file.calls import require_call
from qfx.file.functions import ATTRIBUTES
from qfx.file.malformed import MalformedError
from qfx.file.targets import function_name, function_named, is_method
from qfx.file.values import Reader, Writer, text
from qfx.ir.facts import source, where
from qfx.ir.names import stands_in_code


def write_node(writer: Writer, node: fx.Node, stored: Iterable[str]) -> list[Any]:
    """The record of ``node``, whose operands have numbers.

    Args:
        writer: What it refers to.
        node: The node.
        stored: Keys of its metadata, which it may have or not.

    Raises:
        ConversionError: It calls, holds or carries what no file holds; it is named.
    """
    at = f"{node.meta.get('module_path') or node.name!r}"
    writer.what = f"An argument of {at}"
    try:
        args, kwargs = writer.encode(node.args), writer.encode(dict(node.kwargs))
        target = function_name(node.target) if node.op == "call_function" else str(node.target)
        meta = {}
        for key in stored:
            if key in node.meta:
                writer.what = f"The metadata {key!r} of {at}"
                meta[key] = writer.encode(node.meta[key])
    except ConversionError as error:
        place = {"where": error.where or where(node), "source": source(node)}
        raise ConversionError(error.what, **place, why=error.why, remedy=error.remedy) from error
    return [node.name, node.op, target, args, kwargs, meta]


def read_node(reader: Reader, graph: fx.Graph, record: Any, meta: Callable[[str, Any], Any]) -> fx.Node:
    """The node of a record, at the end of ``graph``.

    Args:
        reader: What it refers to.
        graph: Where it is made.
        record: As :func:`write_node` made it; not trusted.
        meta: The metadata of a key, checked.

    Raises:
        MalformedError: It is malformed, or holds what no graph of a model holds.
    """
    name, op, target, args, kwargs, metadata = record
    if not is_name(text(name)):
        raise MalformedError(f"There can't be a node named {name!r} here.")
    try:
        node = _node(reader, graph, name, text(op), text(target), reader.decode(args), reader.decode(kwargs))
        if node.name != name:
            raise MalformedError(f"There can't be a node named {name!r}.")
        node.meta.update({key: meta(key, reader.decode(value)) for key, value in metadata.items()})
    except MalformedError as error:
        raise MalformedError(str(error), node=name) from error
    return node


def _node(reader: Reader, graph: fx.Graph, name: str, op: str, target: str, args: Any, kwargs: Any) -> fx.Node:
    if not isinstance(args, tuple) or not isinstance(kwargs, dict) or not all(is_name(str(key)) for key in kwargs):
        raise MalformedError(f"The arguments of {name!r} are malformed.")
    if op not in _TARGETS:
        raise MalformedError(f"There is no kind of nodes {op!r}.")
    called = _TARGETS[op](target, args)
    if op in ("call_function", "call_method"):
        require_call(called, args, kwargs)
    return graph.create_node(op, called, args, kwargs, name=name)


def _placeholder(target: str, args: tuple[Any, ...]) -> str:
    if not is_name(target.lstrip("*")) or len(args) > 1:
        raise MalformedError(f"There can't be an input named {target!r}.")
    return target


def _path(target: str, _: tuple[Any, ...]) -> str:
    if not is_path(target):
        raise MalformedError(f"{target!r} is no path in a model.")
    return target


def _method(target: str, _: tuple[Any, ...]) -> str:
    if not is_method(target):
        raise MalformedError(f"A model may not call the method {target!r}.")
    return target


def _function(target: str, args: tuple[Any, ...]) -> Callable[..., Any]:
    found = function_named(target)
    if found is getattr and not (len(args) == 2 and args[1] in ATTRIBUTES):
        raise MalformedError(f"A model may not read the attribute {args[1:]!r}.")
    return found


def _output(target: str, args: tuple[Any, ...]) -> str:
    if target != "output" or len(args) != 1:
        raise MalformedError("The output is malformed.")
    return target


_TARGETS: dict[str, Callable[[str, tuple[Any, ...]], Any]] = {
    "placeholder": _placeholder,
    "get_attr": _path,
    "call_module": _path,
    "call_method": _method,
    "call_function": _function,
    "output": _output,
}
"""How the target of each kind of nodes is read. What it lets through becomes Python code: names have to be names."""


def is_name(name: str) -> bool:
    """Whether a node or an argument can have this name."""
    return name.isidentifier() and name.isascii() and not keyword.iskeyword(name)


def is_path(path: str) -> bool:
    """Whether ``path`` can be the dotted path of a member."""
    return all(map(is_member, path.split(".")))


def is_member(name: Any) -> bool:
    """Whether a member of a module in a file can have this name: none that code can't have, none of Python's own."""
    special = isinstance(name, str) and name.startswith("__") and name.endswith("__") and hasattr(nn.Module, name)
    return isinstance(name, str) and stands_in_code(name) and not special
