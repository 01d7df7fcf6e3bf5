"""Tensors that translated code makes: computed as they are, until a computed value is written into one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from qfx.frontends.randomness import draws


class View(NamedTuple):
    """How a tensor came to show the memory of another."""

    tensor: Tensor
    overload: Any
    operands: tuple[Any, ...]
    item: int | None


@dataclass
class LocalTensors:
    """Which tensors show the memory of which, and into which the graph writes, so that they are out of date."""

    _changed: dict[int, Tensor] = field(default_factory=dict)
    _views: dict[int, View] = field(default_factory=dict)

    def computes(self, overload: Any, operands: Sequence[Any]) -> bool:
        """Whether a call of ``overload`` depends on nothing that the graph computes."""
        leaves = pytree.tree_leaves(list(operands))
        if draws(overload):
            return False
        return not any(
            isinstance(leaf, fx.Node) or (isinstance(leaf, Tensor) and self._writes(leaf)) for leaf in leaves
        )

    def shown(self, result: Any, overload: Any, operands: Sequence[Any]) -> Any:
        """``result`` of a call, noted if it is a view of an operand."""
        given = [operand for operand in operands if isinstance(operand, Tensor)]
        several = isinstance(result, (list, tuple))
        for index, tensor in enumerate(result if several else [result]):
            if isinstance(tensor, Tensor) and any(_share(tensor, x) and tensor is not x for x in given):
                self._views.setdefault(id(tensor), View(tensor, overload, tuple(operands), index if several else None))
        return result

    def view_of(self, tensor: Tensor) -> View | None:
        """How ``tensor`` came to be a view, None if it is none."""
        return self._views.get(id(tensor))

    def change(self, operand: Any) -> None:
        """The graph writes into ``operand``."""
        if isinstance(operand, Tensor):
            self._changed[id(operand)] = operand

    def _writes(self, tensor: Tensor) -> bool:
        return any(_share(tensor, other) for other in self._changed.values())


def _share(a: Tensor, b: Tensor) -> bool:
    plain = a.layout is torch.strided and b.layout is torch.strided
    return plain and a.untyped_storage()._cdata == b.untyped_storage()._cdata
