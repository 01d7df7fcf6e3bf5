"""Tensors as they were when something was made from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Tensors and their versions; keeps them alive, so that no other object is mistaken for one of them."""

    tensors: tuple[Tensor, ...]
    versions: tuple[int | None, ...]

    @classmethod
    def of(cls, tensors: Iterable[Tensor]) -> Snapshot:
        """The tensors as they are now."""
        kept = tuple(tensors)
        return cls(kept, tuple(map(_version, kept)))

    def matches(self, now: Snapshot) -> bool:
        """Whether the same tensors are unchanged in ``now``; never with inference tensors, which count no changes."""
        same = len(self.tensors) == len(now.tensors)
        same = same and all(a is b for a, b in zip(self.tensors, now.tensors, strict=True))
        return same and self.versions == now.versions and None not in now.versions


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version
