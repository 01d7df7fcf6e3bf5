"""QDQ -> Int8: quantize and dequantize move into the ops, so that every value has one type on its edge."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NoReturn

import torch
from torch import fx

from qfx.errors import ConversionError
from qfx.ir.attributes import attribute, read_qparams
from qfx.ir.levels import is_dim_arithmetic
from qfx.ir.nodes import decision_of, keyword, operand, path, place
from qfx.ir.types import INTEGER_KINDS, QArray, QParams, ValueType
from qfx.lowering.emitters import emittable, takes_integers
from qfx.ops import qdq
from qfx.ops.calls import activations, arguments, covers
from qfx.ops.qdq.decode import StoredWeight
from qfx.ops.qdq.dynamic import requantize_dynamic
from qfx.ops.table import Op, op_of
from qfx.passes.limits import dims_in_program
from qfx.runtime.limits import MOST_DIMS

_KINDS = {torch.float32: "float", **INTEGER_KINDS}
"""The kinds of values that hold no codes, by their dtypes."""
_SHORT = (torch.uint8, torch.int8, torch.int16)


@dataclass(frozen=True, eq=False)
class Weight:
    """A parameter as the graph's buffers hold it: the integers an exact reference takes, or a weight to decode."""

    path: str
    array: QArray | StoredWeight

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its values."""
        return tuple(self.array.values.shape) if isinstance(self.array, QArray) else self.array.shape


def lower_to_int8(gm: fx.GraphModule) -> fx.GraphModule:
    """The Int8 graph of a QDQ graph; integer parameters are in ``meta["weights"]`` of the node that uses them."""
    return _Lowering(gm).run()


class _Lowering:
    def __init__(self, gm: fx.GraphModule) -> None:
        self.gm, self.graph = gm, fx.Graph()
        self.values: dict[fx.Node, fx.Node] = {}  # QDQ node -> Int8 node with the same meaning (codes for a dequantize)
        self.floats: dict[fx.Node, fx.Node] = {}  # Int8 code node -> its dequantize node
        self.weights: dict[fx.Node, Weight] = {}  # QDQ dequantize or decode_weight of a parameter
        self.torch_dims: dict[fx.Node, fx.Node] = {}

    def run(self) -> fx.GraphModule:
        for node in self.gm.graph.nodes:
            self._lower(node)
        lowered = fx.GraphModule(self.gm, self.graph)
        lowered.graph.eliminate_dead_code()
        lowered.graph.lint()
        lowered.recompile()
        lowered.meta.update(self.gm.meta)
        return lowered

    def _lower(self, node: fx.Node) -> None:
        op = op_of(node)
        if node.op == "placeholder":
            arrives = self._arrives_as(node)
            self._copy(node, ValueType("code", arrives) if arrives else _type_of(node))
        elif node.op == "get_attr":
            self._copy(node, ValueType("constant"))
        elif node.op == "output":
            self._output(node)
        elif node.target is qdq.dequantize:
            self._dequantize(node)
        elif node.target is qdq.decode_weight:
            self.weights[node] = Weight(path(operand(node)), self._stored(node))
        elif node.target is qdq.quantize:
            self._quantize(node)
        elif node.target is requantize_dynamic:
            self.values[node] = self._as_float(operand(node))
        elif is_dim(node):
            self._copy(node, ValueType("dim"), code_ok=True)
        elif op is not None and decision_of(node).kind == "int8":
            self._integer(op, node)
        else:
            self._float(op, node)

    # ------------------------------------------------------------ single nodes

    def _arrives_as(self, node: fx.Node) -> QParams | None:
        """The qparams of an input that arrives as integers, as the buffers hold them now."""
        arrives: QParams | None = node.meta.get("arrives_as")
        reader = next((u for u in node.users if u.target is qdq.dequantize), None)
        if arrives is None or reader is None:
            return arrives
        scale, zero = (attribute(self.gm, path(operand(reader, i))) for i in (1, 2))
        return replace(arrives, scale=float(scale), zero_point=int(zero))

    def _copy(self, node: fx.Node, value_type: ValueType, *, code_ok: bool = False) -> fx.Node:
        get = self._as_is if code_ok else self._as_float
        copy = self.graph.node_copy(node, get)
        copy.meta["value_type"] = value_type
        self.values[node] = copy
        return copy

    def _output(self, node: fx.Node) -> None:
        def result(n: fx.Node) -> fx.Node:
            return self.values[n] if n.target is qdq.quantize else self._as_torch(n)

        self.graph.node_copy(node, result)

    def _dequantize(self, node: fx.Node) -> None:
        source = operand(node)
        if source.op == "get_attr":
            self.weights[node] = Weight(path(source), self._array(node))
        else:
            self.values[node] = self.values[source]

    def _array(self, node: fx.Node) -> QArray:
        code, scale, zero = (attribute(self.gm, path(operand(node, i))) for i in range(3))
        return QArray(code, scale, zero, keyword(node, "axis"))

    def _stored(self, node: fx.Node) -> StoredWeight:
        tensors = (
            attribute(self.gm, path(a)) if isinstance(a, fx.Node) else None for a in (*node.args, None, None)[:3]
        )
        codes, scale, zero = tensors
        assert codes is not None
        return StoredWeight(codes, scale, zero, keyword(node, "shape"))

    def _quantize(self, node: fx.Node) -> None:
        source, value_type = operand(node), ValueType("code", read_qparams(self.gm, node))
        if self._as_is(source).meta["value_type"] == value_type:
            self.values[node] = self._as_is(source)
            return
        made = self.graph.create_node("call_function", qdq.quantize, (self._as_is(source),), name=node.name)
        self._finish(made, node, value_type)
        made.meta["codes_of"] = node.name

    def _integer(self, op: Op, node: fx.Node) -> None:
        quantizes = self._rounded_by(op, node)
        out = ValueType("code", read_qparams(self.gm, quantizes[0])) if quantizes else ValueType("float")
        made = self._call(op, node, coded=True)
        self._finish(made, node, out)
        if quantizes:
            made.meta["codes_of"] = quantizes[0].name

    def _rounded_by(self, op: Op, node: fx.Node) -> list[fx.Node]:
        """The quantize nodes that an op's result goes through; none where it is needed in float32 too, or computed so.

        A layer adds a residual that is float32 to its accumulator, and rounds nothing.
        """
        readers = [u for u in node.users if not is_dim(u)]
        quantizes = [u for u in readers if u.target is qdq.quantize]
        residual = arguments(op, node).get("residual")
        if isinstance(residual, fx.Node) and self._as_is(residual).meta["value_type"].kind != "code":
            return []
        return quantizes if len(quantizes) == len(readers) else []

    def _float(self, op: Op | None, node: fx.Node) -> None:
        if node.op == "call_function":
            made = self._call(op, node, coded=False)
        else:
            made = self.graph.node_copy(node, self._as_torch)
            made.meta["in_torch"] = True
        self._finish(made, node, _type_of(node))
        if op is not None and op.weights and not op.looks_up and decision_of(node).kind == "dynamic":
            rounded = arguments(op, node)["x"]
            made.meta["per_row"] = bool(keyword(rounded, "per_row"))
            if (group := keyword(rounded, "group_size")) is not None:
                made.meta["input_group"] = group

    def _call(self, op: Op | None, node: fx.Node, *, coded: bool) -> fx.Node:
        """The same call, its weights taken out to metadata, its operands as codes or floats."""
        weights: dict[str, Weight] = {}
        given = dict(arguments(op, node)) if op is not None else {}
        for name, value in given.items():
            if isinstance(value, fx.Node) and value in self.weights:
                weights[name] = self.weights[value]
        operands = set(activations(op, node)) if op is not None else set()
        in_program = self._runs_in_program(op, node, coded)

        def given_operand(n: fx.Node) -> fx.Node | None:
            if n in self.weights:
                return None
            if n in operands:
                return self._as_is(n) if coded else self._as_float(n)
            return self._as_is(n) if in_program else self._as_torch(n)

        args = fx.node.map_arg(node.args, given_operand)
        kwargs = fx.node.map_arg(node.kwargs, given_operand)
        made = self.graph.create_node("call_function", node.target, args, kwargs, name=node.name)
        made.meta.update(weights=weights, in_torch=not in_program)
        return made

    def _runs_in_program(self, op: Op | None, node: fx.Node, coded: bool) -> bool:
        """Whether the runtime has this op on these types; torch runs it otherwise."""
        if op is None or op.qparams == "none":
            return False
        own = decision_of(node).kind == "dynamic" or _is_decoded(op, node)  # a layer that torch can't compute
        if dims_in_program(op, node) > MOST_DIMS:
            return self._outside(node) if coded or own else False
        if coded:
            return emittable(op.name, coded=True)
        if own and not op.looks_up:
            return True
        known = emittable(op.name, coded=False) and covers(op, node)
        return known and self._takes(op, node)

    def _takes(self, op: Op, node: fx.Node) -> bool:
        """Whether the runtime's step takes and gives floats, integers and truth values as this node does."""
        given, result = arguments(op, node), _type_of(node).kind
        operands = activations(op, node)
        kinds = {"float" if self._is_short(n) else self._kind(n) for n in operands}
        whole = [given[name] for name in op.integers if given[name] is not None]
        if any(self._kind(n) not in INTEGER_KINDS.values() for n in whole):
            return False
        if result == "float" and kinds <= {"float"}:
            return True
        if not takes_integers(op.name, gives=result) or given.get("activation") is not None:
            return False
        if op.name != "cast" and any(map(self._is_short, operands)):
            return False
        return kinds | {result} <= set(_KINDS.values())

    def _is_short(self, node: fx.Node) -> bool:
        """Whether it is an input of integers of at most 16 bits, such as the bytes of an image.

        Programs take them as float32, which holds each: the same wherever the result is float32, or is cast.
        """
        return node.op == "placeholder" and node.meta.get("dtype") in _SHORT and "arrives_as" not in node.meta

    def _kind(self, node: fx.Node) -> str:
        """The kind of an operand; of a constant, that of its dtype: what is not an integer is float32 in programs."""
        if node.op == "get_attr":
            return _KINDS.get(attribute(self.gm, path(node)).dtype, "float")
        return self._as_float(node).meta["value_type"].kind

    def _outside(self, node: fx.Node) -> NoReturn:
        raise ConversionError(
            f"{node.name} is quantized, and needs values of more than {MOST_DIMS} dimensions.",
            where=node.meta.get("module_path"),
            source=node.meta.get("source"),
            why=f"Programs have values of {MOST_DIMS} dimensions at most, and no shapes were known at preparation.",
            remedy="Prepare the model with example_inputs: it stays float then. Or give it the qconfig None.",
        )

    def _finish(self, made: fx.Node, node: fx.Node, value_type: ValueType) -> None:
        own = {k: made.meta[k] for k in ("weights", "in_torch") if k in made.meta}
        made.meta.update(node.meta)
        made.meta.update(value_type=value_type, **own)
        self.values[node] = made

    # ------------------------------------------------------------ operands

    def _as_is(self, node: fx.Node) -> fx.Node:
        return self.values[node]

    def _as_float(self, node: fx.Node) -> fx.Node:
        value = self.values[node]
        if value.meta["value_type"].kind != "code":
            return value
        if value not in self.floats:
            made = self.graph.call_function(qdq.dequantize, (value,))
            made.meta.update(place(value))
            made.meta["value_type"] = ValueType("float")
            self.floats[value] = made
        return self.floats[value]

    def _as_torch(self, node: fx.Node) -> fx.Node:
        """The operand of a node that torch runs: floats, and shape arithmetic repeated on the float values."""
        if not is_dim(node):
            return self._as_float(node)
        if node not in self.torch_dims:
            made = self.graph.node_copy(node, self._as_torch)
            made.meta.update(value_type=ValueType("other"), in_torch=True)
            self.torch_dims[node] = made
        return self.torch_dims[node]


def _is_decoded(op: Op, node: fx.Node) -> bool:
    """Whether the node is a layer with a weight to decode."""
    weight = arguments(op, node)[op.weights[0]] if op.weights else None
    return isinstance(weight, fx.Node) and weight.target is qdq.decode_weight


def is_dim(node: fx.Node) -> bool:
    """Whether the node is an integer that describes a shape."""
    op = op_of(node)
    return (op is not None and op.name == "size") or is_dim_arithmetic(node)


def _type_of(node: fx.Node) -> ValueType:
    """Of a value that holds no codes."""
    known = node.meta.get("shape") is not None
    return ValueType(_KINDS.get(node.meta.get("dtype", torch.float32), "other") if known else "other")
