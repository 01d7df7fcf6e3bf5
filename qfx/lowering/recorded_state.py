"""What a compiler keeps of a quantized model: which one it is, and which of its states it recorded."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch.utils import _pytree as pytree


class RecordedState:
    """One state of a model, equal to itself only: what was recorded with it is recorded anew when it is replaced.

    Args:
        call: A bound method of the model, which is held weakly: takes positional and keyword arguments.
    """

    def __init__(self, call: Callable[[tuple[Any, ...], dict[str, Any]], Any]) -> None:
        self._call = weakref.WeakMethod(call)

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the model."""
        call = self._call()
        assert call is not None, "the model is gone"
        return call(args, kwargs)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


pytree.register_constant(RecordedState)
