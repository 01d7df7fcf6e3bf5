"""Modules of the user's own quantization: an observed one takes a float one's place, a quantized one takes that one's.

To the graph they are float islands. Hooks observe what one takes and gives while it is calibrated, and quantize and
dequantize that afterwards, so that a quantized one sees QTensors, as it does between quantized modules.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from qfx.errors import CalibrationError, ConversionError
from qfx.ir import facts
from qfx.ir.nodes import Decision, decide, path
from qfx.passes.islands import leave_inside
from qfx.passes.preparation import Preparation
from qfx.quantization.custom_config import ClassMap, QuantType
from qfx.quantization.hooks import OBSERVER, attach_observer, detach_observer, observe_result
from qfx.quantization.mappings import known_layers
from qfx.quantization.observer import NoopObserver
from qfx.quantization.qconfig import QConfig
from qfx.tensor import QTensor

CUSTOM = "custom_module"
"""Node metadata: the name of the QuantType by which an observed custom module is to be quantized."""

INPUTS = "activation_pre_process"
"""The name of the child that observes, and then quantizes, what a custom module takes."""


@dataclass(frozen=True)
class Quantized:
    """What :func:`convert_custom_modules` is told: the quantized class of each observed one."""

    classes: ClassMap


def observe_custom_modules(gm: fx.GraphModule, preparation: Preparation) -> fx.GraphModule:
    """Swap custom modules that have a qconfig for observed ones.

    Raises:
        ConversionError: A class without ``from_float``.
    """
    classes, made_here = preparation.custom_modules, set[int]()
    for node in gm.graph.find_nodes(op="call_module"):
        qconfig, module = node.meta.get("qconfig"), gm.get_submodule(path(node))
        if not isinstance(qconfig, QConfig) or "observer" in node.meta:
            continue
        kind = _kind_of(qconfig)
        if id(module) not in made_here:  # else another call of it
            observed = classes.get(kind, {}).get(type(module))
            if observed is None:
                continue
            module = _observed(observed, module, qconfig, kind, node)
            made_here.add(id(module))
            _put(gm, path(node), module.train(gm.training))
        leave_inside(node)
        node.meta[CUSTOM] = kind.name
        decide(node, Decision("float", f"custom module: {type(module).__name__} observes it"))
    return gm


def convert_custom_modules(gm: fx.GraphModule, told: Quantized) -> fx.GraphModule:
    """Swap observed custom modules for quantized ones; the observed ones stay as they are.

    Raises:
        ConversionError: An observed class that no quantized one is told for, or a class without ``from_observed``.
        CalibrationError: A module never saw data.
    """
    made_here: set[int] = set()
    for node in gm.graph.find_nodes(op="call_module"):
        if CUSTOM not in node.meta:
            continue
        module = gm.get_submodule(path(node))
        if id(module) not in made_here:
            module = _quantized(module, QuantType[node.meta[CUSTOM]], told.classes, node)
            made_here.add(id(module))
            _put(gm, path(node), module)
        decide(node, Decision("float", f"custom module: {type(module).__name__}, which quantizes by itself"))
    return gm


def observe_inputs(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The forward pre-hook of an observed or quantized module: its inputs after their observers or quantizers."""
    children: Any = module._modules[INPUTS]
    seen = (child(value) if _is_float(value) else value for child, value in zip(children, inputs, strict=False))
    return (*seen, *inputs[len(children) :])


def dequantize_result(module: nn.Module, inputs: Any, result: Any) -> Any:
    """The forward hook of a quantized module: QTensors of its result as floats."""
    return pytree.tree_map_only(QTensor, lambda value: value.dequantize(), result)


def _kind_of(qconfig: QConfig) -> QuantType:
    if qconfig.is_dynamic:
        return QuantType.DYNAMIC
    return QuantType.WEIGHT_ONLY if isinstance(qconfig.activation(), (NoopObserver, nn.Identity)) else QuantType.STATIC


def _is_float(value: object) -> bool:
    return isinstance(value, Tensor) and not isinstance(value, QTensor) and value.is_floating_point()


def _observed(target: Any, module: nn.Module, qconfig: QConfig, kind: QuantType, node: fx.Node) -> nn.Module:
    module.__dict__["qconfig"] = qconfig
    made = _made(target, "from_float", module, node)
    made.__dict__["qconfig"] = qconfig
    if kind is QuantType.STATIC:
        _observe(made, qconfig, node)
    return made


def _observe(module: nn.Module, qconfig: QConfig, node: fx.Node) -> None:
    """Observers of what ``module`` takes by position, and of its result."""
    label = facts.where(node)
    observers = [qconfig.activation() for _ in node.args]
    result: Any = qconfig.activation()
    for observer in (*observers, result):
        observer.label, observer.source = label, facts.source(node)
    attach_observer(module, result)
    module.add_module(INPUTS, nn.ModuleList(observers))
    module.register_forward_pre_hook(observe_inputs)
    module.register_forward_hook(observe_result)


def _quantized(observed: nn.Module, kind: QuantType, classes: ClassMap, node: fx.Node) -> nn.Module:
    target = classes.get(kind, {}).get(type(observed))
    if target is None:
        raise ConversionError(
            f"{type(observed).__name__} is observed, and nothing says what is to take its place.",
            where=facts.where(node),
            source=facts.source(node),
            remedy="Pass convert_custom_config=ConvertCustomConfig().set_observed_to_quantized_mapping("
            f"{type(observed).__name__}, QuantizedClass) to convert_fx.",
        )
    given = deepcopy(observed)
    inputs: Any = given._modules.pop(INPUTS, ())
    given._forward_pre_hooks = type(given._forward_pre_hooks)(
        (key, hook) for key, hook in given._forward_pre_hooks.items() if hook is not observe_inputs
    )
    made = _made(target, "from_observed", given, node)
    if kind is QuantType.STATIC:
        result: Any = given._modules[OBSERVER]
        result.qparams()  # it saw data, or says that it did not
        made.add_module(INPUTS, nn.ModuleList(map(_quantizer, inputs)))
        made.register_forward_pre_hook(observe_inputs)
        made.register_forward_hook(dequantize_result)
    detach_observer(given)
    made.__dict__.pop("qconfig", None)
    return made.eval()


def _quantizer(observer: Any) -> nn.Module:
    """What quantizes an input; inputs that never were floats are left alone."""
    try:
        qparams = observer.qparams()
    except CalibrationError:
        return nn.Identity()
    return known_layers().quantize(*qparams.per_tensor(), qparams.dtype)


def _made(target: Any, method: str, given: nn.Module, node: fx.Node) -> nn.Module:
    build = getattr(target, method, None)
    made = build(given) if callable(build) else None
    if not isinstance(made, nn.Module):
        why = f"It has no {method}()." if build is None else f"{method}() returned {type(made).__name__}."
        raise ConversionError(
            f"{getattr(target, '__name__', target)} can't take the place of {type(given).__name__}.",
            where=facts.where(node),
            source=facts.source(node),
            why=why,
            remedy=f"Give it a classmethod {method}(cls, module) that returns the module to put in its place.",
        )
    return made


def _put(gm: fx.GraphModule, where: str, module: nn.Module) -> None:
    owner, _, name = where.rpartition(".")
    gm.get_submodule(owner)._modules[name] = module
