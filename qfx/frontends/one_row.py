"""Batches of one: an exporter takes lengths for two or more, and most of what it makes holds for one as well."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from qfx.batches import Signature
from qfx.errors import QfxError
from qfx.frontends.defaults import Example, by_name
from qfx.frontends.verify import agree
from qfx.guards import GUARDS, Guard, require, tensors_of


def admit_one_row(model: nn.Module, captured: fx.GraphModule, example: Example) -> None:
    """Let a batch of one in where model and graph agree on the first row of the example.

    Args:
        model: The float model; it is not changed.
        captured: What an export made of it; its guards are.
        example: Positional and keyword inputs.
    """
    guards: tuple[Guard, ...] = captured.meta[GUARDS]
    if any(re.search("(?<!un)squeeze", str(node.target)) for node in captured.graph.nodes):
        return  # whose result has other dims with one row: the graph agrees, and what becomes of it does not
    asked = [guard for guard in guards if _asks_for_two_rows(guard)]
    names = Signature.of_model(model).names
    tensors = {path: x for name, value in by_name(names, example).items() for path, x in tensors_of((name,), value)}
    lengths = {len(tensors[guard.wanted[1][1]]) for guard in asked}
    if len(lengths) != 1:
        return
    (length,) = lengths
    first: Example = pytree.tree_map_only(Tensor, lambda x: x[:1] if x.dim() and len(x) == length else x, example)
    admitted = tuple(replace(g, wanted=(">=", g.wanted[1], 1)) if g in asked else g for g in guards)
    admitted = tuple(dict.fromkeys(admitted))
    try:
        require(admitted, by_name(names, first))
    except QfxError:
        return
    if agree(model, captured, first):
        captured.meta[GUARDS] = admitted


def _asks_for_two_rows(guard: Guard) -> bool:
    relation: Any = guard.wanted
    if guard.kind != "relation" or (relation[0], *relation[2:]) not in ((">=", 2), ("!=", 1)):
        return False
    name, *size = relation[1] if isinstance(relation[1], tuple) else (None,)
    return bool(name == "size" and size[1] == 0)
