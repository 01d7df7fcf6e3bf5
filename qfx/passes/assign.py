"""The pass that gives every op its qconfig, as :mod:`qfx.passes.resolve` finds them."""

from __future__ import annotations

from torch import fx

from qfx.passes.islands import classes_of, decide_inside, find_inside
from qfx.passes.preparation import Preparation
from qfx.passes.resolve import resolve, resolve_inside


def assign_qconfigs(gm: fx.GraphModule, preparation: Preparation) -> fx.GraphModule:
    """Assign qconfigs before anything is fused, so that every entry is matched against the model as the user wrote it.

    Raises:
        QConfigError: An entry that matches nothing.
    """
    rules, spelled = preparation.rules, preparation.spelled
    inside = find_inside(gm) if any(qconfig.is_dynamic for qconfig in rules.qconfigs()) else {}
    layers = classes_of(inside)
    resolved = resolve(gm, rules, spelled, layers)
    for node in gm.graph.nodes:
        if node.name in resolved:
            node.meta["qconfig"], node.meta["qconfig_rule"] = resolved[node.name]
    decide_inside(gm, inside, resolve_inside(gm, layers, rules, spelled))
    return gm
