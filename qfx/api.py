"""The public calls of graph mode: prepare, calibrate, convert."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn

from qfx import pipeline
from qfx.arguments import explained
from qfx.batches import without_label
from qfx.calibration import Calibration, calibrate, first_batch
from qfx.comparison.agreement import require_agreement
from qfx.errors import CaptureError, ConversionError, QConfigError
from qfx.frontends.examples import EXAMPLE_INPUTS
from qfx.frontends.fresh import ISLAND_STATE, put_back
from qfx.frontends.select import as_module
from qfx.models import PreparedModel, QuantizedModel
from qfx.observed import Request, capture_normal, named_attributes, to_calibrate, to_train
from qfx.passes.custom_modules import Quantized
from qfx.passes.preparation import Recovery
from qfx.passes.resolve import (
    parse_qconfig_dict,
)
from qfx.passes.uncalibrated import UNSEEN
from qfx.quantization.accepted import require_cpu
from qfx.quantization.custom_config import ConvertCustomConfig, FuseCustomConfig, PrepareCustomConfig, as_config
from qfx.quantization.foreign import require_no_backend_config, require_no_equalization, require_plain
from qfx.quantization.uncalibrated import warn_of_default
from qfx.runtime.cpu import require_isa
from qfx.training.model import TrainableModel


@explained
def quantize_fx(
    model: nn.Module,
    qconfig_dict: Mapping[str, Any] | None = None,
    calibration: Calibration | None = None,
    *,
    train: Callable[[TrainableModel], Any] | None = None,
    example_inputs: Any = None,
    bias_correction: bool = True,
    adaptive_rounding: bool = True,
    rotation: bool = True,
    smoothing: bool = True,
    smooth_keys: bool = False,
    strict: bool = False,
    frontend: str = "auto",
    isa: str | None = None,
    prepare_custom_config: PrepareCustomConfig | Mapping[str, Any] | None = None,
    convert_custom_config: ConvertCustomConfig | Mapping[str, Any] | None = None,
    qconfig_mapping: Mapping[str, Any] | None = None,
) -> QuantizedModel:
    """Quantize ``model`` to int8 in one call: prepare, calibrate, convert.

    Args:
        model: A float model, a ``torch.export.ExportedProgram`` or a ``torch.jit.ScriptModule``; it is not changed.
        qconfig_dict: Which parts to quantize and how; ``{"": qfx.get_default_qconfig()}`` for all of it. Or a
            :class:`qfx.QConfigMapping`.
        qconfig_mapping: The same, under the name that torch has for it; one of the two is given.
        calibration: Batches like the model's real inputs, or a function that takes the prepared model. Not needed
            when every qconfig is dynamic.
        train: Trains the model it is given, which comes from :func:`prepare_qat_fx`: the usual loop, with the
            optimizer made from its parameters. ``calibration``, if given too, finds the first ranges. Then the
            qconfig_dict must be one for training, as ``{"": qfx.get_default_qat_qconfig()}``.
        example_inputs: Inputs to learn shapes from; the first calibration batch when left out.
        bias_correction: Take the shift that rounded weights leave out of the biases.
        adaptive_rounding: Round the weights of each layer so that its output on the calibration data changes least,
            instead of each weight to its nearest integer. Layers of more than 1536 weights a channel are not.
        rotation: In transformers, rotate what linear layers read behind a normalization, an attention or the
            activation of an MLP, and their weights with it: outlier channels then cost nothing.
        smoothing: Where calibration data are given, scale channels in front of a rotation as they say, in the
            normalization or the layer before it and in the weights behind it; dynamic layers gain by it, too.
        smooth_keys: In attention, take the mean of each channel out of the keys, which changes no probability: it helps
            where channels of keys have large means, and costs a pass over the keys.
        strict: Raise instead of keeping a part float that can't be traced.
        frontend: How to capture the model: ``"symbolic"`` tracing, ``"export"`` by torch.export, which needs example
            inputs, ``"torchscript"``, or ``"auto"``: what the model is made for, and export where tracing fails or
            leaves layers float. The report says which it was and why. An export that ``"auto"`` chose takes images of
            the examples' size only, in any number; ``"export"`` leaves the size free where the model does.
        isa: Load for this instruction set instead of the best one here.
        prepare_custom_config: As for :func:`prepare_fx`.
        convert_custom_config: As for :func:`convert_fx`.

    Raises:
        QfxError: What is wrong, where, and what to do.
    """
    require_isa(isa)
    qconfig_dict = _given(qconfig_dict, qconfig_mapping)
    model = as_module(model)
    if isinstance(model, nn.Module):
        require_cpu(model)
    if calibration is not None:
        head, calibration = first_batch(calibration)
        example_inputs = without_label(model, head) if example_inputs is None else example_inputs
    if train is not None:
        trainable = prepare_qat_fx(
            model, qconfig_dict, example_inputs, prepare_custom_config, strict=strict, frontend=frontend
        )
        return _converted(_trained(trainable, calibration, train), convert_custom_config, isa)
    prepared = prepare_fx(
        model,
        qconfig_dict,
        example_inputs,
        prepare_custom_config,
        bias_correction=bias_correction,
        adaptive_rounding=adaptive_rounding,
        rotation=rotation,
        smoothing=smoothing,
        smooth_keys=smooth_keys,
        strict=strict,
        frontend=frontend,
    )
    if calibration is not None:
        calibrate(prepared, calibration)
    return _converted(prepared, convert_custom_config, isa)


def _given(qconfig_dict: Mapping[str, Any] | None, qconfig_mapping: Mapping[str, Any] | None) -> Any:
    """The one of the two that is there, if one is."""
    if qconfig_dict is not None and qconfig_mapping is not None:
        raise QConfigError(
            "Both qconfig_dict and qconfig_mapping are given.",
            why="They are two names of one argument: which parts of the model to quantize, and how.",
            remedy="Pass one of them.",
        )
    return qconfig_mapping if qconfig_dict is None else qconfig_dict


def _trained(
    prepared: TrainableModel, calibration: Calibration | None, train: Callable[[TrainableModel], Any]
) -> TrainableModel:
    if calibration is not None:
        prepared.eval()
        calibrate(prepared, calibration)
        prepared.train()
    train(prepared)
    return prepared.eval()


@explained
def prepare_fx(
    model: nn.Module,
    qconfig_dict: Mapping[str, Any] | None = None,
    example_inputs: Any = None,
    prepare_custom_config: PrepareCustomConfig | Mapping[str, Any] | None = None,
    _equalization_config: Any = None,
    backend_config: Any = None,
    *,
    bias_correction: bool = True,
    adaptive_rounding: bool = True,
    rotation: bool = True,
    smoothing: bool = True,
    smooth_keys: bool = False,
    strict: bool = False,
    frontend: str = "auto",
    qconfig_mapping: Mapping[str, Any] | None = None,
) -> PreparedModel:
    """A copy of ``model`` with observers where ``qconfig_dict`` asks for int8.

    Arguments and errors as in :func:`quantize_fx`. The model is captured as it behaves in eval mode.

    Args:
        model: As there.
        qconfig_dict, qconfig_mapping: As there.
        example_inputs: As there.
        prepare_custom_config: A :class:`qfx.quantization.PrepareCustomConfig`, or a dict of the same: islands, custom
            modules, attributes to preserve, inputs and outputs that are quantized. The qconfig_dict may say the same
            but for the custom modules.
        _equalization_config: None: qfx equalizes no ranges; anything else is an error.
        backend_config: None: the op table says what runs in int8; anything else is an error.
        bias_correction, adaptive_rounding, rotation, smoothing, smooth_keys: As there.
        strict, frontend: As there.
    """
    require_no_equalization(_equalization_config)
    require_no_backend_config(backend_config)
    request = Request(
        _given(qconfig_dict, qconfig_mapping),
        example_inputs,
        as_config(PrepareCustomConfig, prepare_custom_config),
        strict,
        frontend,
        Recovery(bias_correction, adaptive_rounding, rotation, smoothing, smooth_keys),
    )
    return to_calibrate(as_module(model), request)


@explained
def prepare_qat_fx(
    model: nn.Module,
    qconfig_dict: Mapping[str, Any] | None = None,
    example_inputs: Any = None,
    prepare_custom_config: PrepareCustomConfig | Mapping[str, Any] | None = None,
    backend_config: Any = None,
    *,
    strict: bool = False,
    frontend: str = "auto",
    qconfig_mapping: Mapping[str, Any] | None = None,
) -> TrainableModel:
    """``model`` with fake-quantize modules where ``qconfig_dict`` asks for int8, to be trained and then converted.

    What will be one int8 layer trains as one: convolutions and linear layers with the batch norm, residual and clamp
    that conversion fuses into them. Batch norms and dropouts do in training mode what they do in the float model.
    Other code that depends on ``self.training`` is captured as it behaves in evaluation, as in :func:`prepare_fx`.

    Args:
        model: A float model; it is not changed, and shares no tensors with the result. Make the optimizer from the
            result's parameters.
        qconfig_dict: ``{"": qfx.get_default_qat_qconfig()}`` for all of it.
        qconfig_mapping: As for :func:`quantize_fx`.
        example_inputs: Inputs to learn shapes from.
        prepare_custom_config: As for :func:`prepare_fx`.
        backend_config: As for :func:`prepare_fx`.
        strict: Raise instead of keeping a part float that can't be traced.

    Returns:
        The model in training mode.

    Raises:
        QfxError: What is wrong, where, and what to do; a QConfigError where a qconfig does not round.
    """
    require_no_backend_config(backend_config)
    if not isinstance(as_module(model), nn.Module) or as_module(model) is not model or _is_script(model):
        raise CaptureError(
            f"{type(model).__name__} can't be trained.",
            why="Its batch norms and dropouts are operations of a graph, not modules with a training mode.",
            remedy='Pass the nn.Module that it was made from, with frontend="symbolic".',
        )
    config = as_config(PrepareCustomConfig, prepare_custom_config)
    request = Request(_given(qconfig_dict, qconfig_mapping), example_inputs, config, strict, frontend)
    return to_train(model, request)


def _is_script(model: object) -> bool:
    return isinstance(model, torch.jit.ScriptModule)


@explained
def convert_fx(
    prepared: PreparedModel,
    convert_custom_config: ConvertCustomConfig | Mapping[str, Any] | None = None,
    _remove_qconfig: bool = True,
    qconfig_mapping: Mapping[str, Any] | None = None,
    backend_config: Any = None,
    keep_original_weights: bool = False,
    *,
    is_reference: bool = False,
    isa: str | None = None,
    check: Any = None,
) -> QuantizedModel:
    """The int8 model of a calibrated or trained ``prepared`` model, which is not changed.

    Args:
        prepared: What ``prepare_fx`` or ``prepare_qat_fx`` returned; the latter in evaluation mode.
        convert_custom_config: A :class:`qfx.quantization.ConvertCustomConfig`, or a dict of the same: what takes the
            place of observed custom modules, attributes to preserve. What the preparation preserves stays.
        _remove_qconfig: Makes no difference: a program has no modules with qconfigs.
        qconfig_mapping: The qconfig_dict that the model was prepared with, or None; another one is an error.
        backend_config: As for :func:`prepare_fx`.
        keep_original_weights: False; the int8 model has no float weights.
        is_reference: False; the reference form is the QDQ graph that every int8 model has, ``result.graph_module()``.
        isa: As in :func:`quantize_fx`.
        check: A batch of inputs to compare both models with: every integer value of the int8 model must be within one
            quantum of what the fake-quantized model makes of the same operands.

    A model that never saw data gets scale 1 and zero point 0 everywhere, with an UncalibratedWarning: for a state that
    is loaded next, by ``load_state_dict``.

    Raises:
        CalibrationError: A part of the model never saw data, and others did.
        ConversionError: ``prepared`` is not a prepared model, or a layer can't be quantized as asked.
        InputError: The model is not on the CPU.
        QConfigError: ``qconfig_mapping`` or an option that has no meaning here says something else.
    """
    if not isinstance(prepared, PreparedModel):
        raise ConversionError(
            f"convert_fx takes what prepare_fx returned, not {type(prepared).__name__}.",
            remedy="prepared = qfx.prepare_fx(model, qconfig_dict); calibrate it; qfx.convert_fx(prepared).",
        )
    require_plain(is_reference, keep_original_weights)
    require_no_backend_config(backend_config)
    _require_same(prepared, qconfig_mapping)
    require_isa(isa)
    return _converted(prepared, convert_custom_config, isa, check, without_data=True)


def _converted(
    prepared: PreparedModel, custom_config: Any, isa: str | None, check: Any = None, *, without_data: bool = False
) -> QuantizedModel:
    """What :func:`convert_fx` returns; where nothing saw data a CalibrationError unless ``without_data``."""
    config = as_config(ConvertCustomConfig, custom_config)
    require_cpu(prepared)
    if isinstance(prepared, TrainableModel) and prepared.training:
        raise ConversionError(
            "The model is in training mode.",
            why="Batch norms would be frozen with the statistics of a mode in which they still change.",
            remedy="Call model.eval() first.",
        )
    preserved = {**prepared.preserved, **named_attributes(prepared, config.preserved_attributes)}
    gm = prepared.graph_module()
    if without_data:
        gm = pipeline.run(pipeline.GIVE_DEFAULTS, gm)
        warn_of_default(gm.meta.pop(UNSEEN, ()), stacklevel=4)
    gm = pipeline.run(pipeline.CONVERT, gm, Quantized(config.observed_to_quantized_mapping))
    state = gm.meta.pop(ISLAND_STATE, {})
    gm.meta["preserved"] = tuple(preserved)
    quantized = QuantizedModel(gm, preserved, isa)
    if EXAMPLE_INPUTS in gm.meta:
        quantized.compiled  # noqa: B018  (errors belong to conversion, not to the first call)
    if check is not None:
        require_agreement(prepared, quantized, check)
        put_back(quantized, state)
    return quantized


@explained
def fuse_fx(
    model: nn.Module,
    example_inputs: Any = None,
    fuse_custom_config: FuseCustomConfig | Mapping[str, Any] | None = None,
    backend_config: Any = None,
    *,
    frontend: str = "auto",
) -> fx.GraphModule:
    """``model`` captured, normalized and fused, still float: what prepare_fx puts observers into.

    It is captured as it behaves in eval mode, whatever ``model.training`` says: batch norms fold with their running
    statistics. :func:`qfx.quantization.fuse_modules` keeps those of a model in training.

    Args:
        model: A float model.
        example_inputs: Inputs to learn shapes from.
        fuse_custom_config: Attributes of the model that the result is to have too.
        backend_config: As for :func:`prepare_fx`.
        frontend: As for :func:`quantize_fx`.
    """
    require_no_backend_config(backend_config)
    if isinstance(example_inputs, FuseCustomConfig):
        example_inputs, fuse_custom_config = None, example_inputs  # where torch has it
    config = as_config(FuseCustomConfig, fuse_custom_config)
    fused = pipeline.run(pipeline.FUSE, capture_normal(model, example_inputs, frontend=frontend))
    for name, value in named_attributes(model, config.preserved_attributes).items():
        setattr(fused, name, value)
    return fused


def _require_same(prepared: PreparedModel, qconfig_mapping: Mapping[str, Any] | None) -> None:
    """Raise unless the model was prepared with ``qconfig_mapping``."""
    if qconfig_mapping is None:
        return
    if prepared.info.get("qconfigs") != parse_qconfig_dict(qconfig_mapping).described():
        raise QConfigError(
            "convert_fx was given another qconfig_mapping than prepare_fx.",
            why="Which values are observed, and what is fused, was decided when the model was prepared.",
            remedy="Leave it out, or give it to prepare_fx and calibrate again: with None for what is to stay float.",
        )
