"""The QDQ graph as records, one a node, in order; an operand is the number of a node before."""

from __future__ import annotations

import keyword
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from qfx.errors import ConversionError
from qfx.file.calls import require_call
from qfx.file.functions import ATTRIBUTES
from qfx.file.malformed import MalformedError
from qfx.file.targets import function_name, function_named, is_method
from qfx.file.values import Reader, Writer, text
from qfx.ir.facts import source, where
from qfx.ir.names import stands_in_code
from qfx.ir.nodes import Decision
from qfx.ir.types import QParams
from qfx.quantization.qconfig import QConfig

_NOT_STORED = frozenset(
    {"derivation", "input_statistics", "may_read_wide", "alias", "module_class", "stack_trace", "nn_module_stack"}
)
"""Metadata of the way to this graph, which nothing reads any more."""


def write_graph(writer: Writer, graph: fx.Graph) -> list[Any]:
    """The records of ``graph``.

    Raises:
        ConversionError: A node calls, holds or carries what no file holds; it is named.
    """
    records: list[Any] = []
    for node in graph.nodes:
        try:
            records.append(_write_node(writer, node))
        except ConversionError as error:
            place = {"where": error.where or where(node), "source": source(node)}
            raise ConversionError(error.what, **place, why=error.why, remedy=error.remedy) from error
        writer.nodes[node] = len(records) - 1
    return records


def _write_node(writer: Writer, node: fx.Node) -> list[Any]:
    where = f"{node.meta.get('module_path') or node.name!r}"
    writer.what = f"An argument of {where}"
    args, kwargs = writer.encode(node.args), writer.encode(dict(node.kwargs))
    target = function_name(node.target) if node.op == "call_function" else str(node.target)
    meta = {}
    for key, value in node.meta.items():
        if key not in _NOT_STORED:
            writer.what = f"The metadata {key!r} of {where}"
            meta[key] = writer.encode(value)
    return [node.name, node.op, target, args, kwargs, meta]


def read_graph(reader: Reader, records: Any) -> fx.Graph:
    """The graph of its records.

    Raises:
        MalformedError: They are malformed, or hold what no graph of a model holds.
    """
    if not isinstance(records, list):
        raise MalformedError("The graph is no list of nodes.")
    graph = fx.Graph()
    names: set[str] = set()
    for record in records:
        name, op, target, args, kwargs, meta = record
        ended = bool(reader.nodes) and reader.nodes[-1].op == "output"
        if ended or not _is_name(text(name)) or name in names:
            raise MalformedError(f"There can't be a node named {name!r} here.")
        names.add(name)
        try:
            node = _node(reader, graph, name, text(op), text(target), reader.decode(args), reader.decode(kwargs))
            if node.name != name:
                raise MalformedError(f"There can't be a node named {name!r}.")
            node.meta.update({key: _meta(key, reader.decode(value)) for key, value in meta.items()})
        except MalformedError as error:
            raise MalformedError(str(error), node=name) from error
        reader.nodes.append(node)
    if not reader.nodes or reader.nodes[-1].op != "output":
        raise MalformedError("The graph has no output.")
    return graph


def _node(reader: Reader, graph: fx.Graph, name: str, op: str, target: str, args: Any, kwargs: Any) -> fx.Node:
    if not isinstance(args, tuple) or not isinstance(kwargs, dict) or not all(_is_name(str(key)) for key in kwargs):
        raise MalformedError(f"The arguments of {name!r} are malformed.")
    if op not in _TARGETS:
        raise MalformedError(f"There is no kind of nodes {op!r}.")
    called = _TARGETS[op](target, args)
    if op in ("call_function", "call_method"):
        require_call(called, args, kwargs)
    return graph.create_node(op, called, args, kwargs, name=name)


def _placeholder(target: str, args: tuple[Any, ...]) -> str:
    if not _is_name(target.lstrip("*")) or len(args) > 1:
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


def _is_name(name: str) -> bool:
    return name.isidentifier() and name.isascii() and not keyword.iskeyword(name)


def is_path(path: str) -> bool:
    """Whether ``path`` can be the dotted path of a member."""
    return all(map(is_member, path.split(".")))


def is_member(name: Any) -> bool:
    """Whether a member of a module in a file can have this name: none that code can't have, none of Python's own."""
    special = isinstance(name, str) and name.startswith("__") and name.endswith("__") and hasattr(nn.Module, name)
    return isinstance(name, str) and stands_in_code(name) and not special


# ---------------------------------------------------------------- metadata


def _is(*types: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, types)


def _is_shape(value: Any) -> bool:
    return value is None or (isinstance(value, tuple) and all(type(size) is int and size >= 0 for size in value))


def _is_tuple_of(*types: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, tuple) and all(isinstance(item, types) for item in value)


def _is_inside(value: tuple[Any, ...]) -> bool:
    return len(value) == 3 and _is_tuple_of(str)(value[:2]) and isinstance(value[2], Decision)


_META: dict[str, Callable[[Any], bool]] = {
    "module_path": _is(str),
    "source": _is(str, type(None)),
    "shape": _is_shape,
    "dtype": _is(torch.dtype, type(None)),
    "batch_dim": _is(int, type(None)),
    "decision": _is(Decision),
    "qparams": _is(QParams),
    "arrives_as": _is(QParams),
    "qconfig": _is(QConfig, type(None)),
    "qconfig_rule": _is(str),
    "opaque_reason": _is(str),
    "island_reason": _is(str),
    "group": _is(str),
    "apart": _is(str),
    "observed_by": _is(str),
    "stubbed": _is(bool),
    "rank": _is(int),
    "fused": lambda value: _is_tuple_of(tuple)(value) and all(len(v) == 2 and _is_tuple_of(str)(v) for v in value),
    "recovery": _is_tuple_of(str),
    "part_of": _is(str),
    "computes": _is(str),
    "inside": lambda value: _is_tuple_of(tuple)(value) and all(map(_is_inside, value)),
    "rules": lambda value: _is_tuple_of(tuple)(value) and all(len(v) == 2 and _is_tuple_of(str)(v[1]) for v in value),
    "table_of": _is_tuple_of(str),
    "extents": _is(tuple),
}
"""What is true of the metadata that qfx reads."""


def _meta(key: str, value: Any) -> Any:
    if key in _META and not _META[key](value):
        raise MalformedError(f"The metadata {key!r} is {value!r}.")
    return value
