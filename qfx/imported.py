"""The public calls that take over what another tool quantized."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from qfx import pipeline
from qfx.arguments import explained
from qfx.errors import CaptureError, InputError
from qfx.frontends.examples import EXAMPLE_INPUTS, Example
from qfx.frontends.fresh import ISLAND_STATE
from qfx.frontends.select import as_module
from qfx.imports.torch_ao import leaves
from qfx.models import QuantizedModel
from qfx.observed import Request, capture_quantized
from qfx.pipeline import Stage
from qfx.quantization.accepted import require_cpu
from qfx.runtime.cpu import require_isa


@explained
def from_pt2e(model: Any, example_inputs: Any = None, *, isa: str | None = None) -> QuantizedModel:
    """The int8 model of one that PyTorch 2 Export quantization made, with that one's scales and integers.

    Args:
        model: What ``convert_pt2e`` returned, or a ``torch.export.ExportedProgram`` of it, also one that
            ``torch.export.load`` read; from any quantizer, such as those of XNNPACK and Inductor. It is not changed.
        example_inputs: A tuple of inputs; an ExportedProgram has its own.
        isa: As for :func:`qfx.quantize_fx`.

    Returns:
        Each op is within one quantum of the given model's, of the same operands. What it leaves in
        float stays float; what no op of qfx computes runs in torch as it is. ``report`` tells of each.

    Raises:
        QfxError: What is wrong, where, and what to do.
    """
    require_isa(isa)
    module = as_module(model)
    if example_inputs is None and module is model:
        raise CaptureError(
            "example_inputs are missing.",
            why="A GraphModule is exported, which runs it.",
            remedy="Pass the inputs that the model was exported with, as a tuple, or pass its ExportedProgram.",
        )
    frontend = "export" if module is model else "auto"
    captured, example = capture_quantized(module, Request({}, example_inputs, frontend=frontend))
    return _taken_over(captured, example, pipeline.TAKE_OVER_DECOMPOSED, isa)


@explained
def from_torch_ao(model: nn.Module, example_inputs: Any, *, isa: str | None = None) -> QuantizedModel:
    """The int8 model of one that PyTorch's own eager or FX quantization made, with that one's scales and integers.

    Args:
        model: What its ``convert``, ``quantize_dynamic``, ``convert_fx`` or ``convert_to_reference_fx`` returned. It is
            not changed. It is run once on ``example_inputs``, by the engine that it was made for.
        example_inputs: A tuple of inputs.
        isa: As for :func:`qfx.quantize_fx`.

    Returns:
        Each op is within one quantum of the given model's, of the same operands. Results that are quantized tensors
        there are float32. Dynamic layers round their inputs to 256 values where the given model may use 128; recurrent
        ones round row by row.

    Raises:
        ConversionError: A module or function of quantized values that qfx does not know.
        QfxError: What else is wrong, where, and what to do.
    """
    require_isa(isa)
    if not isinstance(model, nn.Module):
        raise InputError(f"The model is {type(model).__name__}, not an nn.Module.", remedy="Pass a quantized module.")
    if example_inputs is None:
        raise InputError(
            "example_inputs are missing.",
            why="The scales of values are those that they have in a call of the model.",
            remedy="Pass a tuple of inputs.",
        )
    require_cpu(model)
    request = Request({}, example_inputs, frontend="symbolic")
    captured, example = capture_quantized(model, request, leaves(model))
    return _taken_over(captured, example, pipeline.TAKE_OVER_TORCH_AO, isa)


def _taken_over(captured: fx.GraphModule, example: Example, stage: Stage, isa: str | None) -> QuantizedModel:
    with torch.no_grad():
        gm = pipeline.run(stage, captured, example)
    gm.meta.pop(ISLAND_STATE, None)
    gm.meta["preserved"] = ()
    quantized = QuantizedModel(gm, {}, isa)
    if EXAMPLE_INPUTS in gm.meta:
        quantized.compiled  # noqa: B018  (errors belong to this call, not to the first one of the model)
    return quantized
