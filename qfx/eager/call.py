"""What a call of one op consists of, apart from the values: the key under which its program is kept."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from qfx.errors import InputError, QuantizationError, UnsupportedError, shown
from qfx.ir.types import QDType, QParams
from qfx.memory import require_regular
from qfx.ops.table import TABLE, Op
from qfx.tensor import QTensor

_PLAIN = (bool, int, float, str, torch.dtype, QDType)


@dataclass(frozen=True)
class Activation:
    """A quantized operand.

    Attributes:
        qparams: Its parameters.
        shape: Its lengths; 2 for each where the program does not depend on them.
        channels_last: Whether the program takes it as ``[N, *spatial, C]``.
    """

    qparams: QParams
    shape: tuple[int, ...]
    channels_last: bool


@dataclass(frozen=True)
class Plain:
    """An operand that is no tensor, such as a shape."""

    value: Any


@dataclass(frozen=True)
class Call:
    """A call without its values.

    Attributes:
        name: The row.
        operands: For each parameter: an Activation, a tuple of them, ``"constant"``, a Plain value, or None.
        attributes: The keyword arguments, sorted.
        out: The result's parameters; None for a float result.
        written: The arguments that are no tensors as they are written: 1, 1.0 and True are equal, as 0.0 and -0.0 are.
    """

    name: str
    operands: tuple[tuple[str, Any], ...]
    attributes: tuple[tuple[str, Any], ...]
    out: QParams | None
    written: str = ""

    @property
    def op(self) -> Op:
        return TABLE[self.name]


@dataclass(frozen=True, eq=False)
class Bound:
    """A call with its values.

    Attributes:
        call: The call.
        activations: Quantized operands, in order.
        layouts: How the program takes each.
        constants: By parameter.
    """

    call: Call
    activations: tuple[QTensor, ...]
    layouts: tuple[Activation, ...]
    constants: dict[str, Tensor]

    @property
    def result_rank(self) -> int:
        """The result's rank, for ops that keep ranks."""
        return max(len(what.shape) for what in self.layouts)

    @property
    def result_channels_last(self) -> bool:
        """Whether the program gives its result as ``[N, *spatial, C]``: as the largest operand that it takes."""
        if not any(what.channels_last for what in self.layouts) or not self.call.op.follows_layout:
            return False
        rank = self.result_rank
        return any(what.channels_last and len(what.shape) == rank for what in self.layouts)


def in_layout(codes: Tensor, what: Activation) -> Tensor:
    """Integers in the order in which the program takes them; no copy."""
    return codes.movedim(1, -1) if what.channels_last else codes


@functools.cache
def _parameters(fn: Callable[..., Any]) -> tuple[str, ...]:
    kinds = inspect.signature(fn).parameters.values()
    return tuple(p.name for p in kinds if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD)


def bind(name: str, operands: Sequence[Any], out: QParams | None, attributes: Mapping[str, Any]) -> Bound:
    """Sort the operands of a call into activations and constants, and find the result's parameters.

    Raises:
        UnsupportedError: No row has this name, or the row is not for values.
        InputError: An activation is not a QTensor, or there are more operands than the op has.
        QuantizationError: An activation or the result is per channel or qint32.
    """
    op, found = _op(name), _Operands()
    parameters = _parameters(op.fn)
    if len(operands) > len(parameters):
        raise InputError(
            f"{name} got {len(operands)} operands, and has {len(parameters)}: {', '.join(parameters)}.",
            remedy="Pass what is no operand by keyword.",
        )
    for role, value in zip(parameters, operands, strict=False):
        found.add(op, role, value)
    if not found.activations:
        raise InputError(f"{name} got no operand.", remedy="Pass at least one QTensor.")
    _require_plain(name, attributes)
    given = tuple(sorted((k, _frozen(v) if isinstance(v, (list, tuple)) else v) for k, v in attributes.items()))
    written = repr((given, [what for _, what in found.described if isinstance(what, Plain)]))
    call = Call(name, tuple(found.described), given, _result(op, found.activations, out), written)
    return Bound(call, tuple(found.activations), tuple(found.layouts), found.constants)


class _Operands:
    """The operands of a call, as :class:`Call` and :class:`Bound` have them."""

    def __init__(self) -> None:
        self.described: list[tuple[str, Any]] = []
        self.activations: list[QTensor] = []
        self.layouts: list[Activation] = []
        self.constants: dict[str, Tensor] = {}

    def add(self, op: Op, role: str, value: Any) -> None:
        self.described.append((role, self._sorted(op, role, value)))

    def _sorted(self, op: Op, role: str, value: Any) -> Any:
        if value is None:
            return None
        if role in op.tensors:
            joined = isinstance(value, (tuple, list))
            items = _joined(value) if joined else [value]
            checked = tuple(_activation(op, role, item) for item in items)
            self.activations += items
            self.layouts += checked
            return checked if joined else checked[0]
        if not isinstance(value, Tensor):
            return Plain(_frozen(value))
        if not isinstance(value, QTensor):
            require_regular(value, f"{op.name}'s {role}")
        self.constants[role] = value
        return "constant"


def _require_plain(name: str, attributes: Mapping[str, Any]) -> None:
    for key, value in attributes.items():
        if not _is_plain(value):
            raise InputError(
                f"{name} can't take {key}={shown(value)}.",
                why=f"It is of type {type(value).__name__}; what is no operand is written into the op.",
                remedy="Pass numbers, texts, dtypes, or lists of them.",
            )


def _is_plain(value: Any, depth: int = 4) -> bool:
    """Whether ``value`` can be written into an op."""
    if isinstance(value, (list, tuple)):
        return depth > 0 and all(_is_plain(item, depth - 1) for item in value)
    return value is None or isinstance(value, _PLAIN)


def _joined(tensors: Sequence[Any]) -> list[Any]:
    """Without tensors of shape ``[0]``, which torch joins with those of any rank."""
    return [t for t in tensors if not (isinstance(t, QTensor) and t.shape == (0,))] or list(tensors[:1])


def _op(name: str) -> Op:
    op = TABLE.get(name)
    if op is None or op.qparams == "none":
        raise UnsupportedError(f"{name!r} is no op on values.", remedy="Use the name of a row of qfx.ops.TABLE.")
    return op


def _activation(op: Op, role: str, value: Any) -> Activation:
    name = op.name
    if not isinstance(value, QTensor):
        of_floats = not isinstance(value, Tensor) or value.is_floating_point()
        kind = f"{'float ' * of_floats}tensor of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        raise InputError(
            f"{name} got a {kind} as {role}, where a QTensor belongs.",
            remedy="Quantize it first: qfx.quantize_per_tensor(x, scale, zero_point, qfx.quint8)."
            if of_floats
            else "Call the function of torch: run_op takes no integers or truth values.",
        )
    _require_code(name, role, value.qparams)
    codes = value.codes
    rank = codes.dim()
    last = rank >= 3 and (op.layout == "image" or _is_channels_last(codes))
    return Activation(value.qparams, tuple(codes.shape) if op.by_lengths else (2,) * rank, last)


def _require_code(name: str, role: str, qparams: QParams) -> None:
    if qparams.axis is not None or qparams.dtype is QDType.qint32:
        kind = f"quantized per channel along {qparams.axis}" if qparams.axis is not None else "of dtype qint32"
        raise QuantizationError(
            f"{name} got {role} {kind}.",
            why="Activations are quint8 or qint8 with one scale; channels of their own are for weights.",
            remedy="Requantize: qfx.quantize_per_tensor(x.dequantize(), scale, zero_point, qfx.quint8).",
        )


def _is_channels_last(codes: Tensor) -> bool:
    return not codes.is_contiguous() and codes.movedim(1, -1).is_contiguous()


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple)) else value


def _result(op: Op, activations: Sequence[QTensor], out: QParams | None) -> QParams | None:
    first = activations[0].qparams
    if out is None and op.qparams == "share":
        out = first
    if out is None and op.fixed is not None:
        out = op.fixed
        if first.dtype is QDType.qint8:  # the same values, 128 lower
            assert isinstance(out.zero_point, int)
            out = replace(out, zero_point=out.zero_point - 128, dtype=QDType.qint8)
    if out is not None:
        _require_code(op.name, "a result", out)
    return out
