"""What torch computes between the programs of a model, in a file: nodes, and the modules and tensors that they use."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, fx, nn

from qfx.file.malformed import MalformedError
from qfx.file.nodes import is_path, read_node, write_node
from qfx.file.values import Reader, Writer, text
from qfx.ir.attributes import member, members, tree_of

_META = ("module_path", "source")
"""What errors say of a node."""
_CALLS = ("call_function", "call_method", "call_module")
_MEMBERS: dict[str, type] = {"get_attr": Tensor, "call_module": nn.Module}
"""What is at the path that a node names."""


def write_nodes(writer: Writer, nodes: Iterable[fx.Node]) -> list[Any]:
    """The records of nodes, which have numbers from here on.

    Raises:
        ConversionError: One calls or holds what no file holds; it is named.
    """
    records: list[Any] = []
    for node in nodes:
        records.append(write_node(writer, node, _META))
        writer.nodes[node] = len(writer.nodes)
    return records


def read_nodes(reader: Reader, graph: fx.Graph, records: Any, kinds: tuple[str, ...] = _CALLS) -> tuple[fx.Node, ...]:
    """The nodes of their records, at the end of ``graph``.

    Raises:
        MalformedError: They are malformed, or of other kinds than ``kinds``.
    """
    start = len(reader.nodes)
    for record in records:
        node = read_node(reader, graph, record, _meta)
        if node.op not in kinds:
            raise MalformedError(f"{node.op} is nothing that torch computes.", node=node.name)
        reader.nodes.append(node)
    return tuple(reader.nodes[start:])


def _meta(key: str, value: Any) -> str | None:
    if key not in _META or not isinstance(value, (str, type(None))):
        raise MalformedError(f"The metadata {key!r} is {value!r}.")
    return value


def write_members(writer: Writer, root: nn.Module, nodes: Iterable[fx.Node]) -> list[Any]:
    """The modules and tensors that nodes name, by path.

    Raises:
        ConversionError: One is of a kind that no file holds; it is named.
    """
    pairs = []
    for path, found in members(root, nodes).items():
        writer.path, writer.what = path, f"Module {path!r}"
        pairs.append([path, writer.encode(found)])
    return pairs


def read_members(reader: Reader, pairs: Any, graph: fx.Graph) -> nn.Module:
    """A module with the members that ``graph`` names.

    Raises:
        MalformedError: They are malformed, or others.
    """
    found: dict[str, Any] = {}
    for path, content in pairs:
        if not is_path(text(path)):
            raise MalformedError(f"{path!r} is no path in a model.")
        reader.path = path
        found[path] = reader.decode(content)
    root = tree_of(found)
    for node in graph.nodes:
        if node.op in _MEMBERS and not isinstance(member(root, str(node.target)), _MEMBERS[node.op]):
            raise MalformedError(f"There is no {_MEMBERS[node.op].__name__} at {node.target!r}.", node=node.name)
    return root
