"""Rules from outside the package, and the pass that applies them."""

from __future__ import annotations

from torch import fx

from qfx.patterns.rewriter import Rule, rewrite
from qfx.patterns.symbolic_shape import infer_extents

REGISTERED: dict[str, Rule] = {}
"""The rules by name. Add with :func:`qfx.rules.register_rule` only."""


def apply_registered_rules(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Applies the rules that users registered."""
    return rewrite(infer_extents(graph_module), tuple(REGISTERED.values())) if REGISTERED else graph_module
