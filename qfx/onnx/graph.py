"""The ONNX graph of a QDQ graph: its values by node, and what a form sees of the call that it is of."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from qfx.errors import ConversionError
from qfx.ir.attributes import attribute
from qfx.ir.nodes import path
from qfx.ir.user_names import user_path
from qfx.onnx.builder import TYPES, Builder
from qfx.onnx.lengths import GraphLengths
from qfx.onnx.stored import decoded, is_stored
from qfx.ops import qdq
from qfx.ops.dims import Length
from qfx.ops.table import Op

END = 2**63 - 1
"""The end of a dim, for Slice."""


def refuse(node: fx.Node, why: str, remedy: str) -> ConversionError:
    """The error for a node that has no form in ONNX."""
    called = getattr(node.target, "__name__", node.target)
    return ConversionError(
        f"{node.name} ({called}) can't be written as ONNX.",
        where=node.meta.get("module_path"),
        source=node.meta.get("source"),
        why=why,
        remedy=remedy,
    )


class Graph:
    """What has been written of a QDQ graph."""

    def __init__(self, gm: fx.GraphModule, builder: Builder, lengths: GraphLengths, opset: int) -> None:
        self.gm, self.builder, self.lengths, self.opset = gm, builder, lengths, opset
        self.values: dict[fx.Node, str] = {}
        self._stored: dict[Any, str] = {}

    def value(self, node: fx.Node) -> str:
        """The name of a node's value. Constants, and what decodes them, are written where they are first asked for."""
        if node not in self.values:
            assert node.op == "get_attr" or is_stored(node), f"{node.format_node()} is not written yet"
            self.values[node] = self.attribute(path(node)) if node.op == "get_attr" else self._decoded(node)
        return self.values[node]

    def attribute(self, name: str, dtype: torch.dtype | None = None, *, transposed: bool = False) -> str:
        """A tensor of the model, as ``dtype`` if that is given."""
        key = (name, dtype, transposed)
        if key not in self._stored:
            tensor = attribute(self.gm, name)
            tensor = tensor if dtype is None else tensor.to(dtype)
            self._stored[key] = self.builder.initializer(user_path(name), tensor.t() if transposed else tensor)
        return self._stored[key]

    def tensor(self, node: fx.Node) -> Tensor:
        """The tensor that a get_attr names."""
        return attribute(self.gm, path(node))

    def transposed(self, weight: fx.Node) -> str | None:
        """The value of a matrix with its dims exchanged, where it is stored; None where it is computed."""
        if weight.op == "get_attr":
            return self.attribute(path(weight), transposed=True)
        stored = is_stored(weight) and weight.target is qdq.dequantize
        return self._decoded(weight, transposed=True) if stored else None

    def _decoded(self, node: fx.Node, *, transposed: bool = False) -> str:
        key = (node, transposed)
        if key not in self._stored:
            self._stored[key] = decoded(Call(self, node, None, {}), transposed=transposed)
        return self._stored[key]


@dataclass(frozen=True, eq=False)
class Call:
    """A node as its form sees it.

    Attributes:
        graph: What has been written.
        node: The node.
        op: Its row.
        given: Its arguments by parameter name.
    """

    graph: Graph
    node: fx.Node
    op: Op | None
    given: dict[str, Any]

    # ------------------------------------------------------------ operands

    @property
    def dtype(self) -> torch.dtype:
        """Of the result."""
        found: torch.dtype = self.node.meta["dtype"]
        return found

    def value(self, name: str) -> str:
        """The name of an operand's value; empty where it is left out."""
        given = self.given[name]
        return "" if given is None else self.graph.value(given)

    def as_dtype(self, given: Any, dtype: torch.dtype) -> str:
        """An operand, a node or a number, as ``dtype``."""
        if not isinstance(given, fx.Node):
            return self.constant(given, dtype)
        value = self.graph.value(given)
        return value if given.meta["dtype"] == dtype else self.emit("Cast", value, to=TYPES[dtype])

    def cast(self, name: str) -> str:
        """An operand as the result's dtype."""
        return self.as_dtype(self.given[name], self.dtype)

    def rank(self, name: str = "x") -> int:
        """Of an operand."""
        return len(self.given[name].meta["shape"])

    def lengths(self, name: str = "x") -> tuple[Length, ...]:
        """Of an operand: numbers, and expressions of what is free."""
        return self.graph.lengths.of[self.given[name]]

    def known(self, dims: Sequence[int], needed_for: str, name: str = "x") -> list[int]:
        """Lengths that must be numbers."""
        lengths = self.lengths(name)
        found = [length for dim in dims if isinstance(length := lengths[dim], int)]
        if len(found) < len(dims):
            raise self.refuse(
                f"{needed_for} needs to know the size that it gets, and the model leaves it free.",
                'Write the file with sizes="batch": it is then for the sizes of the example inputs.',
            )
        return found

    def refuse(self, why: str, remedy: str) -> ConversionError:
        """The error for a call that has no form."""
        return refuse(self.node, why, remedy)

    # ------------------------------------------------------------ results

    def emit(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """A node with one result, which it names."""
        builder, label = self.graph.builder, user_path(str(self.node.meta.get("module_path") or self.node.name))
        result = builder.name(name or self.node.name)
        builder.add(kind, inputs, [result], f"{label}/{kind}", **attributes)
        return result

    def constant(self, value: Any, dtype: torch.dtype | None = None) -> str:
        """A constant."""
        return self.graph.builder.constant(value, dtype, f"{self.node.name}_constant")

    def whole(self, value: int | Sequence[int]) -> str:
        """Constants for shapes, axes and indices: int64."""
        return self.constant(value if isinstance(value, int) else list(value), torch.int64)

    # ------------------------------------------------------------ lengths as values

    def length(self, value: str, dim: int, known: Length | None = None) -> str:
        """The length of a dim, int64 ``[1]``."""
        return self.whole([known]) if isinstance(known, int) else self.emit("Shape", value, start=dim, end=dim + 1)

    def number(self, entry: int | fx.Node) -> str:
        """An integer or a node that computes one, int64 ``[1]``."""
        return self.whole([entry]) if isinstance(entry, int) else self.graph.value(entry)

    def numbers(self, entries: Sequence[int | fx.Node | str]) -> str:
        """Integers, nodes that compute them, and values ``[1]``, as one int64 vector."""
        if all(isinstance(entry, int) for entry in entries):
            return self.whole(entries)  # type: ignore[arg-type]
        parts = [entry if isinstance(entry, str) else self.number(entry) for entry in entries]
        return parts[0] if len(parts) == 1 else self.emit("Concat", *parts, axis=0)

    def scalar(self, entry: int | fx.Node) -> str:
        """As :meth:`number`, 0-d."""
        return self.whole(entry) if isinstance(entry, int) else self.emit("Squeeze", self.number(entry))

    def reshape(self, value: str, entries: Sequence[int | fx.Node | str]) -> str:
        """The elements in another shape; 0 keeps the dim at that place, one entry may be -1."""
        return self.emit("Reshape", value, self.numbers(entries))

    def clamped(self, value: str, activation: Any) -> str:
        """The clamp epilogue."""
        if activation is None or activation[1:] == (None, None):
            return value
        low, high = activation[1:]
        if low == 0.0 and high is None:
            return self.emit("Relu", value)
        bounds = ["" if bound is None else self.constant(bound, torch.float32) for bound in (low, high)]
        return self.emit("Clip", value, *bounds)


_ARITHMETIC: Mapping[Any, str] = {operator.add: "Add", operator.sub: "Sub", operator.mul: "Mul", operator.neg: "Neg"}
"""Ops of ONNX by Python's."""


def dim_arithmetic(graph: Graph, node: fx.Node) -> str:
    """Arithmetic of integers that describe shapes, int64 ``[1]``."""
    call = Call(graph, node, None, {})
    operands = [call.number(entry) for entry in node.args]  # type: ignore[arg-type]
    if node.target is operator.floordiv:  # Div rounds towards 0
        below = call.emit("Sub", operands[0], call.emit("Mod", *operands))
        return call.emit("Div", below, operands[1])
    kind = _ARITHMETIC.get(node.target)
    if kind is None:
        raise refuse(node, "It is no arithmetic of sizes that ONNX has.", "Compute the size with +, -, * and //.")
    return call.emit(kind, *operands)
