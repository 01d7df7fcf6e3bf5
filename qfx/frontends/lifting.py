"""Tensors that code makes while it is traced: plain ones, until a traced value is written into them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from qfx.frontends.mutation import changes_operand

_ITEMS = (Tensor.__setitem__, Tensor.__getitem__)
_ABOUT = {
    "size",
    "dim",
    "ndimension",
    "numel",
    "nelement",
    "__len__",
    "is_floating_point",
    "stride",
    "type",
    "is_contiguous",
}
"""Methods that tell about a tensor without its elements."""

_SHOWN = {"T", "mT", "H", "mH", "data", "real", "imag"}
"""Properties that are tensors."""


class Lifting(TorchFunctionMode):
    """While active, a tensor into which a traced value is written in place means the traced result from then on.

    Args:
        proxy: The class of traced values.
    """

    def __init__(self, proxy: type[fx.Proxy]) -> None:
        super().__init__()
        self.proxy = proxy
        self.lifted: dict[int, tuple[Tensor, fx.Proxy]] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        target, kwargs = (args[0] if args else None), dict(kwargs or {})
        given = args, kwargs
        if self.lifted and not _tells_about(func):
            given = pytree.tree_map_only(Tensor, self.present, given)
        lifted = any(
            a is not b for a, b in zip(pytree.tree_leaves(given), pytree.tree_leaves((args, kwargs)), strict=True)
        )
        if lifted or (func in _ITEMS and any(isinstance(leaf, fx.Proxy) for leaf in _leaves(args))):
            result: Any = self.proxy.__torch_function__(func, types, *given)
        else:
            result = func(*args, **kwargs)
        if isinstance(target, Tensor) and isinstance(result, fx.Proxy) and changes_operand(result.node, {}):
            self.lift(target, result)
        return result

    def lift(self, tensor: Tensor, meaning: fx.Proxy) -> None:
        """Let ``tensor`` mean a traced value from now on."""
        self.lifted[id(tensor)] = tensor, meaning

    def present(self, tensor: Tensor) -> Any:
        """What a tensor means now."""
        if id(tensor) in self.lifted:
            return self.lifted[id(tensor)][1]
        if not isinstance(tensor, nn.Parameter) and any(_share(tensor, other) for other, _ in self.lifted.values()):
            raise fx.proxy.TraceError(
                "a tensor is changed in place while a view of it, made before that, is still in use"
            )
        return tensor


def _tells_about(func: Any) -> bool:
    name = getattr(func, "__name__", "")
    return name in _ABOUT or (name == "__get__" and getattr(func.__self__, "__name__", "") not in _SHOWN)


def _leaves(value: Any) -> list[Any]:
    """The items of tuples, lists and slices."""
    if isinstance(value, slice):
        return [value.start, value.stop, value.step]
    if isinstance(value, (tuple, list)):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]


def _share(a: Tensor, b: Tensor) -> bool:
    plain = a.layout is torch.strided and b.layout is torch.strided
    return plain and a.untyped_storage()._cdata == b.untyped_storage()._cdata
