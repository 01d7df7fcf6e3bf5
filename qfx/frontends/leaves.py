"""Which modules a trace does not enter: torch's own layers, and what the user or a failed trace names."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from torch import fx, nn

from qfx.frontends.defaults import settle_defaults
from qfx.ir.user_names import graph_module_of, token_path

SCALARS = (type(None), bool, int, float, str)
"""Types of arguments' defaults that a trace fixes."""

WHOLE = "whole"
"""Key of a captured graph's ``meta``: the path of the leaf that is the whole model."""

ISLAND_REMEDY = "island_remedy"
"""Key of a call's ``meta``: what the user can do so that this module is entered."""

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
_HARMLESS = {"__init__", "__module__", "__doc__", "__dict__", "__weakref__", "__annotations__", "__qualname__"}
_HARMLESS |= {"extra_repr", "__repr__", "__constants__", "__parameters__", "__firstlineno__", "__static_attributes__"}
_HARMLESS |= {"reset_parameters", "__annotate__", "__annotate_func__", "__slots__", "__hash__"}


def builtin_class(module: nn.Module) -> type[nn.Module] | None:
    """The ``torch.nn`` class whose computation ``module`` performs, or None."""
    return builtin_base(type(module)) if "forward" not in vars(module) else None


def builtin_base(kind: type[nn.Module]) -> type[nn.Module] | None:
    """The ``torch.nn`` class whose computation modules of class ``kind`` perform, or None.

    A user's subclass counts as its base as long as it overrides nothing that the base computes with: a
    ``class Conv(nn.Conv2d)`` that only chooses arguments is an ``nn.Conv2d``, one with its own ``forward`` is not.
    """
    own: set[str] = set()
    for cls in kind.__mro__:
        if cls.__module__.startswith("torch.nn.") and issubclass(cls, nn.Module) and cls is not nn.Module:
            overridden = {name for name in own if hasattr(cls, name)} - _HARMLESS
            return None if overridden or issubclass(cls, _CONTAINERS) else cls
        own |= set(vars(cls))
    return None


def capture_whole(
    module: nn.Module, inputs: Collection[str], island_reason: str | None = None, *, fixes_scalars: bool = True
) -> fx.GraphModule:
    """A raw trace of a model that is one leaf: its inputs, one call of it, its result.

    ``meta[WHOLE]`` is the path of the leaf in the result; to the user its path is "".

    Args:
        module: The model.
        inputs: Names of ``forward`` arguments with a default that are to be inputs of the graph.
        island_reason: Why the model is to stay float, if it is.
        fixes_scalars: Whether the other arguments are fixed at a default of None, a number or a string, as in a trace;
            else those are inputs with this default, and only arguments whose default is something else are fixed.
    """
    graph = fx.Graph()
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    specialized: dict[str, Any] = {}
    for parameter in inspect.signature(module.forward).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        optional = parameter.default is not parameter.empty and parameter.name not in inputs
        if optional and (fixes_scalars or not isinstance(parameter.default, SCALARS)):
            specialized[parameter.name] = parameter.default
            continue
        given = graph.placeholder(parameter.name, default_value=parameter.default)
        by_name = specialized or not fixes_scalars  # a decorator may look for an argument by its name
        if parameter.kind is parameter.KEYWORD_ONLY or (by_name and parameter.kind is not parameter.POSITIONAL_ONLY):
            kwargs[parameter.name] = given
        else:
            args.append(given)
    name = token_path(type(module).__name__.lower())
    call = graph.call_module(name, tuple(args), kwargs)
    call.meta["module_class"] = type(module)
    if island_reason is not None:
        call.meta["island_reason"] = island_reason
    graph.output(call)
    for node in graph.nodes:
        node.meta.update(module_path="", source=None)
    holder = nn.Module()
    holder.add_module(name, module)
    settle_defaults(graph)
    made = graph_module_of(holder, graph, type(module).__name__)
    made.meta.update({WHOLE: name, "specialized": specialized})
    return made


@contextlib.contextmanager
def replaced_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """While active, a call of ``module`` runs its hooks around ``forward``."""
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        del module.__dict__["forward"]


_HOOKS = ("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_forward_hooks", "_forward_hooks_with_kwargs")
_HOOKS += ("_forward_hooks_always_called",)  # type: ignore[assignment]
_GLOBAL_HOOKS = ("_global_forward_pre_hooks", "_global_forward_hooks")


def has_hooks(module: nn.Module) -> bool:
    """Whether a call of ``module`` does more than its ``forward``."""
    everywhere = any(getattr(nn.modules.module, name) for name in _GLOBAL_HOOKS)
    return everywhere or any(getattr(module, name) for name in _HOOKS)


def forget_hooks(module: nn.Module) -> None:
    """Takes the forward hooks off ``module``."""
    for name in _HOOKS:
        getattr(module, name).clear()


@contextlib.contextmanager
def without_hooks(modules: Iterable[nn.Module]) -> Iterator[None]:
    """While active, calls of ``modules`` run no forward hooks of theirs."""
    kept = [(module, name, getattr(module, name)) for module in modules for name in _HOOKS]
    for module, name, hooks in kept:
        setattr(module, name, type(hooks)())
    try:
        yield
    finally:
        for module, name, hooks in kept:
            setattr(module, name, hooks)


def forget_gradient_hooks(model: nn.Module) -> None:
    """Takes the hooks for gradients off the modules of ``model``, which handle no traced values."""
    for module in model.modules():
        module._backward_hooks.clear()
        module._backward_pre_hooks.clear()
        module._is_full_backward_hook = None
