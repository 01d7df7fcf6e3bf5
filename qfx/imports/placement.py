"""Float calls between quantize and dequantize become int8 ones: which of them, and with which integers.

Nothing is quantized that the other tool left in float, and no value gets other numbers than it has there. Where a
quantize commutes with what stands in front of it, it moves up, so that bytes are moved and not floats.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from qfx.imports.integers import integers_of
from qfx.imports.writer import WEIGHTS_READ
from qfx.ir.attributes import attribute, has_attribute, read_qparams, set_buffer
from qfx.ir.derivation import DERIVATION
from qfx.ir.levels import is_opaque
from qfx.ir.nodes import Decision, decide, decision_of, keyword, operand, path, place
from qfx.ir.snapshot import bytes_of
from qfx.ir.types import QArray, QDType, QParams
from qfx.ir.user_names import token_path
from qfx.ops import qdq
from qfx.ops.calls import activations, arguments
from qfx.ops.qdq.dynamic import requantize_dynamic
from qfx.ops.table import Op, is_op, op_at, op_of
from qfx.passes import weights
from qfx.passes.by_rows import matrices
from qfx.passes.convert import fx_module
from qfx.passes.on_codes import why_in_float
from qfx.quantization.observer import PerChannelMinMaxObserver
from qfx.quantization.qconfig import SMALLEST_SCALE

_INT8 = Decision("int8", "quantized by the tool that the model comes from")
_DYNAMIC = Decision("dynamic", "weights int8 by the tool that the model comes from, input quantized at each call")
_LOOKED_UP = Decision("dynamic", "weights int8 by the tool that the model comes from, looked up as float32")
_MOST_BIAS = 2**30


@dataclass
class _Placement:
    """One run of :func:`place_integers`."""

    gm: fx.GraphModule
    read: dict[str, QArray]
    weights: dict[tuple[fx.Node, str], weights.QuantizedWeight] = field(default_factory=dict)
    stored: dict[tuple[object, ...], str] = field(default_factory=dict)


def place_integers(gm: fx.GraphModule) -> fx.GraphModule:
    """Decide for each op whether it is int8, as its operands and readers say, and store the integers of its weights."""
    run = _Placement(gm, gm.meta.pop(WEIGHTS_READ, {}))
    for node in list(gm.graph.nodes):
        _quantize_constants(run, node)
    for node in reversed(list(gm.graph.nodes)):
        if node.target is qdq.quantize:
            _move_up(run, node)
    for node in list(gm.graph.nodes):
        op = op_of(node)
        if op is not None and op.qparams != "none" and not is_opaque(node):
            decide(node, _decision(run, op, node))
    for node, name in run.weights:
        _store(run, op_at(node), node, name)
    gm.graph.eliminate_dead_code()
    gm.graph.lint()
    return fx_module(gm)


# ---------------------------------------------------------------- values


def _quantize_constants(run: _Placement, node: fx.Node) -> None:
    """An operand that is a constant of the model with 8 bits is one that is quantized."""
    op = op_of(node)
    for value in dict.fromkeys(activations(op, node)) if op is not None and op.qparams != "none" else ():
        if value.op != "get_attr":
            continue
        found = integers_of(attribute(run.gm, path(value)), value.meta.get(DERIVATION), run.read)
        if found is not None and found.axis is None and found.values.dim():
            qparams = QParams(float(found.scale), int(found.zero_point), QDType.qint8, None, -128, 127)
            node.replace_input_with(value, _rounded(run, value, qparams))


def _rounded(run: _Placement, node: fx.Node, qparams: QParams, like: fx.Node | None = None) -> fx.Node:
    """``node`` through a quantize and a dequantize; with the nodes of the numbers of ``like`` where it is given."""
    graph = run.gm.graph
    if like is None:
        base = token_path(f"{path(node)}_quantized")
        set_buffer(run.gm, f"{base}.scale", torch.tensor(qparams.scale, dtype=torch.float32))
        set_buffer(run.gm, f"{base}.zero_point", torch.tensor(qparams.zero_point, dtype=torch.int64))
        names = [f"{base}.scale", f"{base}.zero_point"]
    else:
        names = [path(operand(like, index)) for index in (1, 2)]
    with graph.inserting_after(node):
        scale = graph.get_attr(names[0])
    with graph.inserting_after(scale):
        zero = graph.get_attr(names[1])
    given: dict[str, Any] = {"dtype": qparams.dtype.name, "quant_min": qparams.qmin, "quant_max": qparams.qmax}
    with graph.inserting_after(zero):
        code = graph.call_function(qdq.quantize, (node, scale, zero), given)
    with graph.inserting_after(code):
        value = graph.call_function(qdq.dequantize, (code, scale, zero))
    for made in (scale, zero, code, value):
        made.meta.update({key: fact for key, fact in place(node).items() if fact is not None})
    return value


def _qparams(run: _Placement, node: fx.Node) -> QParams | None:
    """Of a value that was integers before it was read."""
    if node.target is not qdq.dequantize or operand(node).target is not qdq.quantize:
        return None
    return read_qparams(run.gm, operand(node))


def _readers(node: fx.Node) -> list[fx.Node]:
    return [user for user in node.users if not is_op(user, "size")]


def _rounds_to(run: _Placement, node: fx.Node) -> QParams | None:
    """The numbers of the integers that all readers of a value read it as."""
    found = {read_qparams(run.gm, user) if user.target is qdq.quantize else None for user in _readers(node)}
    return found.pop() if len(found) == 1 else None


def _commutes(run: _Placement, op: Op, node: fx.Node, qparams: QParams) -> bool:
    """Whether rounding the operands of a call is rounding its result."""
    if op.qparams != "share" or op.rounds or why_in_float(op, node):
        return False
    if op.name == "pad" and node.kwargs.get("mode", "constant") == "constant":
        scale, zero = torch.tensor(qparams.scale), torch.tensor(qparams.zero_point)
        fill = torch.tensor(float(keyword(node, "value") or 0.0))
        given: dict[str, Any] = {"quant_min": qparams.qmin, "quant_max": qparams.qmax}
        code = qdq.quantize(fill, scale, zero, dtype=qparams.dtype.name, **given)
        return torch.equal(qdq.dequantize(code, scale, zero), fill)
    return True


def _move_up(run: _Placement, code: fx.Node) -> None:
    """Let what stands in front of a quantize read rounded values, where that makes the same integers."""
    node, qparams = operand(code), read_qparams(run.gm, code)
    op = op_of(node)
    if op is None or op.name == "size" or _rounds_to(run, node) != qparams or not _commutes(run, op, node, qparams):
        return
    operands = list(dict.fromkeys(activations(op, node)))
    known = [_qparams(run, each) for each in operands]
    several = len(op.tensors) != 1 or op.tensors[0] == "tensors"
    if all(each == qparams for each in known) or (not several and known[0] is not None):
        return
    if not all(each is not None or _is_made_for(value, node) for each, value in zip(known, operands, strict=True)):
        return
    for value, before in zip(operands, known, strict=True):
        if before != qparams:
            rounded = _rounded(run, value, qparams, like=code)
            node.replace_input_with(value, rounded)
            _move_up(run, operand(rounded))


def _is_made_for(value: fx.Node, reader: fx.Node) -> bool:
    """Whether a call makes a value for nothing but ``reader``."""
    return value.op == "call_function" and _readers(value) == [reader]


# ---------------------------------------------------------------- decisions


def _decision(run: _Placement, op: Op, node: fx.Node) -> Decision:
    if op.matrices:
        return _recurrent(run, op, node)
    if op.looks_up:
        found = _weight(run, op, node, op.weights[0])
        return Decision("float", "its table is not quantized") if found is None else _LOOKED_UP
    if op.weights and arguments(op, node)[op.tensors[0]].target is requantize_dynamic:
        found = _weight(run, op, node, op.weights[0])
        return Decision("float", "its weight is not quantized") if found is None else _DYNAMIC
    why = why_in_float(op, node) or _unquantized(run, op, node)
    if why is None:
        why = _layer(run, op, node) if op.weights else _other(run, op, node)
    return _INT8 if why is None else Decision("float", why)


def _unquantized(run: _Placement, op: Op, node: fx.Node) -> str | None:
    """Why the operands of an op are not those of an int8 one, or None."""
    names = [name for name in op.tensors if name != "residual"]
    given = pytree.tree_leaves([arguments(op, node)[name] for name in names])
    left = [value.name for value in given if isinstance(value, fx.Node) and not _qparams(run, value)]
    if left:
        return f"the tool that the model comes from left {', '.join(dict.fromkeys(left))} in float"
    return None


def _layer(run: _Placement, op: Op, node: fx.Node) -> str | None:
    """Why a layer whose input is quantized is none of int8, or None."""
    given = arguments(op, node)
    bias = given.get("bias")
    if isinstance(bias, fx.Node) and bias.op != "get_attr":
        return "its bias is computed by the model, not a parameter"
    weight = _weight(run, op, node, op.weights[0])
    if weight is None:
        return "its weight has no 8-bit integers with one scale for all or one a channel"
    if op.name == "channel_affine" and _rounds_to(run, node) is None:
        return "nothing reads its result as integers"
    stored = None
    if bias is not None:
        values = attribute(run.gm, path(bias)).detach()
        stored, scale = weights.quantize_bias(values, _input_scale(run, op, node), weight.scale)
        if not bool(values.isfinite().all()) or bool((values.double().abs() > scale.double() * _MOST_BIAS).any()):
            return "its bias does not fit 32 bits in units of its products"
    if weights.reach(weight, stored) > weights.ACC_LIMIT:
        return "it adds so many products that their sum could leave 32 bits"
    return None


def _other(run: _Placement, op: Op, node: fx.Node) -> str | None:
    """Why an op without weights whose operands are quantized is none of int8, or None."""
    result = _rounds_to(run, node)
    operands = [qparams for value in activations(op, node) if (qparams := _qparams(run, value)) is not None]
    if op.qparams == "share":
        if result == operands[0] and len(set(operands)) == 1:
            return None
        if len(set(operands)) > 1 or not _commutes(run, op, node, operands[0]):
            return "its result has other numbers than its operands"
        _keep(run, node, next(activations(op, node)), operands[0])
        return None
    if op.name == "sum":
        return "it adds up in float"
    if result is None and op.sums is None and op.pointwise is None:
        return "nothing reads its result as integers"
    return None


def _keep(run: _Placement, node: fx.Node, source: fx.Node, qparams: QParams) -> None:
    """Give a value that is moved the numbers of the value it is moved from."""
    readers = _readers(node)
    value = _rounded(run, node, qparams, like=operand(source))
    for reader in readers:
        reader.replace_input_with(node, value)


def _recurrent(run: _Placement, op: Op, node: fx.Node) -> Decision:
    names = list(matrices(op, node))
    found = [_weight(run, op, node, name) for name in names]
    if node.meta.get("shape") is None or any(each is None or bool(each.zero_point.any()) for each in found):
        for name in names:
            run.weights.pop((node, name), None)
        return Decision("float", "its weights are not int8 around 0, or no shapes are known")
    node.update_kwarg("integers", True)
    node.update_kwarg("per_row", False)
    return _DYNAMIC


# ---------------------------------------------------------------- weights


def _weight(run: _Placement, op: Op, node: fx.Node, name: str) -> weights.QuantizedWeight | None:
    """The integers of a parameter, kept to be stored."""
    constant = arguments(op, node)[name]
    if not isinstance(constant, fx.Node) or constant.op != "get_attr":
        return None
    values = attribute(run.gm, path(constant)).detach()
    if op.name == "channel_affine":  # one factor a channel: its own scale represents it
        exact = PerChannelMinMaxObserver(dtype="qint8", qscheme="per_channel_symmetric", ch_axis=0, eps=SMALLEST_SCALE)
        found: weights.QuantizedWeight | None = weights.quantize_weight(values, exact)
    else:
        found = integers_of(values, constant.meta.get(DERIVATION), run.read)
    if found is not None:
        run.weights[node, name] = found
    return found


def _input_scale(run: _Placement, op: Op, node: fx.Node) -> Tensor:
    qparams = _qparams(run, arguments(op, node)[op.tensors[0]])
    assert qparams is not None
    return torch.tensor(qparams.scale, dtype=torch.float32)


def _store(run: _Placement, op: Op, node: fx.Node, name: str) -> None:
    """Let a layer that was decided to be int8 read its parameters as integers."""
    kind = decision_of(node).kind
    if kind == "float":
        return
    weight, given = run.weights[node, name], arguments(op, node)
    home = path(given[name])
    tensors = weight.values, weight.scale, weight.zero_point
    _set(op, node, name, _dequantized(run, home, tensors, weight.axis))
    if kind == "int8" and given.get("bias") is not None:
        values = attribute(run.gm, path(given["bias"])).detach()
        bias, scale = weights.quantize_bias(values, _input_scale(run, op, node), weight.scale)
        zeros = torch.zeros_like(bias, dtype=torch.int64)
        _set(op, node, "bias", _dequantized(run, path(given["bias"]), (bias, scale, zeros), 0))


def _dequantized(run: _Placement, wanted: str, tensors: tuple[Tensor, Tensor, Tensor], axis: int | None) -> fx.Node:
    """The dequantize of integers that are stored under ``wanted``, or beside it where something else is there."""
    key = (wanted, *map(bytes_of, tensors))
    if key not in run.stored:
        free = wanted
        while free in run.stored.values() or not _is_replaceable(run, free):
            free += "_int8"
        run.stored[key] = free
        for suffix, tensor in zip(("", "_scale", "_zero_point"), tensors, strict=True):
            set_buffer(run.gm, free + suffix, tensor)
    graph = run.gm.graph
    with graph.inserting_before(next(iter(graph.nodes))):
        nodes = tuple(graph.get_attr(run.stored[key] + suffix) for suffix in ("", "_scale", "_zero_point"))
        return graph.call_function(qdq.dequantize, nodes, {"axis": axis})


def _is_replaceable(run: _Placement, wanted: str) -> bool:
    """Whether nothing but one layer reads what is at a path, and the names beside it are free."""
    if any(has_attribute(run.gm, wanted + suffix) for suffix in ("_scale", "_zero_point")):
        return False
    nodes = [n for n in run.gm.graph.find_nodes(op="get_attr") if n.target == wanted]
    return not has_attribute(run.gm, wanted) or sum(len(n.users) for n in nodes) <= 1


def _set(op: Op, node: fx.Node, name: str, value: fx.Node) -> None:
    names = list(arguments(op, node))
    if name in node.kwargs:
        node.update_kwarg(name, value)
    else:
        node.update_arg(names.index(name), value)
