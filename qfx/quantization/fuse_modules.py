"""Fusing layers of a float model by their names, before it is prepared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from torch import nn

from qfx.arguments import explained
from qfx.errors import ConversionError
from qfx.ir.computed import copied, kind_of
from qfx.quantization.fold import BATCH_NORMS, fold_batch_norm
from qfx.quantization.hooks import all_or_nothing, take_hooks, take_pre_hooks
from qfx.quantization.mappings import known_layers

FuserMethods: TypeAlias = Mapping[tuple[type[nn.Module], ...], Callable[..., nn.Module]]
"""From classes in order to ``function(is_qat, *modules)``, which returns the fused module."""

Fuser: TypeAlias = Callable[[list[nn.Module], bool, FuserMethods | None], Sequence[nn.Module | None]]
"""``fuser(modules, is_qat, additional)``: from modules in order to as many modules that take their places."""


@explained
def fuse_modules(
    model: nn.Module,
    modules_to_fuse: Sequence[str] | Sequence[Sequence[str]],
    inplace: bool = False,
    fuser_func: Fuser | None = None,
    fuse_custom_config_dict: Mapping[str, Any] | None = None,
) -> nn.Module:
    """``model`` with lists of layers fused: the first becomes the fused module, the others ``nn.Identity``.

    Fused are [Conv, BatchNorm], [Conv, BatchNorm, ReLU], [Conv, ReLU] in one, two and three dimensions,
    [Linear, ReLU] and, in evaluation, [Linear, BatchNorm1d]. In evaluation the batch norm is folded into the weights;
    in training it stays, within a ConvBn container, for ``prepare_qat``. Forward pre-hooks of the first layer and
    forward hooks of the last go to the fused module.

    Args:
        model: The float model.
        modules_to_fuse: One list of module paths (``["features.0.conv", "features.0.relu"]``), or a list of such lists.
        inplace: Change ``model`` itself instead of a copy.
        fuser_func: Called as ``fuser_func(modules, is_qat, additional)``; returns as many modules in their places. When
            left out, :func:`fuse_known_modules`, the rules above. ``is_qat`` is whether the modules are in training.
        fuse_custom_config_dict: ``{"additional_fuser_method_mapping": {(ClassA, ClassB): function}}``, functions
            called as ``function(is_qat, *modules)`` that return the fused one. The mapping is ``additional`` above.

    Raises:
        ConversionError: A list that can't be fused, or a path that the model does not have; ``model`` is unchanged.
    """
    return _fuse(model, modules_to_fuse, inplace, fuser_func, fuse_custom_config_dict)


@explained
def fuse_modules_qat(
    model: nn.Module,
    modules_to_fuse: Sequence[str] | Sequence[Sequence[str]],
    inplace: bool = False,
    fuser_func: Fuser | None = None,
    fuse_custom_config_dict: Mapping[str, Any] | None = None,
) -> nn.Module:
    """As :func:`fuse_modules`, for ``prepare_qat``: batch norms stay, whatever mode the layers are in.

    Raises:
        ConversionError: As of :func:`fuse_modules`.
    """
    return _fuse(model, modules_to_fuse, inplace, fuser_func, fuse_custom_config_dict, is_qat=True)


def _fuse(
    model: nn.Module,
    modules_to_fuse: Sequence[str] | Sequence[Sequence[str]],
    inplace: bool,
    fuser_func: Fuser | None,
    fuse_custom_config_dict: Mapping[str, Any] | None,
    *,
    is_qat: bool | None = None,
) -> nn.Module:
    """``fuse_modules`` for training or not; by the layers' own mode where ``is_qat`` does not say."""
    custom = dict(fuse_custom_config_dict or {}).get("additional_fuser_method_mapping", {})
    model = model if inplace else copied(model)
    with all_or_nothing(list(model.modules())):
        for names in _lists(modules_to_fuse):
            found = [_find(model, name) for name in names]
            made = _fused(found, custom, names, fuser_func, found[0].training if is_qat is None else is_qat)
            if len(made) != len(found):
                raise ConversionError(
                    f"fuser_func returned {len(made)} modules for {len(found)}.",
                    where=names[0],
                    remedy="Return the fused module and an nn.Identity for each of the others.",
                )
            for name, module in zip(names, made, strict=True):
                owner, _, last = name.rpartition(".")
                model.get_submodule(owner)._modules[last] = module
    return model


@explained
def fuse_known_modules(
    modules: list[nn.Module], is_qat: bool = False, additional: FuserMethods | None = None
) -> list[nn.Module]:
    """The fused module of ``modules`` and an ``nn.Identity`` for each after the first.

    Args:
        modules: The layers, in order.
        is_qat: Whether batch norms stay, as they do for modules in training anyway.
        additional: Functions that fuse further sequences of classes, called as ``function(is_qat, *modules)``.

    Raises:
        ConversionError: No rule fits.
    """
    return _fuse_known(modules, is_qat or modules[0].training, additional or {}, None)


def _fused(
    modules: list[nn.Module], additional: FuserMethods, names: Sequence[str], fuser: Fuser | None, is_qat: bool
) -> list[nn.Module | None]:
    if fuser is None or fuser is fuse_known_modules:
        return [*_fuse_known(modules, is_qat, additional, names[0])]
    return list(fuser(modules, is_qat, additional))


def _fuse_known(modules: list[nn.Module], is_qat: bool, additional: FuserMethods, where: str | None) -> list[nn.Module]:
    kinds = tuple(map(kind_of, modules))
    if len({m.training for m in modules}) > 1:
        raise ConversionError(
            f"{_shown(kinds)} are not all in the same mode.",
            where=where,
            remedy="Call .eval() on the model to fold batch norms, or .train() to keep them.",
        )
    build = partial(additional[kinds], is_qat) if kinds in additional else _rule(kinds, where, is_qat)
    with all_or_nothing(modules):
        moved = take_pre_hooks(modules[0]), take_hooks(modules[-1])
        fused = build(*modules)
    for give in moved:
        give(fused)
    if hasattr(modules[0], "qconfig"):
        fused.qconfig = modules[0].qconfig
    fused.train(modules[0].training)
    return [fused, *(nn.Identity().train(m.training) for m in modules[1:])]


_RULES: dict[tuple[type[nn.Module], ...], str] = {
    **{(getattr(nn, f"Conv{d}d"), nn.ReLU): f"ConvReLU{d}d" for d in (1, 2, 3)},
    **{(getattr(nn, f"Conv{d}d"), getattr(nn, f"BatchNorm{d}d")): f"ConvBn{d}d" for d in (1, 2, 3)},
    **{(getattr(nn, f"Conv{d}d"), getattr(nn, f"BatchNorm{d}d"), nn.ReLU): f"ConvBnReLU{d}d" for d in (1, 2, 3)},
    (nn.Linear, nn.ReLU): "LinearReLU",
    (nn.Linear, nn.BatchNorm1d): "",
}
"""Classes in order, and the container of :mod:`qfx.nn.intrinsic` that keeps them in training; "" for none."""


def _rule(kinds: tuple[type[nn.Module], ...], where: str | None, training: bool) -> Callable[..., nn.Module]:
    if kinds not in _RULES or (training and not _RULES[kinds]):
        raise ConversionError(
            f"{_shown(kinds)} can't be fused{' in training' if kinds in _RULES else ''}.",
            where=where,
            why="Fused are [Conv, BatchNorm], [Conv, BatchNorm, ReLU], [Conv, ReLU] and [Linear, ReLU], exactly these "
            "classes, with batch norms of the convolution's dimensions.",
            remedy="Take the list out, or pass the rule in fuse_custom_config_dict or fuser_func.",
        )
    folds = len(kinds) > 1 and issubclass(kinds[1], BATCH_NORMS) and not training
    return partial(_folded if folds else _container, _RULES[kinds])


def _folded(name: str, layer: nn.Module, norm: nn.Module, *rest: nn.Module) -> nn.Module:
    folded = fold_batch_norm(layer, norm)
    return _container(name.replace("Bn", ""), folded, *rest) if rest else folded


def _container(name: str, *members: nn.Module) -> nn.Module:
    return known_layers().containers[name](*members)


def _lists(modules_to_fuse: Any) -> list[list[str]]:
    rows = modules_to_fuse
    if isinstance(rows, (list, tuple)) and rows and all(isinstance(name, str) for name in rows):
        rows = [rows]
    well_formed = isinstance(rows, (list, tuple)) and all(
        isinstance(row, (list, tuple)) and all(isinstance(name, str) for name in row) for row in rows
    )
    if not well_formed or any(len(row) < 2 or len(set(row)) < len(row) for row in rows):
        raise ConversionError(
            f"{modules_to_fuse!r} is no list of modules to fuse.",
            remedy='Write ["conv", "bn", "relu"], or a list of such lists, each of two or more different paths.',
        )
    return [list(row) for row in rows]


def _find(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        raise ConversionError(
            f"The model has no module {name!r} to fuse.",
            remedy="Use paths as named_modules() gives them, such as 'layer1.0.conv1'.",
        ) from None


def _shown(kinds: tuple[type[nn.Module], ...]) -> str:
    return f"[{', '.join(kind.__name__ for kind in kinds)}]"
