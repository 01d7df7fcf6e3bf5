"""Make products with an activation one op: SwiGLU, GEGLU, GLU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from qfx.ops.table import is_op, op_at
from qfx.ops.terms import Term
from qfx.patterns.pattern import Match, op, single_user, value
from qfx.patterns.rewriter import Rule
from qfx.patterns.rules.batch_norm import arguments_of


def _gated(match: Match) -> Term | None:
    gate, y = match["gate"], match["y"]
    x = gate.args[0]
    if not (_is_float(match.root) and _of_one_shape(x, y)) or match.root.kwargs.get("activation") is not None:
        return None
    given = {name: how for name, how in arguments_of(gate).items() if name == "approximate"}
    return Term("gated", (x, y), {"function": op_at(gate).name, **given})


def _is_float(product: fx.Node) -> bool:
    """Whether no int8 op will read the product: everything is dynamic, or what reads it rotates it."""
    qconfig: Any = product.meta.get("qconfig")
    rotated = bool(product.users) and all(is_op(user, "rotate") for user in product.users)
    return "qconfig" not in product.meta or rotated or (qconfig is not None and qconfig.is_dynamic)


def _of_one_shape(x: Any, y: Any) -> bool:
    """Whether neither is broadcast, by what was seen or by expressions."""
    if not (isinstance(x, fx.Node) and isinstance(y, fx.Node)):
        return False
    key = next((k for k in ("shape", "extents") if x.meta.get(k) and y.meta.get(k)), None)
    return key is not None and tuple(x.meta[key]) == tuple(y.meta[key])


class _Gate(nn.Module):
    """``function``: of the gate; ``shared``: something else reads it too."""

    def __init__(self, function: nn.Module, *, shared: bool = False) -> None:
        super().__init__()
        self.gate, self.up, self.function, self.shared = nn.Linear(6, 8), nn.Linear(6, 8), function, shared

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(-1, 5, 6)
        gate = self.function(self.gate(x))
        return gate * self.up(x) + (gate if self.shared else 0.0)


def _rows() -> tuple[Tensor]:
    return (torch.randn(3, 5, 6),)


def _rule(name: str, function: nn.Module) -> Rule:
    gate = op(name, name="gate", where=(single_user,))
    return Rule(
        f"multiply_by_{name}",
        op("mul", gate, value("y"), commutative=True),
        _gated,
        benefit=2,
        sample=lambda: (_Gate(function), _rows()),
        near_miss=lambda: (_Gate(function, shared=True), _rows()),
    )


RULES = (_rule("silu", nn.SiLU()), _rule("gelu", nn.GELU("tanh")), _rule("sigmoid", nn.Sigmoid()))
