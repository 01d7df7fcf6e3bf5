"""A call of one op as a QDQ graph of that op, lowered and compiled as any graph is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from qfx.eager.call import Activation, Bound, Plain, in_layout
from qfx.eager.parameters import parameters_of
from qfx.errors import InputError, QfxError, RuntimeLoadError
from qfx.frontends.shapes import propagate_shapes
from qfx.ir.nodes import Decision, decide
from qfx.ir.types import QParams
from qfx.lowering.compile import compile_int8
from qfx.lowering.compiled import Compiled
from qfx.lowering.emit import channels_last, identity
from qfx.memory import untraced
from qfx.ops import qdq
from qfx.ops.shape import reference as shape
from qfx.passes.on_codes import why_in_float
from qfx.passes.weights import QuantizedWeight
from qfx.pipeline import LOWER, run

_INT8, _FLOAT = Decision("int8", "its operands are int8"), Decision("float", "it is computed in float")


def compile_call(bound: Bound) -> Compiled:
    """The program of a call with its constants. Activations enter, and the result leaves, as the call lays them out.

    No tracer records what compiling computes: the recording of a first call is that of any other.

    Raises:
        InputError: A constant is of the wrong kind.
        QuantizationError: A weight is not qint8, or its channels are not along dim 0.
        ConversionError: A bias that is not finite, or sums that do not fit 32 bits.
    """
    with untraced():
        return _compiled(bound)


def _compiled(bound: Bound) -> Compiled:
    call = bound.call
    built = _OneOpGraph(bound)
    parameters = parameters_of(call, bound.constants)
    operands = [built.operand(role, what, parameters.get(role)) for role, what in call.operands]
    node = built.graph.call_function(call.op.fn, tuple(operands), dict(call.attributes))
    built.output(node)
    gm = fx.GraphModule(built.root, built.graph)
    layouts = zip(bound.activations, bound.layouts, strict=True)
    try:
        propagate_shapes(gm, tuple(in_layout(x.codes, what) for x, what in layouts))
    except InputError as error:
        raise misfit(bound, error) from error
    in_float = why_in_float(call.op, node)
    decide(node, Decision("float", in_float) if in_float else _INT8)
    try:
        return _without_tensors(compile_int8(run(LOWER, gm)))
    except RuntimeLoadError as error:
        raise misfit(bound, error) from error


def _without_tensors(compiled: Compiled) -> Compiled:
    """``compiled`` with no copy of the constants beside those of its programs."""
    if all(part.executable is not None for part in compiled.segments):
        compiled.root._buffers.clear()
    return compiled


def misfit(bound: Bound, error: QfxError) -> InputError:
    """What shape propagation or the runtime says of a call's operands, told of the call."""
    shapes = ", ".join(str(tuple(value.shape)) for value in (*bound.activations, *bound.constants.values()))
    return InputError(
        f"{bound.call.name} does not run on operands of shapes {shapes}.",
        why=error.why or error.what,
        remedy="Pass operands of the shapes that the float function takes.",
    )


class _OneOpGraph:
    """The QDQ graph of a call of one op, which grows by its operands and ends with its output."""

    def __init__(self, bound: Bound) -> None:
        self.bound, self.call = bound, bound.call
        self.root, self.graph = nn.Module(), fx.Graph()

    def operand(self, role: str, what: Any, parameter: Any) -> Any:
        if isinstance(what, Activation):
            return self._activation(role, what)
        if isinstance(what, Plain):
            return what.value
        if isinstance(what, tuple):
            return [self._activation(f"{role}_{i}", item) for i, item in enumerate(what)]
        if isinstance(parameter, QuantizedWeight):
            suffixes = {"": parameter.values, "_scale": parameter.scale, "_zero_point": parameter.zero_point}
            stored = [self._attribute(role + suffix, part) for suffix, part in suffixes.items()]
            return self.graph.call_function(qdq.dequantize, tuple(stored), {"axis": parameter.axis})
        return None if parameter is None else self._attribute(role, parameter)

    def _activation(self, name: str, what: Activation) -> fx.Node:
        """A placeholder that arrives as integers; in logical order, with the result's parameters if the op shares."""
        rank, out = len(what.shape), self.call.out
        order = channels_last(rank) if what.channels_last else identity(rank)
        node = self.graph.placeholder(name)
        node.meta["arrives_as"] = what.qparams
        value = self._dequantize(node, what.qparams, name)
        if order != identity(rank):
            value = self._requantize(self._permute(value, [order.index(d) for d in range(rank)]), what.qparams, name)
        if self.call.op.qparams == "share" and out is not None and what.qparams != out:
            value = self._requantize(value, out, f"{name}_shared")
        return value

    def output(self, node: fx.Node) -> None:
        """Return ``node``: as integers unless the result is float, in the order that the call asks for."""
        out = self.call.out
        if out is not None:
            node = self._quantize(node, out, "out")
        if self.bound.result_channels_last:
            value = node if out is None else self._dequantize(node, out, "out")
            value = self._permute(value, list(channels_last(self.bound.result_rank)))
            node = value if out is None else self._quantize(value, out, "out")
        self.graph.output(node)

    def _permute(self, value: fx.Node, dims: list[int]) -> fx.Node:
        made = self.graph.call_function(shape.permute, (value,), {"dims": dims})
        decide(made, _INT8 if value.target is qdq.dequantize else _FLOAT)
        return made

    def _attribute(self, name: str, value: Tensor) -> fx.Node:
        if not hasattr(self.root, name):
            self.root.register_buffer(name, value)
        return self.graph.get_attr(name)

    def _qparams(self, qparams: QParams, name: str) -> tuple[fx.Node, fx.Node]:
        scale = self._attribute(f"{name}_scale", torch.tensor(qparams.scale, dtype=torch.float32))
        return scale, self._attribute(f"{name}_zero_point", torch.tensor(qparams.zero_point, dtype=torch.int64))

    def _quantize(self, node: fx.Node, qparams: QParams, name: str) -> fx.Node:
        kwargs: dict[str, Any] = {"dtype": qparams.dtype.name, "quant_min": qparams.qmin, "quant_max": qparams.qmax}
        return self.graph.call_function(qdq.quantize, (node, *self._qparams(qparams, name)), kwargs)

    def _dequantize(self, node: fx.Node, qparams: QParams, name: str) -> fx.Node:
        return self.graph.call_function(qdq.dequantize, (node, *self._qparams(qparams, name)))

    def _requantize(self, node: fx.Node, qparams: QParams, name: str) -> fx.Node:
        return self._dequantize(self._quantize(node, qparams, name), qparams, name)
