"""Layers inside of float islands: what a dynamic qconfig makes of each, and swapping them on a copy of the island.

Nobody looks into an island's code, so what is swapped are its modules: each that computes what a layer of torch does.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from qfx.frontends.constants import join
from qfx.frontends.leaves import builtin_base
from qfx.ir.levels import is_opaque
from qfx.ir.nodes import Decision, path
from qfx.passes.dynamic import as_base, decide_layer, layer_class, swapped
from qfx.passes.own_linear import linear_of
from qfx.passes.resolve import Resolution
from qfx.quantization.fast_path import leave_fast_path
from qfx.quantization.hooks import copy_hooks
from qfx.quantization.qconfig import QConfig

INSIDE = "inside"
"""Node metadata: ``(path in the island, class, decision)`` of every layer inside of the module that the node calls."""

_QCONFIGS = "inside_qconfigs"
"""Node metadata: the qconfigs of those that are swapped, by path in the island."""


@dataclass(frozen=True)
class Layer:
    """A module with weights inside of an island.

    Attributes:
        path: Its path in the model.
        module: The module.
        swap: The layer of torch that computes what it does, None where none does.
        why: Why none does.
    """

    path: str
    module: nn.Module
    swap: nn.Module | None
    why: str = ""


def find_inside(gm: fx.GraphModule) -> dict[str, tuple[Layer, ...]]:
    """The layers inside of the modules that opaque nodes call, by the name of the first node that calls the module."""
    nodes: dict[str, fx.Node] = {}
    for node in gm.graph.find_nodes(op="call_module"):
        if is_opaque(node) and ("island_reason" in node.meta or layer_class(node.meta.get("module_class")) is None):
            nodes.setdefault(path(node), node)
    return {node.name: tuple(layers(gm.get_submodule(name), _home(node))) for name, node in nodes.items()}


def classes_of(inside: Mapping[str, tuple[Layer, ...]]) -> dict[str, type]:
    """The class of every layer by its path in the model."""
    return {layer.path: type(layer.module) for found in inside.values() for layer in found}


def decide_inside(
    gm: fx.GraphModule, inside: Mapping[str, tuple[Layer, ...]], resolved: Mapping[str, Resolution]
) -> None:
    """Decide about every layer that :func:`find_inside` found, by its qconfig; metadata of the nodes keep it."""
    for node in gm.graph.nodes:
        decisions, qconfigs = [], {}
        for layer in inside.get(node.name, ()):
            below = layer.path.removeprefix(f"{_home(node)}.") if _home(node) else layer.path
            qconfig, rule = resolved[layer.path]
            decision = _decision(layer, qconfig, rule)
            decisions.append((below, type(layer.module).__name__, decision))
            if decision.kind != "float":
                qconfigs[below] = qconfig
        if decisions:
            node.meta[INSIDE], node.meta[_QCONFIGS] = tuple(decisions), qconfigs


def _home(node: fx.Node) -> str:
    return str(node.meta.get("module_path") or "")


def _decision(layer: Layer, qconfig: QConfig | None, rule: str) -> Decision:
    if qconfig is None:
        return Decision("float", f"its qconfig is None ({rule})")
    if layer.swap is None:
        return Decision("float", layer.why)
    if not qconfig.is_dynamic:
        return Decision("float", "it is inside of a float island, and its qconfig is not dynamic")
    return decide_layer(layer.swap, qconfig)


def layers(module: nn.Module, prefix: str = "") -> Iterator[Layer]:
    """Every layer below ``module``: what can be swapped, and what has weights of its own."""
    for name, child in module._modules.items():
        if child is None:
            continue
        below = prefix if getattr(module, "adds_no_name", False) else join(prefix, name)
        swap = _as_layer(child)
        if swap is not None:
            yield Layer(below, child, swap)
            continue
        if any(p is not None and p.dim() > 1 for p in child._parameters.values()):
            yield Layer(below, child, None, _why_not(child))
        yield from layers(child, below)


def _as_layer(module: nn.Module) -> nn.Module | None:
    """The layer of torch that ``module`` computes, with its tensors: itself, itself as its base class, or a Linear."""
    if "forward" in vars(module) or isinstance(module, torch.jit.ScriptModule):
        return None
    base = builtin_base(type(module))
    if base is None:
        return linear_of(module)
    if layer_class(base) is None:
        return None
    return as_base(module)


def _why_not(module: nn.Module) -> str:
    if "forward" in vars(module):
        return "its forward was replaced"
    if isinstance(module, torch.jit.ScriptModule):
        return "it is TorchScript, of which no layer can be swapped"
    base = builtin_base(type(module))
    if base is nn.modules.linear.NonDynamicallyQuantizableLinear:
        return "the attention around it reads its weight as a tensor, and does not call it"
    if base is not None:
        return f"a dynamic qconfig quantizes linear, recurrent and attention layers and embeddings, not {base.__name__}"
    return f"{type(module).__name__} has a forward of its own, which is not that of a linear layer"


def leave_inside(node: fx.Node) -> None:
    """Leave the layers inside of the module that ``node`` calls to the module itself."""
    for key in (INSIDE, _QCONFIGS):
        node.meta.pop(key, None)


def swap_inside(gm: fx.GraphModule, done: dict[int, nn.Module]) -> None:
    """Put copies with swapped layers in the place of islands.

    Args:
        gm: The graph; its modules are replaced, not changed.
        done: Swapped layers by the id of the float one: a layer in several places stays one.

    Raises:
        ConversionError: A weight that can't be quantized as its qconfig asks.
    """
    for node in gm.graph.find_nodes(op="call_module"):
        qconfigs = node.meta.pop(_QCONFIGS, None)
        if qconfigs:
            owner, _, name = path(node).rpartition(".")
            modules = gm.get_submodule(owner)._modules
            modules[name] = _swapped(gm.get_submodule(path(node)), qconfigs, done)


def _swapped(island: nn.Module, qconfigs: Mapping[str, QConfig], done: dict[int, nn.Module]) -> nn.Module:
    swaps: dict[int, Any] = {}
    for name, qconfig in qconfigs.items():
        layer = island.get_submodule(name)
        if id(layer) not in done:
            plain = _as_layer(layer)
            assert plain is not None, name
            made = done[id(layer)] = swapped(plain, qconfig)
            copy_hooks(layer, made)
        swaps[id(layer)] = done[id(layer)]
    # What is in the memo is not copied: tensors stay shared, and swapped layers take the float ones' place.
    tensors = {id(t): t for t in (*island.parameters(), *island.buffers())}
    made_island: nn.Module = copy.deepcopy(island, {**tensors, **swaps})
    for module in made_island.modules():
        leave_fast_path(module)
    return made_island
