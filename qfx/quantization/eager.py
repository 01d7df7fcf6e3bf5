"""Eager mode: observers and int8 layers put into a float ``nn.Module``, module by module, its paths unchanged."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from qfx.arguments import explained
from qfx.errors import ConversionError, StaysFloatWarning
from qfx.ir.computed import baked, copied, kind_of
from qfx.ir.types import QDType
from qfx.quantization.accepted import dynamic_qconfig, require_cpu, require_module
from qfx.quantization.custom_modules import observe, observed_classes, quantized_classes
from qfx.quantization.fake_quantize import FakeQuantizeBase
from qfx.quantization.fast_path import leave_fast_path
from qfx.quantization.foreign import require_no_outer_observers, require_plain
from qfx.quantization.hooks import (
    OBSERVER,
    attach_observer,
    copy_hooks,
    detach_observer,
    observe_result,
    take_hooks,
    take_pre_hooks,
)
from qfx.quantization.keeps_precision import guard
from qfx.quantization.mappings import (
    ClassMapping,
    default_dynamic_mapping,
    default_qat_mapping,
    default_static_mapping,
    known_layers,
    swapped_by_default,
)
from qfx.quantization.observer import Observer
from qfx.quantization.propagate import checked_qconfig, propagate_qconfig_
from qfx.quantization.qconfig import QConfig
from qfx.quantization.stubs import DeQuantStub, QuantStub, QuantWrapper
from qfx.quantization.uncalibrated import default_observer, saw_data, warn_of_default


@explained
def prepare(
    model: nn.Module,
    inplace: bool = False,
    allow_list: Collection[type[nn.Module]] | None = None,
    observer_non_leaf_module_list: Collection[type[nn.Module]] | None = None,
    prepare_custom_config_dict: Mapping[str, Any] | None = None,
    *,
    qconfig_dict: Mapping[Any, QConfig | None] | None = None,
    mapping: ClassMapping | None = None,
) -> nn.Module:
    """A copy of ``model`` with an observer at the result of every layer that ``convert`` will swap.

    Which layers is said by ``.qconfig`` attributes and ``qconfig_dict``, as :func:`propagate_qconfig_` reads them. The
    observer is the child ``activation_post_process``, also reached as ``.observer``. A module that is called twice
    has one observer, which sees both results: they share one scale and zero point.

    Args:
        model: The float model, with stubs where values enter and leave its quantized parts.
        inplace: Change ``model`` itself instead of a copy.
        allow_list: Classes to observe, of those that the mapping has; all when left out.
        observer_non_leaf_module_list: None: what is observed is a layer; anything else is an error.
        prepare_custom_config_dict: ``{"float_to_observed_custom_module_class": {Float: Observed}}``: with a qconfig,
            ``Observed.from_float(module)`` takes the place of a ``Float``, and its result is observed.
        qconfig_dict: Qconfigs by path or class.
        mapping: Classes to observe and what ``convert`` swaps them for; the default mapping when left out.

    Raises:
        QConfigError: A qconfig of the wrong type, or an entry that does not fit the model.
        InputError: ``inplace`` is not a bool.
    """
    require_module(model, inplace)
    require_no_outer_observers(observer_non_leaf_module_list)
    custom = observed_classes(prepare_custom_config_dict)
    model = model if inplace else copied(model)
    propagate_qconfig_(model, qconfig_dict)
    if custom or allow_list is not None:
        mapping = default_static_mapping() if mapping is None else mapping
        allowed = {kind: mapping[kind] for kind in mapping if allow_list is None or kind in allow_list}
        mapping, model = {**allowed, **{kind: kind for kind in custom.values()}}, observe(model, custom)
    if not any(getattr(m, "qconfig", None) is not None for m in model.modules()):
        warnings.warn(
            "No module has a qconfig, so nothing will be quantized. Set model.qconfig before prepare.", stacklevel=3
        )
    _warn_of_subclasses(model, default_static_mapping() if mapping is None else mapping)
    add_observer_(model, mapping)
    return model


@explained
def add_observer_(module: nn.Module, mapping: ClassMapping | None = None) -> None:
    """Add observers, in place, to the leaf modules that have a static qconfig and results with qparams of their own.

    Fused containers and FloatFunctionals count as leaves. A module that has an observer keeps it.

    Args:
        module: The model.
        mapping: As for :func:`prepare`.
    """
    mapping = default_static_mapping() if mapping is None else mapping
    for path, leaf in _leaves(module, mapping):
        qconfig = checked_qconfig(path, getattr(leaf, "qconfig", None))
        if qconfig is None or qconfig.is_dynamic or not _is_observed_kind(mapping.get(kind_of(leaf))):
            continue
        present = getattr(leaf, OBSERVER, None)
        if isinstance(present, (Observer, FakeQuantizeBase)):
            continue
        observer = qconfig.activation()
        observer.label = path or type(leaf).__name__
        attach_observer(leaf, observer)
        if present is None:  # a FloatFunctional calls its observer itself
            leaf.register_forward_hook(observe_result)


@explained
def prepare_qat(model: nn.Module, mapping: ClassMapping | None = None, inplace: bool = False) -> nn.Module:
    """A copy of ``model`` for quantization-aware training: layers that round their weights, results fake-quantized.

    The layers' parameters are copied with the model; with ``inplace=True`` they are the model's own, so an optimizer
    made before still trains them.

    Args:
        model: A float model in training mode, with ``.qconfig`` set to one of fake-quantize modules.
        mapping: Classes and their versions for training; the default mapping when left out.
        inplace: Change ``model`` itself instead of a copy.

    Raises:
        ConversionError: The model is not in training mode.
        QConfigError: A qconfig of observers that do not fake-quantize.
    """
    require_module(model, inplace)
    if not model.training:
        raise ConversionError(
            "The model is in evaluation mode.",
            why="In training, batch norms update their statistics and are fused without being folded.",
            remedy="Call model.train() before fuse_modules and prepare_qat.",
        )
    model = model if inplace else copied(model)
    propagate_qconfig_(model)
    mapping = default_qat_mapping() if mapping is None else mapping
    model = _converted(model, mapping, "", {}, observed_only=False)
    trained = {kind: kind for kind in mapping.values()}
    return prepare(model, inplace=True, mapping={**trained, **default_static_mapping()})


@explained
def convert(
    module: nn.Module,
    mapping: ClassMapping | None = None,
    inplace: bool = False,
    remove_qconfig: bool = True,
    is_reference: bool = False,
    convert_custom_config_dict: Mapping[str, Any] | None = None,
) -> nn.Module:
    """A copy of the calibrated or trained ``module`` with int8 layers under the same paths.

    Layers without a qconfig stay as they are. Any qconfig converts on any engine: the kernels take weights per channel
    and per tensor, and activations of the full range, alike.

    Args:
        module: What ``prepare`` or ``prepare_qat`` returned, after calibration or training; on the CPU.
        mapping: Classes and their int8 versions; the default mapping (for a dynamic qconfig, that of
            ``quantize_dynamic``) when left out.
        inplace: Change ``module`` itself; use the result all the same, since a single layer can't be changed into
            another in place.
        remove_qconfig: Take the ``.qconfig`` attributes off.
        is_reference: False; there are no reference modules.
        convert_custom_config_dict: ``{"observed_to_quantized_custom_module_class": {Observed: Quantized}}``:
            ``Quantized.from_observed(module)`` takes the place of an ``Observed``.

    A layer whose observer saw no data gets scale 1 and zero point 0, with an UncalibratedWarning: for a model whose
    state is loaded next. One that has no quantized version computes in float between int8 values, with a
    StaysFloatWarning.

    Raises:
        ConversionError: A layer with a qconfig was never prepared, or can't be quantized as asked.
        InputError: The model is not on the CPU.
    """
    require_module(module, inplace)
    require_plain(is_reference, False)
    custom = quantized_classes(convert_custom_config_dict)
    require_cpu(module)
    module = module if inplace else copied(module)
    if custom:
        module = _converted(module, custom, "", {}, observed_only=True)
    _give_default_qparams(module, mapping)
    module = _converted(module, mapping, "", {}, observed_only=True)
    _warn_of_float_layers(module)
    guard(module)
    if remove_qconfig:
        for each in module.modules():
            each.__dict__.pop("qconfig", None)
    return module


@explained
def swap_module(mod: nn.Module, mapping: ClassMapping | None = None) -> nn.Module:
    """The counterpart of ``mod`` with its hooks, if it has a qconfig, is mapped, and is observed where that is needed.

    ``mod`` stays as it is, observer and hooks included.

    Args:
        mod: A module.
        mapping: As for :func:`convert`.

    Returns:
        The new module, or ``mod`` itself.
    """
    target = _target(mod, mapping)
    if target is None or not _is_observed_enough(mod, target):
        return mod
    keeps = getattr(target, "computes_weights", False)
    made: nn.Module = target.from_float(mod if keeps else baked(mod))
    if made is not mod:
        copy_hooks(mod, made)
    return made


@explained
def quantize(
    model: nn.Module,
    run_fn: Callable[..., Any],
    run_args: Iterable[Any] = (),
    mapping: ClassMapping | None = None,
    inplace: bool = False,
) -> nn.Module:
    """Post-training static quantization in one call: prepare, ``run_fn(model, *run_args)``, convert.

    Args:
        model: The float model, with ``.qconfig`` set.
        run_fn: Runs calibration data through the model; called without gradients, as :func:`default_eval_fn`.
        run_args: Its further arguments.
        mapping: As for :func:`convert`.
        inplace: Change ``model`` itself.

    Raises:
        QfxError: As of :func:`prepare` and :func:`convert`.
    """
    prepared = prepare(model, inplace, mapping=mapping).eval()
    with torch.no_grad():
        run_fn(prepared, *run_args)
    return convert(prepared, mapping, inplace=True)


@explained
def quantize_qat(
    model: nn.Module, run_fn: Callable[..., Any], run_args: Iterable[Any] = (), inplace: bool = False
) -> nn.Module:
    """Quantization-aware training in one call: prepare_qat, ``run_fn(model, *run_args)`` that trains, convert.

    Args:
        model: The float model, with ``.qconfig`` set.
        run_fn: Trains the model.
        run_args: Its further arguments.
        inplace: Change ``model`` itself.

    Raises:
        QfxError: As of :func:`prepare_qat` and :func:`convert`.
    """
    require_module(model, inplace)
    model = model if inplace else copied(model)
    prepared = prepare_qat(model.train(), inplace=True)
    run_fn(prepared, *run_args)
    return convert(prepared.eval(), inplace=True)


@explained
def quantize_dynamic(
    model: nn.Module,
    qconfig_spec: Collection[type[nn.Module] | str] | Mapping[Any, Any] | None = None,
    dtype: Any = QDType.qint8,
    mapping: ClassMapping | None = None,
    inplace: bool = False,
) -> nn.Module:
    """Layers with weights in fewer bits; what int8 ones multiply is quantized at each call, by rows.

    Args:
        model: The float model.
        qconfig_spec: A set of classes and module paths to quantize, or a dict from those to qconfigs; every layer of
            the mapping when left out. Embeddings are where a class or a path names them.
        dtype: ``qfx.qint8`` (with a scale a channel), ``torch.float16`` or, but for recurrent layers,
            ``torch.bfloat16``: the weights, where ``qconfig_spec`` gives no qconfig. Weights by groups are those of
            ``qfx.weight_only_qconfig`` in ``qconfig_spec``, of linear layers, attention and embeddings, and those with
            inputs by groups, too, of ``qfx.groups_dynamic_qconfig``.
        mapping: Classes and their dynamic versions; the default mapping when left out.
        inplace: Change ``model`` itself instead of a copy.

    Raises:
        QConfigError: Another dtype, or a spec that does not fit the model.
        InputError: The model is not on the CPU.
    """
    require_module(model, inplace)
    require_cpu(model)
    mapping = _named_or_swapped_by_default(model, qconfig_spec) if mapping is None else mapping
    default = dynamic_qconfig(dtype)
    if qconfig_spec is None:
        qconfig_spec = dict.fromkeys(mapping, default)
    elif not isinstance(qconfig_spec, Mapping):
        qconfig_spec = dict.fromkeys(qconfig_spec, default)
    model = model if inplace else copied(model)
    propagate_qconfig_(model, qconfig_spec)
    return convert(model, mapping, inplace=True)


def _named_or_swapped_by_default(model: nn.Module, spec: Any) -> dict[type[nn.Module], Any]:
    """The default mapping without classes that ``spec`` does not name, if those are swapped by name only."""
    sections = [spec.get(key, ()) for key in ("object_type", "module_name")] if isinstance(spec, Mapping) else []
    keys = {key for keys in (spec or (), *map(dict, sections)) for key in keys}
    paths = {path: kind_of(module) for path, module in model.named_modules(remove_duplicate=False) if path}
    named = keys | {paths[key] for key in keys if key in paths}
    return {c: made for c, made in default_dynamic_mapping().items() if swapped_by_default(c) or c in named}


@explained
def add_quant_dequant(module: nn.Module) -> nn.Module:
    """``module`` with every leaf that has a qconfig in a QuantWrapper; ``module`` itself is wrapped if it is one."""
    if isinstance(module, (QuantStub, DeQuantStub, QuantWrapper)) or hasattr(module, OBSERVER):
        return module
    if not module._modules or parametrize.is_parametrized(module) or type(module) in _fused_kinds():
        return QuantWrapper(module) if getattr(module, "qconfig", None) is not None else module
    for name, child in list(module.named_children()):
        module._modules[name] = add_quant_dequant(child)
    return module


@explained
def get_observer_dict(mod: nn.Module, target_dict: dict[str, nn.Module], prefix: str = "") -> None:
    """Put every observer of ``mod`` and below into ``target_dict``, by dotted path with ``prefix`` before it."""
    start = f"{prefix}." if prefix else ""
    for path, module in mod.named_modules():
        observer = module._modules.get(OBSERVER)
        if isinstance(observer, (Observer, FakeQuantizeBase)) and not isinstance(module, FakeQuantizeBase):
            target_dict[f"{start}{path}.{OBSERVER}" if path else f"{start}{OBSERVER}"] = observer


@explained
def default_eval_fn(model: nn.Module, calib_data: Iterable[Any]) -> None:
    """Run ``model`` over batches ``(data, target)`` in evaluation and without gradients; for ``quantize``.

    Args:
        model: The prepared model.
        calib_data: An iterable of pairs of which the first goes into the model, or of tensors.
    """
    model.eval()
    with torch.no_grad():
        for batch in calib_data:
            model(batch if isinstance(batch, torch.Tensor) else batch[0])


# ---------------------------------------------------------------- walking


def _leaves(module: nn.Module, mapping: ClassMapping, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """What is observed as a whole: modules of the mapping's classes, and modules without children."""
    if kind_of(module) in mapping or not module._modules:
        yield path, module
        return
    for name, child in module.named_children():
        yield from _leaves(child, mapping, f"{path}.{name}" if path else name)


def _converted(
    module: nn.Module, mapping: ClassMapping | None, path: str, done: dict[int, nn.Module], *, observed_only: bool
) -> nn.Module:
    if id(module) in done:
        return done[id(module)]
    target = _target(module, mapping)
    done[id(module)] = made = module
    if target is not None:
        if observed_only and not _is_observed_enough(module, target):
            raise ConversionError(
                f"{type(module).__name__} has a qconfig but no observer.",
                where=path or None,
                remedy="Call prepare(model) and run calibration data before convert, or set its qconfig to None.",
            )
        done[id(module)] = made = swap_module(module, {kind_of(module): target})
        if made is not module:  # which may go on as a part of the new one
            detach_observer(module)
            take_pre_hooks(module)
            take_hooks(module)
    elif not isinstance(module, (Observer, FakeQuantizeBase)):
        for name, child in list(module._modules.items()):
            if child is not None:
                below = f"{path}.{name}" if path else name
                module._modules[name] = _converted(child, mapping, below, done, observed_only=observed_only)
        leave_fast_path(module)
    return made


def _give_default_qparams(model: nn.Module, mapping: ClassMapping | None) -> None:
    """Fix what observers that saw no data answer at scale 1 and zero point 0, and warn of them, once."""
    unseen = []
    for path, module in model.named_modules():
        observer: Any = module._modules.get(OBSERVER)
        target = _target(module, mapping)
        is_observer = isinstance(observer, (Observer, FakeQuantizeBase))
        if not is_observer or not _is_observed_kind(target) or not isinstance(observer.dtype, QDType):
            continue
        if not saw_data(observer):
            unseen.append(path or type(module).__name__)
            detach_observer(module)
            attach_observer(module, default_observer(observer))
    warn_of_default(unseen, stacklevel=4)


def _warn_of_float_layers(model: nn.Module) -> None:
    found = [(path, type(m.layer).__name__) for path, m in model.named_modules() if getattr(m, "stays_float", False)]
    if found:
        shown = ", ".join(f"{path or 'the model'} ({name})" for path, name in found[:8])
        more = f" and {len(found) - 8} more" if len(found) > 8 else ""
        warnings.warn(
            StaysFloatWarning(
                f"There is no quantized version of {shown}{more}: computed in float between int8 values. "
                "qfx.quantize_fx quantizes transposed convolutions and PReLU; a dynamic qconfig recurrent layers."
            ),
            stacklevel=4,
        )


def _warn_of_subclasses(model: nn.Module, mapping: ClassMapping) -> None:
    for path, leaf in _leaves(model, mapping):
        cls = kind_of(leaf)
        base = next((base for base in cls.__mro__ if base in mapping), None)
        if base not in (None, cls) and not cls.__module__.startswith("torch.") and getattr(leaf, "qconfig", None):
            warnings.warn(
                f"{path or 'The model'} stays float: classes are swapped as they are, and {cls.__name__} is a subclass "
                f"of {base.__name__}. Add it to the mapping, or set its qconfig to None.",
                stacklevel=4,
            )


def _target(module: nn.Module, mapping: ClassMapping | None) -> Any:
    qconfig = getattr(module, "qconfig", None)
    if qconfig is None:
        return None
    if mapping is None:
        mapping = default_dynamic_mapping() if qconfig.is_dynamic else default_static_mapping()
    return mapping.get(kind_of(module))


def _is_observed_kind(target: Any) -> bool:
    """Whether a class of the mapping takes the qparams of its result from an observer; unless it says no, it does."""
    return target is not None and bool(getattr(target, "observed", True))


def _is_observed_enough(module: nn.Module, target: Any) -> bool:
    qconfig: Any = getattr(module, "qconfig", None)
    needs = bool(getattr(target, "observed", False)) and not qconfig.is_dynamic
    return not needs or isinstance(getattr(module, OBSERVER, None), (Observer, FakeQuantizeBase))


def _fused_kinds() -> frozenset[type[nn.Module]]:
    return frozenset(kind for kind in default_static_mapping() if issubclass(kind, known_layers().fused))
