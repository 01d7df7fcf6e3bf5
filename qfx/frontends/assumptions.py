"""What a captured graph takes for granted about a call: which arguments are inputs, and what these are."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn

from qfx.batches import Signature
from qfx.guards import GUARDS, Guard, is_plain, require, structure, tensors_of

SIZES_FIXED = "sizes_fixed"
"""Key of a captured graph's ``meta``: whether it holds for the sizes of the example inputs only."""


def arguments_of(captured: fx.GraphModule, model: nn.Module) -> tuple[tuple[str, str, Any], ...]:
    """The arguments of ``model`` as ``info`` keeps them (:data:`qfx.ir.module.ARGUMENTS`).

    Args:
        captured: What a frontend made of it.
        model: The float model.
    """
    inputs = {str(node.target) for node in captured.graph.find_nodes(op="placeholder")}
    fixed: Mapping[str, Any] = {**defaults_of(model), **captured.meta.get("specialized", {})}
    names = Signature.of_model(model).names
    if not inputs <= set(names):
        return ()
    return tuple((name, *_state(name, inputs, fixed)) for name in names)


def _state(name: str, inputs: set[str], fixed: Mapping[str, Any]) -> tuple[str, Any]:
    if name in inputs or name not in fixed:
        return "input", None
    return ("fixed", fixed[name]) if is_plain(fixed[name]) else ("default", None)


def defaults_of(model: nn.Module) -> dict[str, Any]:
    """The default values of ``forward``'s arguments by name."""
    if isinstance(model, torch.jit.ScriptModule):
        schema = model.forward.schema.arguments[1:]  # type: ignore[attr-defined]
        return {argument.name: argument.default_value for argument in schema if argument.has_default_value()}
    parameters = inspect.signature(model.forward).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def guards_of(captured: fx.GraphModule, given: Mapping[str, Any]) -> tuple[Guard, ...]:
    """The facts that hold a captured graph: those that its frontend found, or else what the example inputs are.

    Args:
        captured: The result of a frontend.
        given: The example inputs by name.

    Raises:
        InputError: The example inputs are not what the frontend found.
    """
    found: tuple[Guard, ...] | None = captured.meta.get(GUARDS)
    if found is not None:
        if given:
            require(found, given)
        return found
    guards: list[Guard] = []
    for node in captured.graph.find_nodes(op="placeholder"):
        name = str(node.target)
        if name in given:
            guards += structure((name,), given[name], exact=False)
            if captured.meta.get(SIZES_FIXED, False):
                guards += [Guard("sizes", path, tuple(t.shape)) for path, t in tensors_of((name,), given[name])]
        elif not name.startswith("*"):
            guards.append(Guard("traced", (name,), None))
    return tuple(guards)
