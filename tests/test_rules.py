"""Rules of a user's own: checked when they are registered, and applied like qfx's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import qfx
from qfx.patterns.registered import REGISTERED
from qfx.rules import Match, Rule, Term, op, register_rule, value


class Cubed(nn.Module):
    """``x ** 3`` as users write it out, behind a layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.fc(x)
        return x * x * x


class Mixed(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x * x * y


def to_power(match: Match) -> Term:
    return Term("pow_scalar", (match["x"],), {"exponent": 3.0})


def shifted(match: Match) -> Term:
    """Right but for rounding."""
    return Term("add_scalar", (to_power(match),), {"value": 1e-9})


X = torch.linspace(-1.0, 1.0, 64).reshape(8, 8)
CUBE = Rule(
    "recognize_cube",
    op("mul", op("mul", value("x"), value("x")), value("x")),
    to_power,
    benefit=3,
    sample=lambda: (Cubed(), (X,)),
    near_miss=lambda: (Mixed(), (X, X + 1.0)),
)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = dict(REGISTERED)
    yield
    REGISTERED.clear()
    REGISTERED.update(before)


def ops(model: Any) -> list[str]:
    return [record.op for record in model.report]


def test_a_registered_rule_is_applied_to_every_model() -> None:
    default = {"": qfx.get_default_qconfig()}
    assert ops(qfx.quantize_fx(Cubed(), default, [X])) == ["linear", "mul", "mul"]
    assert register_rule(CUBE) is CUBE
    model = qfx.quantize_fx(Cubed(), default, [X])
    assert ops(model) == ["linear", "pow_scalar"]
    assert [record.decision for record in model.report] == ["int8", "float"]  # nothing but the output reads the power
    assert [node.decision for node in qfx.compare(Cubed(), model, X)] == ["int8", "int8", "float"]


def test_a_rule_registered_again_takes_the_place_of_the_first() -> None:
    register_rule(CUBE)
    register_rule(replace(CUBE, benefit=4))
    assert [rule.benefit for rule in REGISTERED.values() if rule.name == CUBE.name] == [4]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "recognize_channel_shuffle"}, "There is a rule 'recognize_channel_shuffle' in qfx"),
        ({"near_miss": CUBE.sample}, "rewrites its near miss"),
        ({"sample": CUBE.near_miss}, "does not rewrite its sample"),
        ({"replace": lambda match: Term("square", (match["x"],))}, "changes what its sample computes by"),
        ({"semantics": "bitwise", "replace": shifted}, "changes what its sample computes by some bits"),
        ({"replace": lambda match: Term("cube", (match["x"],))}, r"fails on a sample[\s\S]*KeyError: 'cube'"),
        ({"replace": lambda match: match["y"]}, r"fails on a sample[\s\S]*KeyError: 'y'"),
    ],
)
def test_a_rule_that_breaks_its_word_is_not_registered(change: dict[str, Any], said: str) -> None:
    with pytest.raises(qfx.UnsupportedError, match=said):
        register_rule(replace(CUBE, **change))
    assert CUBE.name not in REGISTERED
