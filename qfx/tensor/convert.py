"""Between floats and integers: the runtime's kernels for 8 bits per tensor, exact tensor arithmetic for the rest."""

from __future__ import annotations

import atexit
import functools

import numpy as np
import torch
from torch import Tensor

from qfx.ir.types import QDType, QParams
from qfx.memory import is_plain, is_watched, require_values
from qfx.ops import arithmetic
from qfx.runtime import Executable, ProgramBuilder, steps
from qfx.runtime.writing import write


def to_codes(x: Tensor, qparams: QParams) -> Tensor:
    """Integers ``clamp(rint(x / scale) + zero_point)`` in the storage of ``qparams.dtype``, with ``x``'s strides."""
    require_values(x)
    if not _has_kernel(x, qparams):
        scale = torch.tensor(qparams.scale, dtype=torch.float32, device="cpu")
        zero_point = torch.tensor(qparams.zero_point, dtype=torch.int64, device="cpu")
        codes = arithmetic.quantize(x, scale, zero_point, qparams.qmin, qparams.qmax, qparams.axis)
        return codes.to(qparams.dtype.storage)
    x = _dense(x.detach())
    (codes,) = _program("quantize", *_numbers(qparams)).run(x.as_strided((x.numel(),), (1,)))
    low, high = qparams.qmin - qparams.dtype.qmin, qparams.qmax - qparams.dtype.qmin
    if (low, high) != (0, 255):
        codes.clamp_(low, high)
    if qparams.dtype is QDType.qint8:
        codes = codes.bitwise_xor_(128).view(torch.int8)
    return codes.as_strided(x.shape, x.stride())


def to_values(codes: Tensor, qparams: QParams) -> Tensor:
    """float32 ``float(q - zero_point) * scale``, with the strides of ``codes``."""
    require_values(codes)
    if not _has_kernel(codes, qparams):
        scale = torch.tensor(qparams.scale, dtype=torch.float32, device="cpu")
        return arithmetic.dequantize(
            codes, scale, torch.tensor(qparams.zero_point, dtype=torch.int64, device="cpu"), qparams.axis
        )
    codes = _dense(codes)
    flat = codes.as_strided((codes.numel(),), (1,))
    if qparams.dtype is QDType.qint8:
        flat = flat.view(torch.uint8).bitwise_xor(128)
    values: Tensor = _program("dequantize", *_numbers(qparams)).run(flat)[0]
    return values.as_strided(codes.shape, codes.stride())


def _has_kernel(x: Tensor, qparams: QParams) -> bool:
    """Whether a program does it, whose memory accesses nobody who watches torch would see."""
    eight_bits = qparams.axis is None and qparams.dtype is not QDType.qint32
    return eight_bits and x.numel() > 0 and is_plain(x) and not is_watched()


def _dense(x: Tensor) -> Tensor:
    """``x``, or a copy of it, without gaps in memory."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    if x.is_contiguous() or (x.dim() in formats and x.is_contiguous(memory_format=formats[x.dim()])):
        return x.resolve_neg()
    return x.contiguous()


def _numbers(qparams: QParams) -> tuple[float, int]:
    """Scale as the float32 that it counts as, and the zero point of the bytes that programs hold."""
    scale, zero_point = qparams.per_tensor()
    return float(np.float32(scale)), zero_point - qparams.dtype.qmin


@functools.lru_cache(maxsize=256)
def _program(op: str, scale: float, zero_point: int) -> Executable:
    """One step on ``[n]`` elements."""
    given, make = ("f32", steps.quantize) if op == "quantize" else ("u8", steps.dequantize)
    builder = ProgramBuilder()
    x = builder.value("x", given, [-1])
    return Executable(
        builder.build([x], write(builder, op, make(x, perm=[0], zero_point=zero_point, scale=scale), [-1]))
    )


# Programs must be gone before the runtime is unloaded.
atexit.register(_program.cache_clear)
