"""The matcher and the driver: what matches, who wins, what survives."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn

from qfx.frontends import capture, normalize
from qfx.ops import is_op, op_of
from qfx.ops.terms import Term
from qfx.patterns import RULES, eliminate_dead_code, fuse_activations, fuse_residuals
from qfx.patterns.pattern import Match, constant, matches, op, single_user, value
from qfx.patterns.rewriter import Rule, rewrite


def normal_of(model: nn.Module) -> fx.GraphModule:
    return normalize(capture(model))


def rows(graph_module: fx.GraphModule) -> Counter[str]:
    return Counter(row.name for node in graph_module.graph.nodes if (row := op_of(node)) is not None)


def only(graph_module: fx.GraphModule, name: str) -> fx.Node:
    (node,) = [node for node in graph_module.graph.nodes if is_op(node, name)]
    return node


class Expression(nn.Module):
    """``relu(a) * relu(a) + tanh(b)`` and the like, by name."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.relu(x), torch.tanh(x)
        return {"same": a + a, "mixed": a + b, "swapped": b + a}[self.kind]


def _sum(*, commutative: bool) -> object:
    return op("add", op("relu", name="left"), value("right"), commutative=commutative)


def test_commutative_pattern_matches_both_orders() -> None:
    for kind in ("mixed", "swapped"):
        add = only(normal_of(Expression(kind)), "add")
        found = list(matches(_sum(commutative=True), add))
        assert [match["right"].name for match in found] == ["tanh"]
    assert not list(matches(_sum(commutative=False), only(normal_of(Expression("swapped")), "add")))


def test_one_name_means_one_node() -> None:
    pattern = op("add", value("x"), value("x"))
    assert list(matches(pattern, only(normal_of(Expression("same")), "add")))
    assert not list(matches(pattern, only(normal_of(Expression("mixed")), "add")))


def test_a_call_with_two_readers_is_no_single_user() -> None:
    relu = only(normal_of(Expression("mixed")), "relu")
    assert single_user(relu)
    assert not list(matches(op("add", constant("x")), only(normal_of(Expression("mixed")), "add")))


def _rule(name: str, benefit: int, replacement: str) -> Rule:
    def replaced(match: Match) -> Term:
        return Term(replacement, (match["x"],))

    def model() -> tuple[nn.Module, tuple[Tensor, ...]]:
        return nn.ReLU(), (torch.ones(1),)

    return Rule(name, op("relu", value("x")), replaced, benefit, model, model)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_benefit_decides_whatever_the_order_of_rules(order: tuple[int, ...]) -> None:
    rules = [_rule("a", 1, "tanh"), _rule("b", 5, "sigmoid"), _rule("c", 5, "silu")]
    rewritten = rewrite(normal_of(nn.Sequential(nn.ReLU())), [rules[i] for i in order])
    assert rows(rewritten) == {"sigmoid": 1}


class Chained(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.exp(torch.tanh(torch.neg(torch.relu(x))))


def _reading_far_back(match: Match) -> Term | None:
    """Of ``exp(tanh(-x))``, ``exp(x)``: its pattern does not reach to ``x``."""
    inner = match["x"]
    return Term("exp", (inner.args[0].args[0],)) if is_op(inner, "tanh") else None


@pytest.mark.parametrize("benefits", [(1, 2), (2, 1)])
def test_a_replacement_may_read_what_another_rule_replaces(benefits: tuple[int, int]) -> None:
    far = replace(_rule("read_far_back", benefits[0], "exp"), pattern=op("exp", value("x")), replace=_reading_far_back)
    near = replace(_rule("relu_to_sigmoid", benefits[1], "sigmoid"), pattern=op("relu", value("x")))
    graph_module = rewrite(normal_of(Chained()), [far, near])
    graph_module.graph.lint()
    assert rows(graph_module) == {"sigmoid": 1, "exp": 1}
    x = torch.randn(5)
    assert torch.equal(graph_module(x), torch.exp(torch.sigmoid(x)))


def test_rules_that_never_end_are_our_bug() -> None:
    def forward(match: Match) -> Term:
        return Term("relu", (match["x"],))

    rule = Rule("again", op("relu", value("x")), forward, 1, _rule("", 1, "").sample, _rule("", 1, "").sample)
    with pytest.raises(AssertionError, match="again"):
        rewrite(normal_of(nn.Sequential(nn.ReLU())), [rule])


class Branches(nn.Module):
    """Both operands of the sum are convolutions; the second is the later one."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.a(x) + self.b(x))


def test_the_later_convolution_takes_the_residual() -> None:
    model = Branches()
    fused = eliminate_dead_code(fuse_residuals(fuse_activations(normal_of(model))))
    first, second = [node for node in fused.graph.nodes if is_op(node, "conv")]
    assert (first.meta["module_path"], second.meta["module_path"]) == ("a", "b")
    assert second.args[3] is first
    assert second.kwargs["activation"] == ("clamp", 0.0, None)
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(fused(x), model(x))


def test_fused_nodes_remember_what_went_into_them() -> None:
    fused = fuse_residuals(fuse_activations(normal_of(Branches())))
    second = [node for node in fused.graph.nodes if is_op(node, "conv")][1]
    assert {name for _, name in second.meta["fused"]} >= {"relu"}
    assert second.meta["module_class"] is nn.Conv2d


class Reused(nn.Module):
    """One convolution, each time with its own batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn1, self.bn2 = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        for bn in (self.bn1, self.bn2):
            nn.init.uniform_(bn.weight, 0.5, 2.0)
            nn.init.uniform_(bn.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv(self.bn1(self.conv(x))))


def test_a_shared_weight_is_folded_into_copies() -> None:
    model = Reused().eval()
    folded = eliminate_dead_code(rewrite(normal_of(model), RULES))
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(folded(x), model(x), rtol=1e-5, atol=1e-5)
    assert sorted(folded.state_dict()) == ["conv.bias", "conv.bias_1", "conv.weight", "conv.weight_1"]


STEPS = {
    "conv": lambda: nn.Conv2d(4, 4, 3, padding=1),
    "norm": lambda: nn.BatchNorm2d(4),
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "clip": lambda: nn.Hardtanh(-0.5, 0.7),
    "pad": lambda: nn.ZeroPad2d(1),
    "pool": lambda: nn.AvgPool2d(3, 1, 1),
    "none": nn.Identity,
}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_any_chain_keeps_its_value_in_any_order_of_rules(names: list[str], random: object) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(STEPS[name]() for name in names)).eval()
    shuffled = list(RULES)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    x = torch.randn(1, 4, 6, 6)
    with torch.no_grad():
        one, other = rewrite(normal_of(model), RULES), rewrite(normal_of(model), shuffled)
        torch.testing.assert_close(one(x), model(x), rtol=1e-4, atol=1e-5)
        assert str(one.graph) == str(other.graph)
