"""The QDQ level's exact meaning: integers computed op by op with the table's integer references."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from qfx.ir.attributes import attribute, read_qparams
from qfx.ir.module import plain
from qfx.ir.nodes import decision_of, keyword, operand
from qfx.ir.types import INTEGER_KINDS, QArray, QParams
from qfx.ops import arithmetic, qdq
from qfx.ops.calls import activations, arguments, covers
from qfx.ops.compute.integer import linear_dynamic, linear_dynamic_grouped, linear_in_order
from qfx.ops.compute.reference import activate
from qfx.ops.qdq.decode import StoredWeight
from qfx.ops.table import Op, op_at, op_of


@dataclass(frozen=True)
class IntegerRun:
    """What :func:`interpret_integers` computed.

    Attributes:
        output: The model's output.
        codes: The integers of every quantize node by name, in its dtype's storage.
    """

    output: Any
    codes: dict[str, Tensor]


def interpret_integers(gm: fx.GraphModule, inputs: tuple[Any, ...]) -> IntegerRun:
    """Run a QDQ graph in integer arithmetic.

    An op decided int8 takes its operands' integers and gives integers of its quantize node's qparams (or float32
    when nothing quantizes its result). Every other op runs on floats as its row defines them.

    Args:
        gm: The QDQ graph.
        inputs: Values of the placeholders, in order.
    """
    run = _Run(gm)
    placeholders = gm.graph.find_nodes(op="placeholder")
    run.env.update(zip(placeholders, inputs, strict=True))
    with torch.no_grad():
        for node in gm.graph.nodes:
            if node.op not in ("placeholder", "output"):
                run.env[node] = run.evaluate(node)
        output = plain(gm.graph.output_node().args[0], run.as_float)
    return IntegerRun(output, run.codes)


class _Run:
    def __init__(self, gm: fx.GraphModule) -> None:
        self.gm = gm
        self.env: dict[fx.Node, Any] = {}
        self.codes: dict[str, Tensor] = {}

    def evaluate(self, node: fx.Node) -> Any:
        op = op_of(node)
        if node.op == "get_attr":
            return attribute(self.gm, str(node.target))
        if node.op == "call_module":
            return self.gm.get_submodule(str(node.target))(*self._floats(node.args), **self._floats(node.kwargs))
        if node.target is qdq.quantize:
            return self._quantize(node)
        if node.target is qdq.dequantize:
            code, scale, zero = (self.env[operand(node, i)] for i in range(3))
            return QArray(code, scale, zero, keyword(node, "axis"))
        if op is not None and decision_of(node).kind == "int8":
            return self._integer(node)
        if decision_of(node).kind == "dynamic" and op is not None and op.weights and not op.looks_up:
            return self._dynamic(node)
        if decision_of(node).kind == "weight_only" and op is not None and op.weights and not op.looks_up:
            return self._weight_only(node)
        if op is not None and op.floats == "integer" and covers(op, node) and self._computes_float32(node):
            assert op.integer is not None
            return op.integer(*self._operands(op, node), out=None, **self._float32s(node.kwargs))
        if node.op == "call_method":
            args = self._floats(node.args)
            return getattr(args[0], str(node.target))(*args[1:], **self._floats(node.kwargs))
        assert callable(node.target)
        return node.target(*self._floats(node.args), **self._floats(node.kwargs))

    def _quantize(self, node: fx.Node) -> Tensor:
        source, qparams = operand(node), read_qparams(self.gm, node)
        if source.op == "call_function" and decision_of(source).kind == "int8":
            codes = self.env[source]
        elif isinstance(value := self.env[source], QArray):
            real = (value.values.to(torch.int64) - value.zero_point).double() * value.scale.double()
            scale, zero = (self.env[operand(node, i)] for i in (1, 2))
            codes = arithmetic.quantize(real, scale, zero, qparams.qmin, qparams.qmax)
        else:
            scale, zero = (self.env[operand(node, i)] for i in (1, 2))
            codes = arithmetic.quantize(self.as_float(source), scale, zero, qparams.qmin, qparams.qmax)
        self.codes[node.name] = codes.to(qparams.dtype.storage)
        return self.codes[node.name]

    def _integer(self, node: fx.Node) -> Tensor:
        op = op_at(node)
        assert op.integer is not None
        out: QParams | None = next((read_qparams(self.gm, u) for u in node.users if u.target is qdq.quantize), None)
        operands = set(activations(op, node))
        if out is None and "residual" in op.epilogues:
            operands.discard(arguments(op, node)["residual"])  # a float result takes a float residual

        def value(n: fx.Node) -> Any:
            item = self.env[n]
            assert isinstance(item, QArray) or n not in operands, f"{n} reaches {node} without qparams"
            return item

        result: Tensor = op.integer(*fx.node.map_arg(node.args, value), out=out, **fx.node.map_arg(node.kwargs, value))
        return result

    def _dynamic(self, node: fx.Node) -> Tensor:
        op = op_at(node)
        given = arguments(op, node)
        rounded, weight = given["x"], self.env[given["weight"]]
        bias = None if given["bias"] is None else self.as_float(given["bias"])
        x = self.as_float(rounded.args[0])
        group = rounded.kwargs.get("group_size")
        if group is None:
            y = linear_dynamic(x, weight, bias, **rounded.kwargs)
        else:
            y = linear_dynamic_grouped(x, self._stored(given["weight"]), bias, group_size=group)
        y = y if given["residual"] is None else y + self.as_float(given["residual"])
        return activate(y, given["activation"])

    def _stored(self, node: fx.Node) -> StoredWeight:
        """The operands of a node that decodes a weight."""
        codes, scale, zeros = (None if n is None else self.env[n] for n in (*node.args, None, None)[:3])  # type: ignore[index]
        return StoredWeight(codes, scale, zeros, node.kwargs.get("shape"))  # type: ignore[arg-type]

    def _weight_only(self, node: fx.Node) -> Tensor:
        given = {k: self.as_float(v) if isinstance(v, fx.Node) else v for k, v in arguments(op_at(node), node).items()}
        y = linear_in_order(given["x"], given["weight"], given["bias"])
        return activate(y if given["residual"] is None else y + given["residual"], given["activation"])

    def as_float(self, node: fx.Node) -> Any:
        value = self.env[node]
        if isinstance(value, QArray):
            return arithmetic.dequantize(value.values, value.scale, value.zero_point, value.axis)
        return value

    def _operands(self, op: Op, node: fx.Node) -> Any:
        """Of an op on floats: matrices are as they are stored, and integers are integers."""
        stored = {value for name, value in arguments(op, node).items() if name in (*op.matrices, *op.integers)}
        return fx.node.map_arg(node.args, lambda n: self.env[n] if n in stored else self._float32(n))

    def _floats(self, arguments: Any) -> Any:
        return fx.node.map_arg(arguments, self.as_float)

    def _computes_float32(self, node: fx.Node) -> bool:
        """Whether the runtime has the call: on float32, and on integers that a function makes float32 of."""
        op = op_at(node)
        dtypes = {self.as_float(n).dtype for n in activations(op, node)}
        gives = node.meta.get("dtype", torch.float32) is torch.float32
        return dtypes <= {torch.float32} or (op.pointwise is not None and gives and dtypes <= set(INTEGER_KINDS))

    def _float32s(self, arguments: Any) -> Any:
        return fx.node.map_arg(arguments, self._float32)

    def _float32(self, node: fx.Node) -> Any:
        value = self.as_float(node)
        return value.to(torch.float32) if isinstance(value, Tensor) else value
