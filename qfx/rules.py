"""Rewrites of one's own: what a rule is made of, and :func:`register_rule`.

A rule sees the graph at the Normal level, where every call is a row of the op table (``docs/ops.md``), identities are
gone and batch norms are folded, and before anything is fused or quantized::

    from qfx.rules import Rule, Term, op, register_rule, value

    register_rule(Rule(
        "recognize_my_function",
        op("mul", value("x"), op("sigmoid", value("x")), commutative=True),
        lambda match: Term("silu", (match["x"],)),
        benefit=1,
        sample=lambda: (WritesItOut(), (torch.randn(2, 8),)),
        near_miss=lambda: (LooksAlike(), (torch.randn(2, 8),)),
    ))
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from qfx import pipeline
from qfx.arguments import explained
from qfx.errors import UnsupportedError
from qfx.frontends.examples import Example
from qfx.frontends.symbolic import capture
from qfx.ops.terms import Folded, Term
from qfx.patterns import RULES
from qfx.patterns.pattern import Match, Pattern, constant, op, single_user, value
from qfx.patterns.registered import REGISTERED
from qfx.patterns.rewriter import Rule, Sample, rewrite
from qfx.patterns.symbolic_shape import infer_extents

__all__ = [
    "Folded",
    "Match",
    "Pattern",
    "Rule",
    "Term",
    "check_rule",
    "constant",
    "op",
    "register_rule",
    "single_user",
    "value",
]


@explained
def register_rule(rule: Rule) -> Rule:
    """Make ``rule`` one of those that every model goes through from now on.

    It is checked first, as by :func:`check_rule`. A rule of one's own that has this name already is replaced.

    Raises:
        UnsupportedError: The name is one of qfx's own rules, or the rule does not keep its promises.
    """
    if any(rule.name == known.name for known in RULES):
        raise UnsupportedError(f"There is a rule {rule.name!r} in qfx.", remedy="Give yours another name.")
    check_rule(rule)
    REGISTERED[rule.name] = rule
    return rule


def check_rule(rule: Rule) -> None:
    """Raise unless ``rule`` rewrites its sample, keeps its value, and leaves its near miss.

    A rule of ``semantics="bitwise"`` keeps every bit; another one all but float32 rounding, once for each term of the
    longest sum that a weight of the sample takes part in, and four times where there is none.

    Raises:
        UnsupportedError: It does not, or it fails.
    """
    expected, actual, rewritten = _run(rule, rule.sample)
    if not rewritten:
        _refuse(rule, "does not rewrite its sample", "Print qfx.fuse_fx(model).graph to see what there is to match.")
    wrong = _difference(rule, expected, actual)
    if wrong:
        _refuse(rule, f"changes what its sample computes by {wrong}", "Correct what it returns, or decline with None.")
    if _run(rule, rule.near_miss)[2]:
        _refuse(rule, "rewrites its near miss", "Return None from replace where the rewrite would be wrong.")


def _run(rule: Rule, sample: Sample) -> tuple[Any, Any, bool]:
    """What a sample computes before and after ``rule``, and whether anything was rewritten."""
    model, inputs = sample()
    try:
        gm = infer_extents(pipeline.run(pipeline.NORMALIZE, capture(model.eval()), Example(inputs)))
        before = _calls(gm)
        with torch.no_grad():
            expected = gm(*inputs)
            gm = rewrite(gm, [rule])
            return expected, gm(*inputs), before != _calls(gm)
    except Exception as error:
        raise UnsupportedError(
            f"Rule {rule.name!r} fails on a sample of its own.",
            why=f"{type(error).__name__}: {error}",
            remedy="Name rows of the op table (docs/ops.md) with the arguments that these take.",
        ) from error


def _calls(gm: fx.GraphModule) -> list[fx.Node]:
    return [node for node in gm.graph.nodes if node.op == "call_function"]


def _difference(rule: Rule, expected: Tensor, actual: Tensor) -> str | None:
    if rule.semantics == "bitwise":
        return None if torch.equal(expected, actual) else "some bits"
    largest, error = float(expected.abs().max()), float((expected - actual).abs().max())
    model, _ = rule.sample()
    terms = max((p.numel() // p.shape[0] for p in model.parameters() if p.dim() > 1), default=1)
    return None if error <= 4 * terms * torch.finfo(torch.float32).eps * largest else f"{error:.3g}"


def _refuse(rule: Rule, what: str, remedy: str) -> None:
    raise UnsupportedError(f"Rule {rule.name!r} {what}.", remedy=remedy)
