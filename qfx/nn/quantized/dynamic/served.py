"""What a dynamic layer answers where code reads its weight as that of a float layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

_FACTS = frozenset(
    {"size", "dim", "ndimension", "numel", "nelement", "is_floating_point", "is_complex", "__len__", "element_size"}
)
_FACT_ATTRIBUTES = tuple(
    getattr(Tensor, name)
    for name in ("shape", "dtype", "device", "layout", "ndim", "requires_grad", "is_leaf", "is_cuda", "is_quantized")
)


class ServedWeight(Tensor):
    """The float32 values of a weight that is stored in another form; they are computed when an operation reads them.

    Calling it gives the weight as it is stored.

    Args:
        shape: The weight's.
        stored: The weight as it is stored.
        values: Its values, float32 of this shape.
    """

    _stored: Callable[[], Tensor]
    _values: Callable[[], Tensor]

    @staticmethod
    def __new__(cls, shape: Any, stored: Callable[[], Tensor], values: Callable[[], Tensor]) -> ServedWeight:
        make: Any = Tensor._make_wrapper_subclass
        made: ServedWeight = make(cls, shape, dtype=torch.float32, device="cpu", requires_grad=False)
        made._stored, made._values = stored, values
        return made

    def __call__(self) -> Tensor:
        return self._stored()

    def __repr__(self) -> str:  # type: ignore[override]
        return repr(self._stored())

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        owner = getattr(func, "__self__", None)
        with torch._C.DisableTorchFunctionSubclass():
            if func.__name__ in _FACTS or any(owner is fact for fact in _FACT_ATTRIBUTES):
                return func(*args, **(kwargs or {}))
            args, kwargs = pytree.tree_map_only(cls, lambda weight: weight._values(), (args, kwargs or {}))
            return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        args, kwargs = pytree.tree_map_only(cls, lambda weight: weight._values(), (args, kwargs or {}))
        return func(*args, **kwargs)
