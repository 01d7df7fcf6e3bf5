"""Forward hooks: the one that observes a module's result, and moving users' hooks to the module that takes over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

OBSERVER = "activation_post_process"
"""The name of the child that observes a module's result; ``module.observer`` is the same object."""


def observe_result(module: nn.Module, inputs: Any, result: Any) -> Any:
    """The forward hook of an observed module: its result after its observer (fake-quantized, if that is what it is)."""
    return getattr(module, OBSERVER)(result)


def attach_observer(module: nn.Module, observer: nn.Module) -> None:
    """Make ``observer`` a child of ``module``, under both of its names."""
    module.add_module(OBSERVER, observer)
    # In __dict__, so that state_dict and named_modules list it once.
    module.__dict__["observer"] = observer


def detach_observer(module: nn.Module) -> None:
    """Undo :func:`attach_observer` and remove the hook."""
    module._modules.pop(OBSERVER, None)
    module.__dict__.pop("observer", None)
    for key, hook in list(module._forward_hooks.items()):
        if hook is observe_result:
            del module._forward_hooks[key]


def take_pre_hooks(module: nn.Module) -> Callable[[nn.Module], None]:
    """Take the forward pre-hooks off ``module``; the result puts them on another."""
    taken = [(hook, key in module._forward_pre_hooks_with_kwargs) for key, hook in module._forward_pre_hooks.items()]
    module._forward_pre_hooks.clear()

    def give(other: nn.Module) -> None:
        for hook, with_kwargs in taken:
            other.register_forward_pre_hook(hook, with_kwargs=with_kwargs)

    return give


def take_hooks(module: nn.Module) -> Callable[[nn.Module], None]:
    """Take the forward hooks off ``module``, its observer's not among them; the result puts them on another."""
    taken = [
        (hook, key in module._forward_hooks_with_kwargs, key in module._forward_hooks_always_called)
        for key, hook in module._forward_hooks.items()
        if hook is not observe_result
    ]
    for key, hook in list(module._forward_hooks.items()):
        if hook is not observe_result:
            del module._forward_hooks[key]

    def give(other: nn.Module) -> None:
        for hook, with_kwargs, always in taken:
            other.register_forward_hook(hook, with_kwargs=with_kwargs, always_call=always)

    return give
