"""Captured level: TorchScript to a graph of aten operators under the module paths of the model."""

from __future__ import annotations

import copy
from collections.abc import Collection
from functools import reduce
from typing import Any

import torch
from torch import Tensor, fx, nn

from qfx.errors import CaptureError
from qfx.frontends.assumptions import SIZES_FIXED
from qfx.frontends.defaults import Example, by_name, settle_defaults
from qfx.frontends.fresh import remember_child
from qfx.frontends.functional import functionalized
from qfx.frontends.leaves import WHOLE, forget_gradient_hooks
from qfx.frontends.mutation import mutation_hazards
from qfx.frontends.obstacles import remedies
from qfx.frontends.torchscript.modules import ModuleTree, class_of, module_classes
from qfx.frontends.torchscript.obstacle import IN_PLACE, Obstacle
from qfx.frontends.torchscript.script import script
from qfx.frontends.torchscript.scripted_part import ScriptedPart
from qfx.frontends.torchscript.translate import Translator
from qfx.guards import is_plain
from qfx.ir.user_names import graph_module_of


def capture(
    model: nn.Module,
    *,
    non_traceable_module_name: Collection[str] = (),
    non_traceable_module_class: Collection[type[nn.Module]] = (),
    inputs: Collection[str] = (),
    strict: bool = False,
    example: Example | None = None,
) -> fx.GraphModule:
    """The graph of a ScriptModule as it computes in eval mode; a plain module is scripted first, or else traced.

    Methods and functions are entered; branches, loops and lists are resolved where constants decide them. Parameters
    keep their paths, shared ones the first. Nodes have ``meta`` as those of :func:`qfx.frontends.symbolic.capture`,
    and the result's ``meta`` has besides ``"frontend_reason"``, how a plain module became TorchScript, and
    ``"module_classes"``, the class of each module by path where it is known. A part that a graph can't hold is one
    ``call_module`` node with ``meta["island_reason"]``.
    The model is never changed, and the result shares no tensors with it.

    Args:
        model: Scripted, traced, frozen or loaded by ``torch.jit.load``; or a plain module.
        non_traceable_module_name: Paths of modules to keep whole, in float.
        non_traceable_module_class: Classes of modules to keep whole, in float.
        inputs: Names of ``forward`` arguments with a default that are to be inputs of the graph.
        strict: Raise for a part that a graph can't hold.
        example: Positional and keyword inputs, to trace a plain module with that can't be scripted. Where code asks
            how many dims an input has, it is as many as here.

    Raises:
        CaptureError: The model itself can't be captured, or with ``strict`` a part of it.
    """
    root, reason, sizes_fixed = _as_script(model, example)
    tree, islands = ModuleTree(root), dict.fromkeys(non_traceable_module_name, "named in non_traceable_module_name")
    named = set(islands)

    def island(path: str, module: nn.Module) -> str | None:
        cls = class_of(module)
        if path not in islands and cls is not None and issubclass(cls, tuple(non_traceable_module_class)):
            return f"{cls.__name__} is in non_traceable_module_class"
        return islands.get(path)

    while True:
        translator = Translator(tree, island)
        try:
            specialized = _translate(translator, root, inputs, example)
            break
        except Obstacle as obstacle:
            path = obstacle.path or ""
            if path == "" or path in islands.keys() - named or strict:
                raise _capture_error(root, path, obstacle, scripted=root is model) from None
            islands[path] = obstacle.reason
    graph_module = graph_module_of(_copied(translator.attributes, root), translator.graph, root.original_name)
    graph_module.meta.update(
        training=getattr(model, "training", False),  # a frozen module has no such attribute
        specialized=specialized,
        frontend_reason=reason,
        module_classes=module_classes(model),
        **{SIZES_FIXED: sizes_fixed},
        **({WHOLE: translator.whole} if translator.whole else {}),
    )
    parts = {path: value for path, value in translator.attributes.items() if isinstance(value, ScriptedPart)}
    remember_child(graph_module, (path for path, part in parts.items() if part.keeps_state()), "scripted")
    return graph_module.eval()


def _as_script(model: object, example: Example | None) -> tuple[torch.jit.ScriptModule, str, bool]:
    if isinstance(model, torch.jit.ScriptModule):
        if not model._c._has_method("forward"):
            methods = ", ".join(f"{name}()" for name in model._c._method_names())
            raise CaptureError(
                f"The ScriptModule {model.original_name} has no forward.",
                why=f"It has {methods}." if methods else "It was made of a module without one.",
                remedy="Script a module whose forward calls what you want to quantize.",
            )
        return model, "", False
    if not isinstance(model, nn.Module):
        raise CaptureError(f"{type(model).__name__} is not an nn.Module.", remedy="Wrap the function in an nn.Module.")
    try:
        twin = copy.deepcopy(model).eval()
        forget_gradient_hooks(twin)
    except Exception as error:
        raise CaptureError(
            f"{type(model).__name__} can't be copied.",
            why=f"{type(error).__name__}: {error}",
            remedy="Make copy.deepcopy(model) work: keep no locks or open files on the module.",
        ) from error
    return script(twin, example)


def _translate(
    translator: Translator, root: torch.jit.ScriptModule, inputs: Collection[str], example: Example | None
) -> dict[str, Any]:
    """Writes the graph of ``root``; the defaulted arguments that were fixed, by name."""
    arguments: list[Any] = []
    specialized: dict[str, Any] = {}
    schema = root._c._get_method("forward").schema.arguments[1:]
    given = by_name([argument.name for argument in schema], example)
    for argument in schema:
        name = argument.name
        if argument.has_default_value() and name not in {*inputs, *given}:
            specialized[name] = argument.default_value
            arguments.append(specialized[name])
            continue
        default = (argument.default_value,) if argument.has_default_value() else ()
        node = translator.graph.create_node("placeholder", name, default)
        node.meta.update(module_path="", source=None)
        if isinstance(given.get(name), Tensor):
            node.meta["rank"] = given[name].dim()
        arguments.append(given[name] if is_plain(given.get(name, node)) else node)
    translator.run(arguments)
    settle_defaults(translator.graph)
    output = translator.graph.output_node()
    output.meta.update(module_path="", source=None)
    modules = {path: value for path, value in translator.attributes.items() if isinstance(value, nn.Module)}
    translator.graph = functionalized(translator.graph, modules)
    for node, why in mutation_hazards(translator.graph, modules):
        raise Obstacle(why, IN_PLACE, node.meta["source"], node.meta["module_path"])
    return specialized


def _copied(attributes: dict[str, Any], root: torch.jit.ScriptModule) -> dict[str, Any]:
    """Tensors and modules that share nothing with the model; equal ones stay one."""
    trained = {id(parameter): parameter.requires_grad for parameter in root.parameters()}
    memo: dict[int, Any] = {}
    return {path: _copy(value, trained, memo) for path, value in attributes.items()}


def _copy(value: Any, trained: dict[int, bool], memo: dict[int, Any]) -> Any:
    if id(value) not in memo:
        made: Any = value.detach().clone() if isinstance(value, Tensor) else copy.deepcopy(value).eval()
        if id(value) in trained:  # loaded from a file, a parameter is a plain tensor
            made = nn.Parameter(made, requires_grad=trained[id(value)])
        memo[id(value)] = made
    return memo[id(value)]


def _capture_error(root: torch.jit.ScriptModule, path: str, obstacle: Obstacle, *, scripted: bool) -> CaptureError:
    module = reduce(getattr, path.split("."), root) if path else root
    return CaptureError(
        f"{module.original_name} can't be captured.",
        where=path or "the model itself",
        source=obstacle.source,
        why=obstacle.construct,
        remedy=remedies(obstacle.remedy, path, exports=not scripted, others=_others(root, path) if scripted else ()),
    )


def _others(root: torch.jit.ScriptModule, path: str) -> list[str]:
    """What else can be quantized than a ScriptModule that can't be captured."""
    if path:
        return [_ORIGINAL]
    if not hasattr(root, "training"):
        return [_ORIGINAL, "Quantize it as it was before torch.jit.freeze: the module with this line stays float then."]
    sizes = {name: sum(p.numel() for p in child.parameters()) for name, child in root.named_children()}
    largest = max(sizes, key=lambda name: sizes[name], default=None)
    inner = f"Quantize a module that it calls, by itself:\n    quantize_fx(model.{largest}, qconfig_dict, calibration)"
    return [_ORIGINAL, inner] if largest is not None else [_ORIGINAL]


_ORIGINAL = (
    "Quantize the nn.Module that the TorchScript was made from:\n"
    '    quantize_fx(module, qconfig_dict, calibration, frontend="export")'
)
