"""Weights that a module computes at each call from tensors of its own: parametrizations, norms of weights, pruning."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize

from qfx.ir.derivation import Computed, Derivation, Derived, Source

COMPUTED = "computed"
"""Key of a captured graph's ``meta``: its computed weights, a :class:`ComputedWeight` by path."""

_HOOKS = {
    "torch.nn.utils.weight_norm": ("_g", "_v"),
    "torch.nn.utils.spectral_norm": ("_orig", "_u", "_v"),
    "torch.nn.utils.prune": ("_orig", "_mask"),
}
"""Modules of torch whose pre-hooks compute a weight, and how the tensors are called that they compute it from."""


@dataclass(frozen=True)
class ComputedWeight:
    """A weight that has been replaced by its present value.

    Attributes:
        derivation: How it follows from what it is computed from.
        members: Tensors and modules that it is computed from, by path.
        restore: Makes it computed again.
    """

    derivation: Derivation
    members: Mapping[str, Tensor | nn.Module]
    restore: Callable[[], None]


def bake_weights(model: nn.Module) -> dict[str, ComputedWeight]:
    """Replace weights that are recomputed at each call by their present values; what was replaced, by path."""
    found: dict[str, ComputedWeight] = {}
    for path, module in list(model.named_modules()):
        if parametrize.is_parametrized(module):
            found.update(_bake_parametrizations(path, module))
        for key, hook in weight_hooks(module):
            found.update(_bake_hook(path, module, key, hook))
    return found


def kind_of(module: nn.Module) -> type[nn.Module]:
    """The class of ``module``, without the one that torch makes for a parametrized module."""
    return type(module).__bases__[0] if parametrize.is_parametrized(module) else type(module)


def computes_weights(module: nn.Module) -> bool:
    """Whether ``module`` itself computes a weight at each call."""
    return parametrize.is_parametrized(module) or any(True for _ in weight_hooks(module))


def baked(module: nn.Module) -> nn.Module:
    """``module``, or a copy over the same tensors whose computed weights, its children's too, are plain ones."""
    if not any(computes_weights(each) for each in module.modules()):
        return module
    made = _shallow(module)
    bake_weights(made)
    return made


def _shallow(module: nn.Module) -> nn.Module:
    """A copy of ``module`` and of what of it computes weights; tensors and other modules are shared."""
    if not any(computes_weights(each) for each in module.modules()):
        return module
    made: nn.Module = type(module).__new__(type(module))
    made.__dict__.update(module.__dict__)
    for table in ("_parameters", "_buffers", "_modules", "_forward_pre_hooks", "_forward_hooks"):
        made.__dict__[table] = copy.copy(module.__dict__[table])
    for name, child in module._modules.items():
        made._modules[name] = child and _shallow(child)
    return made


def copied(model: nn.Module) -> nn.Module:
    """A deep copy of ``model``, weights among its attributes too that autograd computed, which ``deepcopy`` refuses."""
    values = (value for module in model.modules() for value in vars(module).values())
    kept = {id(v): v.detach().clone() for v in values if isinstance(v, Tensor) and not v.is_leaf}
    made: nn.Module = copy.deepcopy(model, kept)
    return made


def refresh(module: nn.Module) -> None:
    """Compute the weights of ``module`` that hooks compute, from the present tensors."""
    for _, hook in weight_hooks(module):
        hook(module, ())


def weight_hooks(module: nn.Module) -> Iterator[tuple[int, Any]]:
    """The forward pre-hooks that compute a weight of ``module``, with their keys."""
    for key, hook in list(module._forward_pre_hooks.items()):
        if _endings(hook):
            yield key, hook


def _endings(hook: Any) -> tuple[str, ...]:
    """How the tensors are called that ``hook`` computes a weight from, behind its name; none if it computes none."""
    return next((_HOOKS[cls.__module__] for cls in type(hook).__mro__ if cls.__module__ in _HOOKS), ())


def _weight_of(hook: Any) -> str:
    name: str = hook.name if hasattr(hook, "name") else hook._tensor_name
    return name


def _bake_parametrizations(path: str, module: nn.Module) -> Iterator[tuple[str, ComputedWeight]]:
    """Not torch's ``remove_parametrizations``: that changes the class, which the copy shares with the user's module."""
    lists: Any = module.parametrizations
    values = {name: getattr(module, name).detach().clone() for name in lists}
    parametrized = type(module)
    module.__class__ = parametrized.__bases__[0]
    del module._modules["parametrizations"]

    def restore() -> None:
        for name in values:
            module._parameters.pop(name, None)
        module.__class__ = parametrized
        module._modules["parametrizations"] = lists

    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value))
        where = _join(path, f"parametrizations.{name}")
        yield _join(path, name), ComputedWeight(Computed(where), {where: lists[name]}, restore)


def _bake_hook(path: str, module: nn.Module, key: int, hook: Any) -> Iterator[tuple[str, ComputedWeight]]:
    weight = _weight_of(hook)
    names = [weight + end for end in _endings(hook)]
    members = {name: getattr(module, name) for name in names}
    value = compute_by_hook(hook, names, False, *members.values()).detach()
    for name in (weight, *names):  # not the hook's remove(), of which pruning's writes into a tensor that others share
        delattr(module, name)
    module.register_parameter(weight, nn.Parameter(value))
    del module._forward_pre_hooks[key]

    def restore() -> None:
        module._parameters.pop(weight, None)
        for name, tensor in members.items():
            module.register_parameter(name, tensor) if isinstance(tensor, nn.Parameter) else module.register_buffer(
                name, tensor
            )
        setattr(module, weight, compute_by_hook(hook, names, False, *members.values()).detach())
        module._forward_pre_hooks[key] = hook

    operands = tuple(Source(_join(path, name)) for name in names)
    evaluated, trained = (partial(compute_by_hook, hook, names, iterates) for iterates in (False, True))
    derived = Derived(evaluated, operands, trained)
    yield _join(path, weight), ComputedWeight(derived, {_join(path, n): t for n, t in members.items()}, restore)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def compute_by_hook(hook: Any, names: list[str], iterates: bool, *tensors: Tensor) -> Tensor:
    """The weight that a hook of torch computes from ``tensors``, which a module has under ``names``.

    Args:
        hook: A WeightNorm, a SpectralNorm, or a method of pruning.
        names: Names of the tensors.
        iterates: Whether spectral norm takes a step of its power iteration, as in training; it changes its vectors.
        *tensors: What the weight is computed from.
    """
    holder = SimpleNamespace(**dict(zip(names, tensors, strict=True)))
    steps = {"do_power_iteration": iterates} if len(names) == 3 else {}
    compute = hook.compute_weight if hasattr(hook, "compute_weight") else hook.apply_mask
    weight: Tensor = compute(holder, **steps)
    return weight
