"""A sample call in its quantized form: integers for the integer reference, exact reals for the float one."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qfx.ir.types import QArray, QDType, QParams
from qfx.ops import TABLE, Op, Sample, arithmetic

SHIFT = {QDType.quint8: 0, QDType.qint8: -128}


def cases(*kinds: str, epilogue: str | None = None) -> list[Any]:
    """Every (op, sample) of the rows of these kinds, with ids, as parameters of a test; of results that are floats."""
    import pytest

    rows = [op for op in TABLE.values() if op.qparams in kinds and (epilogue is None or epilogue in op.epilogues)]
    made = [(op, i) for op in rows if op.dtype in (None, torch.float32) for i in range(len(op.samples()))]
    made = [(op, i) for op, i in made if op.name not in _PROMOTE or _is_of_floats(op, i)]
    return [pytest.param(op, i, id=f"{op.name}-{i}") for op, i in made]


_PROMOTE = ("cast", "where", "full", "gather", "take", "minimum", "maximum")
"""Rows whose results are floats for some operands."""


def _is_of_floats(op: Op, i: int) -> bool:
    sample = op.samples()[i]
    result = op.fn(*sample.args, **sample.kwargs)
    return result.dtype is torch.float32 and bool(result.isfinite().all())


def activation_qparams(*tensors: Tensor, dtype: QDType = QDType.quint8) -> QParams:
    """The parameters that cover all ``tensors``; those of qint8 are those of quint8 shifted by 128."""
    values = torch.cat([t.reshape(-1).double() for t in tensors])
    low, high = (float(values.min()), float(values.max())) if values.numel() else (0.0, 0.0)
    scale, zero_point = arithmetic.affine_qparams(low, high, 0, 255)
    return QParams(scale, zero_point + SHIFT[dtype], dtype)


def shifted(qparams: QParams) -> QParams:
    """quint8 parameters as those of qint8."""
    return QParams(qparams.scale, qparams.zero_point - 128, QDType.qint8)


def activation(x: Tensor, qparams: QParams) -> QArray:
    """``x`` quantized per tensor."""
    scale, zero_point = torch.tensor(qparams.scale, dtype=torch.float32), torch.tensor(qparams.zero_point)
    q = arithmetic.quantize(x, scale, zero_point, qparams.qmin, qparams.qmax)
    return QArray(q.to(qparams.dtype.storage), scale, zero_point)


def weight(w: Tensor, *, per_channel: bool, symmetric: bool) -> QArray:
    """``w`` in qint8 along dim 0 or per tensor, with or without a zero point."""
    rows = w.reshape(w.shape[0], -1) if per_channel else w.reshape(1, -1)
    pairs = []
    for row in rows:
        low, high = float(row.min()), float(row.max())
        bound = max(abs(low), abs(high))
        pairs.append(arithmetic.affine_qparams(*((-bound, bound) if symmetric else (low, high)), -128, 127))
    scale, zero_point = torch.tensor([s for s, _ in pairs]), torch.tensor([z for _, z in pairs])
    if symmetric:
        zero_point = torch.zeros_like(zero_point)
    axis = 0 if per_channel else None
    if axis is None:
        scale, zero_point = scale[0], zero_point[0]
    q = arithmetic.quantize(w, scale, zero_point, -128, 127, axis)
    return QArray(q.to(torch.int8), scale, zero_point, axis)


def bias(b: Tensor, x: QArray, w: QArray) -> QArray:
    """``b`` in int32 in units of ``s_x * s_w``."""
    scale = x.scale.double() * w.scale.double()
    q = torch.round(b.double() / scale).to(torch.int32)
    return QArray(q, scale, torch.zeros_like(scale, dtype=torch.int64), None if scale.dim() == 0 else 0)


def real(operand: Any) -> Any:
    """The exact float64 value of an operand."""
    if isinstance(operand, QArray):
        zero_point = arithmetic.expand_channel(operand.zero_point, operand.axis, operand.values.dim())
        scale = arithmetic.expand_channel(operand.scale, operand.axis, operand.values.dim())
        return (operand.values.long() - zero_point).double() * scale.double()
    if isinstance(operand, list):
        return [real(item) for item in operand]
    return operand.double() if isinstance(operand, Tensor) and operand.is_floating_point() else operand


@dataclass(frozen=True, eq=False)
class Quantized:
    """A sample's call on integers.

    Attributes:
        args: Operands of the integer reference.
        kwargs: Its keyword arguments, without ``out``.
        expected: The float reference of the operands' exact values, in float64.
        out: What the result quantizes to.
    """

    op: Op
    args: list[Any]
    kwargs: dict[str, Any]
    expected: Tensor
    out: QParams

    def run(self, out: QParams | None) -> Tensor:
        assert self.op.integer is not None
        return self.op.integer(*self.args, **self.kwargs, out=out)

    def position(self) -> Tensor:
        """Where the exact result lies on the integers' axis: float64, clamped to their range."""
        scale = float(torch.tensor(self.out.scale, dtype=torch.float32))
        return (self.expected / scale + self.out.zero_point).clamp(self.out.qmin, self.out.qmax)

    def slack(self) -> float:
        """A bound on what float32 does to the result, in quanta.

        No reference rounds a value more than 16 times, each time by at most 2**-24 of a magnitude that the operands
        and the result bound together.
        """
        scale = float(torch.tensor(self.out.scale, dtype=torch.float32))
        tensors = [real(a) for a in self.args if isinstance(a, (QArray, Tensor))]
        magnitude = sum(float(t.double().abs().max()) for t in [*tensors, self.expected] if t.numel())
        return 2.0**-20 * (magnitude / scale + 1.0)


def quantized(
    op: Op,
    sample: Sample,
    *,
    dtype: QDType = QDType.quint8,
    per_channel: bool = True,
    symmetric: bool = True,
    **overrides: Any,
) -> Quantized:
    """``sample`` with activations in ``dtype`` and weights as asked; ``overrides`` replace keyword arguments."""
    args = list(_operands(op, sample, dtype, per_channel, symmetric))
    kwargs = {**sample.kwargs, **overrides}
    expected = op.fn(*(real(a) for a in args), **kwargs).double()
    if op.qparams == "fixed":
        assert op.fixed is not None
        out = op.fixed if dtype is QDType.quint8 else shifted(op.fixed)
    elif op.qparams == "share":
        first = args[0][0] if isinstance(args[0], list) else args[0]
        out = QParams(float(first.scale), int(first.zero_point), dtype)
    else:
        out = activation_qparams(expected, dtype=dtype)
    return Quantized(op, args, kwargs, expected, out)


def _operands(op: Op, sample: Sample, dtype: QDType, per_channel: bool, symmetric: bool) -> Iterator[Any]:
    done: dict[str, Any] = {}
    for name, given in zip(inspect.signature(op.fn).parameters, sample.args, strict=False):
        operand = given
        if isinstance(given, list) and all(item.is_floating_point() for item in given if isinstance(item, Tensor)):
            qparams = activation_qparams(*given, dtype=dtype)
            operand = [activation(t, qparams) for t in given]
        elif given is None or not isinstance(given, Tensor):
            pass
        elif name in op.tensors and given.is_floating_point():
            operand = activation(given, activation_qparams(given, dtype=dtype))
        elif name in op.weights:
            operand = weight(given, per_channel=per_channel, symmetric=symmetric)
        elif name == "bias" and op.weights:
            operand = bias(given, done["x"], done["weight"])
        done[name] = operand
        yield operand
