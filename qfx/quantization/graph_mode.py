"""Graph mode under its older names: a whole model in one call, qconfigs by module name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import nn

from qfx.arguments import explained
from qfx.errors import QConfigError
from qfx.provided import Part, provided
from qfx.quantization.qconfig import per_channel_dynamic_qconfig
from qfx.quantization.qconfig_dict import QConfigRules, parse_qconfig_dict

RunFunction = Callable[..., Any]


@explained
def quantize_jit(
    model: nn.Module,
    qconfig_dict: Mapping[Any, Any],
    run_fn: RunFunction,
    run_args: Any = (),
    inplace: bool = False,
    debug: bool = False,
) -> nn.Module:
    """``model`` captured as a graph, calibrated by ``run_fn`` and converted to int8: static quantization in one call.

    Args:
        model: A float ``nn.Module``; or a ScriptModule, scripted, traced, frozen or loaded from a file.
        qconfig_dict: Qconfigs by module name or class, ``""`` for all; or a qconfig_dict of :func:`qfx.quantize_fx`.
        run_fn: Called as ``run_fn(prepared, *run_args)``, without gradients; it runs the calibration data through
            ``prepared``.
        run_args: A tuple or list of arguments, or one argument that is neither.
        inplace: Change ``model`` instead of a copy. A captured graph is a module of its own either way, so ``model``
            stays as it is, and what counts is the result.
        debug: Return the graph of float operations between quantize and dequantize that the int8 program equals.

    Returns:
        A QuantizedModel; with ``debug`` a GraphModule.

    Raises:
        QfxError: As :func:`qfx.quantize_fx`.
    """
    prepared = provided(Part.prepare)(model, _sections(qconfig_dict))
    with torch.no_grad():
        run_fn(prepared, *(run_args if isinstance(run_args, (tuple, list)) else (run_args,)))
    if debug:
        graph: nn.Module = provided(Part.to_qdq)(prepared.graph_module())
        return graph
    quantized: nn.Module = provided(Part.convert)(prepared)
    return quantized


@explained
def quantize_dynamic_jit(
    model: nn.Module, qconfig_dict: Mapping[Any, Any] | None = None, inplace: bool = False, debug: bool = False
) -> nn.Module:
    """``model`` captured as a graph, its linear and recurrent layers with int8 weights, inputs quantized at each call.

    With float16 weights recurrent layers store them so; those of linear layers are rounded to float16 and kept float32.

    Args:
        model: A float ``nn.Module``; or a ScriptModule, scripted, traced, frozen or loaded from a file.
        qconfig_dict: Dynamic qconfigs by module name or class, ``""`` for all; ``per_channel_dynamic_qconfig`` for all
            when left out, as in :func:`quantize_dynamic`.
        inplace: As in :func:`quantize_jit`.
        debug: As in :func:`quantize_jit`.

    Raises:
        QConfigError: A qconfig that is not dynamic.
        QfxError: As :func:`qfx.quantize_fx`.
    """
    sections = _sections({"": per_channel_dynamic_qconfig} if qconfig_dict is None else qconfig_dict)
    rules = parse_qconfig_dict(sections)
    entries = [("", rules.default), *rules.module_name, *rules.module_name_regex, *rules.object_type]
    for key, qconfig in [*entries, *rules.module_name_object_type_order]:
        if qconfig is not None and not qconfig.is_dynamic:
            raise QConfigError(
                f"The qconfig for {key!r} is not dynamic.",
                why="quantize_dynamic_jit collects no ranges of activations.",
                remedy="Give default_dynamic_qconfig or per_channel_dynamic_qconfig, or call quantize_jit.",
            )
    return quantize_jit(model, sections, lambda prepared: None, (), inplace, debug)


_SECTIONS = {"", *(field.name for field in fields(QConfigRules))} - {"default"}


def _sections(qconfig_dict: Mapping[Any, Any]) -> Mapping[str, Any]:
    """Entries by name or class sorted into the sections of a qconfig_dict, after those that stand there already."""
    if not isinstance(qconfig_dict, Mapping) or qconfig_dict.keys() <= _SECTIONS:
        return qconfig_dict
    sections = {key: value for key, value in qconfig_dict.items() if key in _SECTIONS}
    for key, value in qconfig_dict.items():
        if key not in _SECTIONS:
            section = "module_name" if isinstance(key, str) else "object_type"
            before = sections.get(section, ())
            sections[section] = [*(before.items() if isinstance(before, Mapping) else before), (key, value)]
    return sections
