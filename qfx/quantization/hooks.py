"""Forward hooks: the one that observes a module's result, and moving users' hooks to the module that takes over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from qfx.ir.computed import weight_hooks

OBSERVER = "activation_post_process"
"""The name of the child that observes a module's result."""

_SHORT = "observer"
"""An attribute that is the same object, unless the module has one of this name already."""


def observe_result(module: nn.Module, inputs: Any, result: Any) -> Any:
    """The forward hook of an observed module: its result after its observer (fake-quantized, if that is what it is).

    Of several results the observer sees the first one of floats.
    """
    observer = getattr(module, OBSERVER)
    if isinstance(result, Tensor):
        return observer(result)
    leaves, spec = pytree.tree_flatten(result)
    for index, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor) and leaf.is_floating_point():
            leaves[index] = observer(leaf)
            break
    return pytree.tree_unflatten(leaves, spec)


def attach_observer(module: nn.Module, observer: nn.Module) -> None:
    """Make ``observer`` a child of ``module``, on the device of the module's tensors."""
    tensor = next(chain(module.parameters(), module.buffers()), None)
    if tensor is not None:
        observer.to(tensor.device)
    is_free = not hasattr(module, _SHORT) or _is_ours(module)
    module.add_module(OBSERVER, observer)
    if is_free:
        # In __dict__, so that state_dict and named_modules list it once.
        module.__dict__[_SHORT] = observer


def detach_observer(module: nn.Module) -> None:
    """Undo :func:`attach_observer` and remove the hook."""
    if _is_ours(module):
        del module.__dict__[_SHORT]
    module._modules.pop(OBSERVER, None)
    for key, hook in list(module._forward_hooks.items()):
        if hook is observe_result:
            del module._forward_hooks[key]


def _is_ours(module: nn.Module) -> bool:
    return _SHORT in module.__dict__ and module.__dict__[_SHORT] is module._modules.get(OBSERVER)


@contextmanager
def all_or_nothing(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Within it, an error leaves the children and the forward hooks of ``modules`` as they were."""
    tables: list[dict[Any, Any]] = [
        table for m in modules for table in (m._modules, m._forward_pre_hooks, m._forward_hooks)
    ]
    before = [dict(table) for table in tables]
    try:
        yield
    except BaseException:
        for table, entries in zip(tables, before, strict=True):
            table.clear()
            table.update(entries)
        raise


def copy_hooks(module: nn.Module, other: nn.Module) -> None:
    """Put the forward pre-hooks and hooks of ``module``, its observer's not among them, on ``other`` too."""
    for give in (_pre_hooks(module), _hooks(module)):
        give(other)


def take_pre_hooks(module: nn.Module) -> Callable[[nn.Module], None]:
    """Take the forward pre-hooks off ``module``, those that compute its weight not among them; the result puts them on
    another.
    """
    give = _pre_hooks(module)
    computing = dict(weight_hooks(module))
    for key in [key for key in module._forward_pre_hooks if key not in computing]:
        del module._forward_pre_hooks[key]
    return give


def take_hooks(module: nn.Module) -> Callable[[nn.Module], None]:
    """Take the forward hooks off ``module``, its observer's not among them; the result puts them on another."""
    give = _hooks(module)
    for key, hook in list(module._forward_hooks.items()):
        if hook is not observe_result:
            del module._forward_hooks[key]
    return give


def _pre_hooks(module: nn.Module) -> Callable[[nn.Module], None]:
    computing = dict(weight_hooks(module))
    found = [
        (hook, key in module._forward_pre_hooks_with_kwargs)
        for key, hook in module._forward_pre_hooks.items()
        if key not in computing
    ]

    def give(other: nn.Module) -> None:
        for hook, with_kwargs in found:
            other.register_forward_pre_hook(hook, with_kwargs=with_kwargs)

    return give


def _hooks(module: nn.Module) -> Callable[[nn.Module], None]:
    found = [
        (hook, key in module._forward_hooks_with_kwargs, key in module._forward_hooks_always_called)
        for key, hook in module._forward_hooks.items()
        if hook is not observe_result
    ]

    def give(other: nn.Module) -> None:
        for hook, with_kwargs, always in found:
            other.register_forward_hook(hook, with_kwargs=with_kwargs, always_call=always)

    return give
