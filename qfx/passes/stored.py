"""The tensors that the quantized values of a graph are made from, checked as :mod:`qfx.ir.stored` checks any state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from qfx.errors import QuantizationError
from qfx.ir.attributes import attribute
from qfx.ir.stored import REMEDY, Role, require
from qfx.ir.types import QDType
from qfx.ops.qdq import decode_weight, dequantize, quantize


def roles_of(root: nn.Module, graph: fx.Graph) -> Iterator[tuple[str, Role, fx.Node]]:
    """The path, the role and a reader of every tensor that the quantized values of ``graph`` are made from."""
    for node in graph.nodes:
        if node.target is decode_weight:
            yield from _roles_of_stored(root, node)
        if node.target not in (quantize, dequantize):
            continue
        codes, scale, zero = (_path(arg) for arg in (*node.args, None, None, None)[:3])
        kind = _dtype(root, node, codes)
        count = _count(root, node, codes)
        if codes is not None and node.target is dequantize:
            yield codes, Role("integers", kind.qmin, kind.qmax), node
        if scale is not None:
            yield scale, Role("scale", counts=count), node
        if zero is not None and kind is QDType.qint32:
            yield zero, Role("zero point", counts=count), node
        elif zero is not None:
            low, high = node.kwargs.get("quant_min"), node.kwargs.get("quant_max")
            bounds = (low if isinstance(low, int) else kind.qmin, high if isinstance(high, int) else kind.qmax)
            yield zero, Role("zero point", *bounds, counts=count), node


def _roles_of_stored(root: nn.Module, node: fx.Node) -> Iterator[tuple[str, Role, fx.Node]]:
    """Those of a weight to decode: codes and zero points are integers, or bytes of two; 16 bits are a float."""
    codes, scale, zero = (_path(arg) for arg in (*node.args, None, None, None)[:3])
    kind = QDType.quint8 if "shape" in node.kwargs else QDType.qint8
    for path in (codes, zero):
        if path is not None and scale is not None:
            yield path, Role("integers", kind.qmin, kind.qmax), node
    if scale is None and codes is not None:
        yield codes, Role("parameter", dtype=attribute(root, codes).dtype), node
    elif scale is not None:
        yield scale, Role("scale"), node


def _path(arg: Any) -> str | None:
    return str(arg.target) if isinstance(arg, fx.Node) and arg.op == "get_attr" else None


def _dtype(root: nn.Module, node: fx.Node, codes: str | None) -> QDType:
    """The dtype of a node's integers: as it says, as its operand says, or as its constant is stored."""
    source = node.args[0] if node.args else None
    named = node.kwargs.get("dtype") or (source.kwargs.get("dtype") if isinstance(source, fx.Node) else None)
    if isinstance(named, str):
        return QDType.parse(named)
    stored = attribute(root, codes).dtype if codes is not None else torch.uint8
    return next((kind for kind in QDType if kind.storage is stored), QDType.quint8)


def _count(root: nn.Module, node: fx.Node, codes: str | None) -> tuple[int, ...] | None:
    """How many scales a node takes: one, or one a channel of its constant."""
    axis = node.kwargs.get("axis")
    if not isinstance(axis, int):
        return (1,)
    if codes is None:
        return None
    shape = attribute(root, codes).shape
    return (1, shape[axis]) if -len(shape) <= axis < len(shape) else ()


def require_graph(root: nn.Module, graph: fx.Graph, state: Mapping[str, Any] | None = None, prefix: str = "") -> None:
    """Check the tensors that ``graph`` quantizes with: those of ``root``, or those of a state_dict that it loads.

    Raises:
        QuantizationError: One of them can't be what it is used as.
    """
    seen = set()
    for path, role, node in roles_of(root, graph):
        value = attribute(root, path) if state is None else state.get(prefix + path)
        if isinstance(value, Tensor) and (path, role) not in seen:
            seen.add((path, role))
            require(prefix + path, value, role, where=_place(path, node), source=node.meta.get("source"))
            _require_stored(prefix + path, value, role, state is None)


def _require_stored(name: str, value: Tensor, role: Role, held: bool) -> None:
    """Raise for a tensor that a model holds in another dtype than programs read."""
    floats = dict.fromkeys(("scale", "parameter"), value.is_floating_point())
    wanted = {**floats, "zero point": not value.is_floating_point()}
    integers = value.dtype in {kind.storage for kind in QDType if (kind.qmin, kind.qmax) == (role.low, role.high)}
    if held and not wanted.get(role.kind, integers):
        raise QuantizationError(f"{name} is stored as {value.dtype}.", remedy=REMEDY)


def _place(path: str, node: fx.Node) -> str:
    return node.meta.get("module_path") or path.rpartition(".")[0] or path
