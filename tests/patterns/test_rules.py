"""Every rule: rewrites its sample, leaves its near miss, keeps what both compute."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, fx, nn

from qfx.frontends import capture, normalize
from qfx.patterns import RULES
from qfx.patterns.pattern import matches
from qfx.patterns.rewriter import Rule, rewrite
from qfx.patterns.symbolic_shape import infer_extents

FIRST = {
    "fold_channel_affine_into_linear_through_permute": "turn_channel_factor_into_affine",
    "widen_rotary_over_what_it_leaves": "turned_copy_to_rotary",
}
"""Rules whose samples another rule has to rewrite before."""

EPS = torch.finfo(torch.float32).eps


def graph_for(rule: Rule, model: nn.Module) -> fx.GraphModule:
    """The model's Normal graph, rewritten as far as ``rule`` needs it."""
    graph_module = infer_extents(normalize(capture(model)))
    if rule.name in FIRST:
        graph_module = rewrite(graph_module, [r for r in RULES if r.name == FIRST[rule.name]])
    return graph_module


def error(actual: Tensor, expected: Tensor) -> float:
    """The largest difference, in units of float32 rounding at the largest value."""
    return float((actual - expected).abs().max() / (EPS * expected.abs().max()))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_sample_is_rewritten_and_keeps_its_value(rule: Rule) -> None:
    model, inputs = rule.sample()
    graph_module = graph_for(rule, model.eval())
    before = [node for node in graph_module.graph.nodes if node.op == "call_function"]
    with torch.no_grad():
        expected = graph_module(*inputs)
        after = rewrite(graph_module, [rule])
        actual = after(*inputs)
    assert before != [node for node in after.graph.nodes if node.op == "call_function"]
    assert not any(rule.replace(m) for node in after.graph.nodes for m in matches(rule.pattern, node))
    if rule.semantics == "bitwise":
        assert torch.equal(actual, expected)
    else:
        terms = max((p.numel() // p.shape[0] for p in model.parameters() if p.dim() > 1), default=1)
        assert error(actual, expected) <= 4 * terms


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_near_miss_is_left(rule: Rule) -> None:
    model, _ = rule.near_miss()
    graph_module = graph_for(rule, model.eval())
    before = str(graph_module.graph)
    assert str(rewrite(graph_module, [rule]).graph) == before


def test_rules_have_names_of_their_own() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
