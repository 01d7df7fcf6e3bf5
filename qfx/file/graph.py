"""The QDQ graph as records, one a node, in order; an operand is the number of a node before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from qfx.file.malformed import MalformedError
from qfx.file.nodes import read_node, write_node
from qfx.file.values import Reader, Writer
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
        records.append(write_node(writer, node, [key for key in node.meta if key not in _NOT_STORED]))
        writer.nodes[node] = len(records) - 1
    return records


def read_graph(reader: Reader, records: Any) -> fx.Graph:
    """The graph of its records.

    Raises:
        MalformedError: They are malformed, or hold what no graph of a model holds.
    """
    if not isinstance(records, list):
        raise MalformedError("The graph is no list of nodes.")
    graph = fx.Graph()
    for record in records:
        if reader.nodes and reader.nodes[-1].op == "output":
            raise MalformedError(f"There can't be a node named {record[0]!r} here.")
        reader.nodes.append(read_node(reader, graph, record, _meta))
    if not reader.nodes or reader.nodes[-1].op != "output":
        raise MalformedError("The graph has no output.")
    return graph


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
