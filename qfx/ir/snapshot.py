"""Tensors as they were when something was made from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

Mark = tuple["int | None", int]
"""A tensor's count of changes (None: an inference tensor, which counts none) and where its memory is."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Tensors and their marks; keeps them alive, so that no other object is mistaken for one of them."""

    tensors: tuple[Tensor, ...]
    marks: tuple[Mark, ...]

    @classmethod
    def of(cls, tensors: Iterable[Tensor]) -> Snapshot:
        """The tensors as they are now."""
        kept = tuple(tensors)
        return cls(kept, tuple(map(mark_of, kept)))

    def matches(self, now: Snapshot) -> bool:
        """Whether the same tensors are unchanged in ``now``; never with inference tensors, which count no changes."""
        same = len(self.tensors) == len(now.tensors)
        same = same and all(a is b for a, b in zip(self.tensors, now.tensors, strict=True))
        return same and self.marks == now.marks and all(version is not None for version, _ in now.marks)


def mark_of(tensor: Tensor) -> Mark:
    """What changes when the values do: by an operation in place, or by ``tensor.data = other``."""
    return None if tensor.is_inference() else tensor._version, tensor.data_ptr()


def bytes_of(tensor: Tensor) -> bytes:
    """The numbers of a tensor as bytes, in row-major order, whatever its strides.

    One number is contiguous with any stride, 0 included, and no view of another element size takes that.
    """
    dense = tensor.detach().contiguous()
    return dense.as_strided((dense.numel(),), (1,)).view(torch.uint8).numpy().tobytes()
