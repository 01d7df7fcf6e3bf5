"""Weights in fewer bits, for float activations: what they decode to, and how codes of 4 bits lie in bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qfx.ops import arithmetic


def pack_nibbles(codes: Tensor) -> Tensor:
    """uint8, flat: codes in -8..7 two a byte, the first in the low half."""
    flat = codes.reshape(-1).to(torch.uint8) & 15
    low, high = flat[::2], flat[1::2]
    packed = low.clone()
    packed[: len(high)] |= high << 4
    return packed


def unpack_nibbles(packed: Tensor, shape: Sequence[int]) -> Tensor:
    """int8 codes of ``shape``: what :func:`pack_nibbles` packed."""
    halves = torch.stack([packed & 15, packed >> 4], -1).reshape(-1)[: math.prod(shape)].to(torch.int8)
    return torch.where(halves > 7, halves - 16, halves).reshape(*shape)


def decode_weight(
    codes: Tensor,
    scale: Tensor | None = None,
    zero_point: Tensor | None = None,
    *,
    shape: Sequence[int] | None = None,
) -> Tensor:
    """float32 ``[O, C]``: ``float32(code - zero_point) * scale``, or the value that 16 bits are.

    Args:
        codes: float16 or bfloat16 ``[O, C]``; int8 ``[O, C]``; with ``shape`` codes of 4 bits, uint8, two a byte.
        scale: Of integers, float32 or float16 ``[O, G]``: one for each group of ``C / G`` neighbours in a row.
        zero_point: ``[O, G]``, stored as ``codes`` are; None: all 0.
        shape: ``(O, C)`` of codes of 4 bits.
    """
    if scale is None:
        return codes.to(torch.float32)
    rows, groups = scale.shape
    values = (codes if shape is None else unpack_nibbles(codes, shape)).reshape(rows, groups, -1)
    zero = torch.zeros((), dtype=torch.int64)
    if zero_point is not None:
        zero = (zero_point if shape is None else unpack_nibbles(zero_point, scale.shape)).unsqueeze(-1)
    return arithmetic.dequantize(values, scale.unsqueeze(-1), zero).reshape(rows, -1)


@dataclass(frozen=True, eq=False)
class StoredWeight:
    """The operands of a :func:`decode_weight`: a weight as models, files and programs hold it."""

    codes: Tensor
    scale: Tensor | None = None
    zero_point: Tensor | None = None
    packed: tuple[int, int] | None = None
    """Its shape, where codes of 4 bits are packed."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(O, C)``."""
        return tuple(self.codes.shape) if self.packed is None else tuple(self.packed)

    def values(self) -> Tensor:
        """float32 ``[O, C]``."""
        return decode_weight(self.codes, self.scale, self.zero_point, shape=self.packed)

    def integers(self) -> Tensor:
        """Of one with scales, int64 ``[O, G, C / G]``: each code less its zero point."""
        assert self.scale is not None
        codes = self.codes if self.packed is None else unpack_nibbles(self.codes, self.packed)
        groups = codes.reshape(*self.scale.shape, -1).to(torch.int64)
        if self.zero_point is None:
            return groups
        zeros = self.zero_point if self.packed is None else unpack_nibbles(self.zero_point, self.scale.shape)
        return groups - zeros.to(torch.int64).unsqueeze(-1)

    def problem(self) -> str | None:
        """Why the tensors are no weight, or None."""
        if len(self.shape) != 2 or not all(type(n) is int and n > 0 for n in self.shape):
            return f"a weight of shape {self.shape}"
        if self.scale is None:
            halves = self.codes.dtype in (torch.float16, torch.bfloat16)
            return None if halves and self.zero_point is None else f"codes of {self.codes.dtype} without a scale"
        rows, groups = self.scale.shape if self.scale.dim() == 2 else (0, 0)
        if rows != self.shape[0] or groups == 0 or self.shape[1] % groups:
            return f"scales of shape {tuple(self.scale.shape)} for a weight of shape {self.shape}"
        if self.scale.dtype not in (torch.float16, torch.float32):
            return f"scales of {self.scale.dtype}"
        for what, codes, shape in (("codes", self.codes, self.shape), ("zero points", self.zero_point, (rows, groups))):
            if codes is not None and not self._are_codes(codes, shape):
                return f"{what} of {codes.dtype} and shape {tuple(codes.shape)} for {shape}"
        return None

    def _are_codes(self, codes: Tensor, shape: tuple[int, ...]) -> bool:
        if self.packed is None:
            return codes.dtype is torch.int8 and tuple(codes.shape) == shape
        return codes.dtype is torch.uint8 and tuple(codes.shape) == ((math.prod(shape) + 1) // 2,)
