"""Batch norm statistics during training: kept as they are, or updated; for ``model.apply``."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from qfx.arguments import explained


@explained
def freeze_bn_stats(module: nn.Module) -> None:
    """Let ``module``, if it is a batch norm or fused with one, use and keep its running statistics in training too.

    A batch norm without running statistics stays as it is. The choice survives ``train()``, ``deepcopy`` and pickling,
    but is no part of ``state_dict``.
    """
    if _is_fused(module):
        _release_members(module)
        module.freeze_bn_stats()  # type: ignore[operator]
    elif isinstance(module, _BatchNorm) and module.track_running_stats and not has_frozen_bn_stats(module):
        module.register_forward_pre_hook(_evaluate)
        module.register_forward_hook(_go_on_training, always_call=True)


@explained
def update_bn_stats(module: nn.Module) -> None:
    """Undo :func:`freeze_bn_stats`: normalize by the batch and update the statistics, in training."""
    if _is_fused(module):
        _release_members(module)
        module.update_bn_stats()  # type: ignore[operator]
    elif isinstance(module, _BatchNorm):
        _release(module)


def has_frozen_bn_stats(module: nn.Module) -> bool:
    """Whether ``module`` is a batch norm, or fused with one, that :func:`freeze_bn_stats` froze."""
    return _evaluate in module._forward_pre_hooks.values() or (_is_fused(module) and bool(module.freeze_bn))


def _is_fused(module: nn.Module) -> bool:
    return callable(getattr(module, "freeze_bn_stats", None)) and callable(getattr(module, "update_bn_stats", None))


def _release_members(module: nn.Module) -> None:
    """``apply`` reaches a fused module's batch norm before the module itself, which is to decide for it."""
    for member in module.modules():
        if isinstance(member, _BatchNorm):
            _release(member)


def _release(module: _BatchNorm) -> None:
    hooks: tuple[dict[int, Any], ...] = (module._forward_pre_hooks, module._forward_hooks)
    for table in hooks:
        for key in [key for key, hook in table.items() if hook in (_evaluate, _go_on_training)]:
            del table[key]
            module._forward_hooks_always_called.pop(key, None)


def _evaluate(module: nn.Module, _: Any) -> None:
    """The forward pre-hook of a frozen batch norm: this call is one of evaluation."""
    module._mode = module.training  # type: ignore[assignment]
    module.training = False


def _go_on_training(module: nn.Module, _: Any, __: Any) -> None:
    """The forward hook of a frozen batch norm."""
    module.training = bool(module._mode)
