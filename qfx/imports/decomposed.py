"""Graphs of ``torch.export`` whose values are quantized by ops of their own: those of the PT2E flow, and torchao's.

What their quantizers write is a float graph with quantize and dequantize calls in it, so each call becomes one of ours.
A call that no row reads stays: torch runs it, and the report says so.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from qfx.imports.writer import Writer, eight_bits
from qfx.ir.attributes import attribute, is_tensor
from qfx.ir.nodes import operand
from qfx.ir.types import QArray, QParams
from qfx.ops.qdq import quantize
from qfx.ops.qdq.dynamic import requantize_dynamic

_LINEAR = ("aten.linear", "aten.addmm", "aten.mm")
"""What multiplies rows that are quantized at each call."""


@dataclass(frozen=True)
class _Row:
    """How an op is read.

    Attributes:
        kind: What it does.
        arguments: The names that its arguments have here, in its order.
    """

    kind: str
    arguments: tuple[str, ...]


def _row(kind: str, arguments: str) -> _Row:
    return _Row(kind, tuple(arguments.split()))


_TENSOR = "x scale zero_point low high dtype"
_CHANNEL = "x scale zero_point axis low high dtype"
_TOKEN = "x scale zero_point low high dtype out_dtype"
_BLOCK = "x block scale zero_point dtype low high out_dtype"

ROWS = {
    "quantized_decomposed.quantize_per_tensor": _row("quantize", _TENSOR),
    "quantized_decomposed.dequantize_per_tensor": _row("dequantize", _TENSOR),
    "quantized_decomposed.quantize_per_channel": _row("quantize", _CHANNEL),
    "quantized_decomposed.dequantize_per_channel": _row("dequantize", _CHANNEL),
    "quantized_decomposed.quantize_per_token": _row("quantize", _TENSOR),
    "quantized_decomposed.dequantize_per_token": _row("dequantize", _TOKEN),
    "quantized_decomposed.choose_qparams": _row("choose", "x low high eps dtype"),
    "quantized_decomposed.choose_qparams_per_token_asymmetric": _row("choose_row", "x dtype"),
    "pt2e_quant.quantize_affine": _row("quantize", _BLOCK),
    "pt2e_quant.dequantize_affine": _row("dequantize", _BLOCK),
    "torchao.quantize_affine": _row("quantize", _BLOCK),
    "torchao.dequantize_affine": _row("dequantize", _BLOCK),
    "torchao.choose_qparams_affine": _row("choose_block", "x mapping block dtype low high"),
}
"""The ops by the name that they have in ``torch.ops``, without their overload."""


def read_decomposed(gm: fx.GraphModule) -> fx.GraphModule:
    """The Captured graph with the QDQ level's own calls for those that :data:`ROWS` names.

    Raises:
        ConversionError: A scale or zero point that makes no sense.
    """
    reader = _Reader(gm)
    for node in list(gm.graph.nodes):
        reader.read(node)
    gm.graph.eliminate_dead_code(lambda n: n.op in ("placeholder", "output", "call_module"))
    gm.graph.lint()
    gm.recompile()
    return gm


class _Reader:
    def __init__(self, gm: fx.GraphModule) -> None:
        self.gm, self.writer = gm, Writer(gm)
        self.codes: dict[fx.Node, QArray] = {}  # constants in integers

    def read(self, node: fx.Node) -> None:
        row = row_of(node)
        if row is None or row.kind not in ("quantize", "dequantize"):
            return
        given = given_to(row, node)
        source = given["x"]
        if row.kind == "quantize":
            self._constant(node, given)
        elif isinstance(source, fx.Node) and (source in self.codes or self._tensor(source) is not None):
            self._weight(node, source, given)
        elif isinstance(source, fx.Node) and _kind(source) == "quantize":
            self._value(node, source, given)

    def _constant(self, node: fx.Node, given: dict[str, Any]) -> None:
        """Integers of a constant, where the tool left its float values."""
        values, numbers = self._tensor(given["x"]), self._numbers(given)
        dtype = eight_bits(given["dtype"])
        if values is not None and numbers is not None and dtype is not None:
            scale, zero, axis = numbers
            low, high = int(given["low"]), int(given["high"])
            codes = quantize(values, scale, zero, dtype=dtype.name, axis=axis, quant_min=low, quant_max=high)
            self.codes[node] = QArray(codes, scale, zero, axis)

    def _weight(self, node: fx.Node, source: fx.Node, given: dict[str, Any]) -> None:
        numbers = self._numbers(given)
        codes, known = self._tensor(source), self.codes.get(source)
        if numbers is None or not _is_float32(given) or _is_grouped(known, numbers):
            return
        if known is None:
            assert codes is not None
            if codes.dtype not in (torch.int8, torch.uint8, torch.int32):
                return
            known = QArray(codes, *numbers)
        with self.writer.graph.inserting_before(node):
            made = self.writer.weight(self._path(node, source), known, node)
        self.writer.replace(node, made)

    def _path(self, node: fx.Node, source: fx.Node) -> str:
        """Where the float model has what ``node`` computes: in the layer that reads it, else where the integers are."""
        reader = next(iter(node.users), node)
        home = str(reader.meta.get("module_path") or "")
        role = {1: "weight", 2: "bias"}.get(list(reader.args).index(node), "") if node in reader.args else ""
        if home and role:
            return f"{home}.{role}"
        return f"{source.target if source.op == 'get_attr' else source.name}_values"

    def _value(self, node: fx.Node, source: fx.Node, given: dict[str, Any]) -> None:
        quantizes = row_of(source)
        assert quantizes is not None
        before = given_to(quantizes, source)
        if not _is_float32(given) or any(before[k] != given[k] for k in ("scale", "zero_point", "dtype")):
            return
        dynamic = self._chosen(before)
        if dynamic is not None:
            self._at_each_call(node, before, *dynamic)
            return
        numbers, dtype = self._numbers(before), eight_bits(before["dtype"])
        if numbers is None or dtype is None or numbers[0].numel() != 1 or numbers[2] is not None:
            return
        low, high = int(before["low"]), int(before["high"])
        if not dtype.qmin <= low < high <= dtype.qmax:
            return
        qparams = QParams(float(numbers[0]), int(numbers[1]), dtype, None, low, high)
        self.writer.replace(node, self.writer.quantized(before["x"], qparams, node))

    # ------------------------------------------------------------ quantized at each call

    def _chosen(self, given: dict[str, Any]) -> tuple[dict[str, Any], bool] | None:
        """The call that chooses the qparams of a value, and whether it does for each row."""
        item = given["scale"]
        if not isinstance(item, fx.Node) or item.target is not operator.getitem:
            return None
        row = row_of(operand(item))
        if row is None or not row.kind.startswith("choose"):
            return None
        chosen = given_to(row, operand(item))
        per_row = row.kind == "choose_row" or (row.kind == "choose_block" and all(n == 1 for n in chosen["block"][:-1]))
        if row.kind == "choose_block" and str(chosen["mapping"]).rsplit(".", 1)[-1].lower() != "asymmetric":
            return None
        if row.kind == "choose_block" and not per_row:
            return None
        return chosen, per_row

    def _at_each_call(self, node: fx.Node, given: dict[str, Any], chosen: dict[str, Any], per_row: bool) -> None:
        dtype, source = eight_bits(given["dtype"]), given["x"]
        low, high = (given.get(key) if given.get(key) is not None else chosen.get(key) for key in ("low", "high"))
        if dtype is None or not isinstance(source, fx.Node) or not all(_is_linear(user, node) for user in node.users):
            return
        steps = int(dtype.qmax if high is None else high) - int(dtype.qmin if low is None else low)
        if steps not in (127, 255):
            return
        with self.writer.graph.inserting_before(node):
            made = self.writer.call(node, requantize_dynamic, source, reduce_range=steps == 127, per_row=per_row)
        self.writer.replace(node, made)

    # ------------------------------------------------------------ numbers

    def _tensor(self, value: Any) -> Tensor | None:
        """A tensor of the model."""
        if not isinstance(value, fx.Node) or value.op != "get_attr" or not is_tensor(self.gm, str(value.target)):
            return None
        return attribute(self.gm, str(value.target)).detach()

    def _numbers(self, given: dict[str, Any]) -> tuple[Tensor, Tensor, int | None] | None:
        """Scale, zero point and axis, where they are constants; None, too, where blocks are no channels."""
        scale, zero = (_as_tensor(self._tensor(given[k]), given[k]) for k in ("scale", "zero_point"))
        if scale is None:
            return None
        zero = torch.zeros_like(scale) if zero is None else zero
        if not bool((zero == zero.round()).all()):
            return None
        axis = given.get("axis")
        if "block" in given:
            axis = _axis_of_blocks(given["block"], scale, self._shape(given["x"]))
            if axis is None and scale.numel() != 1:
                return None
        if axis is None:
            scale, zero = scale.reshape(()), zero.reshape(())
        return scale.float().flatten() if axis is not None else scale.float(), _flat(zero.long(), axis), axis

    def _shape(self, value: Any) -> tuple[int, ...]:
        if value in self.codes:
            return tuple(self.codes[value].values.shape)
        found = self._tensor(value)
        return () if found is None else tuple(found.shape)


def _flat(zero: Tensor, axis: int | None) -> Tensor:
    return zero if axis is None else zero.flatten()


def _as_tensor(found: Tensor | None, value: Any) -> Tensor | None:
    if found is None and isinstance(value, (int, float)):
        return torch.tensor(value)
    return found


def _is_float32(given: dict[str, Any]) -> bool:
    return given.get("out_dtype") in (None, torch.float32)


def _is_grouped(known: QArray | None, numbers: tuple[Tensor, Tensor, int | None]) -> bool:
    """Whether integers that are known have other numbers than a call that makes floats of them."""
    return known is not None and not (
        known.axis == numbers[2] and torch.equal(known.scale, numbers[0]) and torch.equal(known.zero_point, numbers[1])
    )


def _axis_of_blocks(block: Any, scale: Tensor, shape: tuple[int, ...]) -> int | None:
    """The one dim along which each slice is a block."""
    apart = [dim for dim, (size, length) in enumerate(zip(block, shape, strict=False)) if size != length]
    single = len(apart) == 1 and block[apart[0]] == 1 and scale.numel() == shape[apart[0]]
    return apart[0] if single else None


def _is_linear(user: fx.Node, x: fx.Node) -> bool:
    return name_of(user.target) in _LINEAR and user.args[1 if name_of(user.target) == "aten.addmm" else 0] is x


def name_of(target: object) -> str:
    """``"namespace.name"`` of an operator of PyTorch's; of a function of Python's its name."""
    packet = getattr(target, "overloadpacket", target)
    qualified = getattr(packet, "_qualified_op_name", None)
    return str(qualified).replace("::", ".") if qualified else str(getattr(target, "__name__", target))


def row_of(node: fx.Node) -> _Row | None:
    """How a call is read, None where no row says."""
    return ROWS.get(name_of(node.target)) if node.op == "call_function" else None


def _kind(node: fx.Node) -> str | None:
    row = row_of(node)
    return None if row is None else row.kind


def given_to(row: _Row, node: fx.Node) -> dict[str, Any]:
    """The arguments of a call by our names, None where they are left out."""
    given = dict.fromkeys(row.arguments) | dict(zip(row.arguments, node.args, strict=False))
    return given | {k: v for k, v in node.kwargs.items() if k in ("out_dtype",)}
