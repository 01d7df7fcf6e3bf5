"""Default values of inputs, and which values of an example a capture fixes.

A graph becomes Python code, in whose signature only literals can stand. Other defaults are metadata of the placeholder.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from qfx.guards import is_plain
from qfx.ir.nodes import DEFAULT

Example = tuple[tuple[Any, ...], Mapping[str, Any]]
"""Positional and keyword inputs."""


def distinct(example: Example) -> Example:
    """``example`` with copies of its tensors: a tracer takes one tensor in two places for one input."""
    copied: Example = pytree.tree_map_only(Tensor, torch.clone, example)
    return copied


def is_literal(value: object) -> bool:
    """Whether generated code can say ``value``."""
    return value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value))


def is_storable(value: object) -> bool:
    """Whether a file can hold ``value``: tensors, plain values, and lists and dicts of them."""
    if isinstance(value, Tensor) or is_plain(value):
        return True
    if type(value) in (list, tuple):
        return all(map(is_storable, value))  # type: ignore[call-overload]
    return isinstance(value, dict) and all(type(k) is str and is_storable(v) for k, v in value.items())


def settle_defaults(graph: fx.Graph) -> None:
    """Takes the defaults that code can't say from the placeholders of ``graph`` to their metadata.

    Also those before an input without one. An input whose default no file can hold has none afterwards.
    """
    sayable = True
    for node in reversed(graph.find_nodes(op="placeholder")):
        sayable = sayable and bool(node.args) and is_literal(node.args[0])
        if node.args and not sayable:
            (default,) = node.args
            node.args = ()
            if is_storable(default):
                node.meta[DEFAULT] = default


def fixed_in(example: Mapping[str, Any] | None) -> dict[str, Any]:
    """The inputs that a capture fixes at the value that the example has: what code can ask for without a tensor."""
    return {name: value for name, value in (example or {}).items() if is_plain(value)}


def by_name(names: Collection[str], example: Example | None) -> dict[str, Any]:
    """Positional and keyword inputs by name."""
    return {**dict(zip(names, example[0], strict=False)), **example[1]} if example is not None else {}
