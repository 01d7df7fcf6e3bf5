"""Conversions of a model that holds quantized layers: refused before any tensor of it has changed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from qfx.errors import UnsupportedError


class KeepsPrecision:
    """Base of modules whose tensors stay on the CPU in the dtypes they have: ``half()``, ``cuda()`` and the like raise.

    ``to`` and its kin go through ``_apply``, children first, so :func:`guard` lets the modules around check beforehand.
    """

    def __prepare_scriptable__(self) -> NoReturn:
        raise no_script(self)

    def require_convertible(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Raise unless ``fn``, which ``_apply`` is to map over tensors, leaves float32 on the CPU.

        Raises:
            UnsupportedError: What it makes of it.
        """
        probe = fn(torch.zeros(1, dtype=torch.float32, device="cpu"))
        if probe.device.type != "cpu" or probe.dtype is not torch.float32:
            raise UnsupportedError(
                f"A quantized {type(self).__name__} can't become {probe.dtype} on {probe.device}.",
                why="Its integers and scales are for qfx's CPU kernels, which compute in float32.",
                remedy="Keep it as it is; move or convert the float model, and quantize that.",
            )


def no_script(module: object) -> UnsupportedError:
    """What ``torch.jit.script`` of ``module`` raises."""
    return UnsupportedError(
        f"torch.jit.script can't take a {type(module).__name__}.",
        why="It is Python around kernels of qfx's, not TorchScript.",
        remedy="Record it with torch.jit.trace, or the whole model by qfx.quantize_fx.",
    )


def guard(model: nn.Module) -> None:
    """Make every module around a quantized one check the whole of itself before it changes a tensor."""
    for module in model.modules():
        around = any(isinstance(m, KeepsPrecision) for m in module.modules()) and not isinstance(module, KeepsPrecision)
        if around and _GUARDED not in module.__dict__:
            # In __dict__, where it shadows the method of this one module, whatever its class.
            module.__dict__[_GUARDED] = partial(_apply_to_all_or_none, module)


_GUARDED = "_apply"


def _apply_to_all_or_none(module: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
    for each in module.modules() if recurse else ():
        if isinstance(each, KeepsPrecision):
            each.require_convertible(fn)
    return type(module)._apply(module, fn, recurse)  # type: ignore[no-untyped-call]
