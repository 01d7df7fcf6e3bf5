"""Rules and the driver that applies them to a fixpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import fx, nn

from qfx.ir.boundary import APART, OBSERVED_BY, STUBBED
from qfx.ir.nodes import NO_ENTRY
from qfx.ops.extents import facts_kept
from qfx.ops.table import is_op
from qfx.ops.terms import Term
from qfx.patterns.pattern import Match, Pattern, matches
from qfx.patterns.replacement import Replacer, nodes_in

Sample = Callable[[], tuple[nn.Module, tuple[torch.Tensor, ...]]]
"""A float model and inputs for it."""


@dataclass(frozen=True)
class Rule:
    """One rewrite. Rules are unordered: where two overlap, the larger ``benefit`` wins, then the earlier root.

    Attributes:
        name: What it rewrites, as a verb phrase.
        pattern: Where it may apply.
        replace: From a match to the term or node that takes the root's place, or None to decline.
        benefit: How much the rewrite gains; more operations saved, more benefit.
        sample: Makes a model that the rule must rewrite.
        near_miss: Makes a model that looks alike and that the rule must leave.
        semantics: Whether the result keeps every bit, or only the value within rounding.
        across_qconfigs: Whether it may join ops that the user configured differently.
        between_stubs: Whether it applies to what lies between a QuantStub and a DeQuantStub; with False, it gives
            values a range of their own that layer by layer, in eager mode, have their operand's.
    """

    name: str
    pattern: Pattern
    replace: Callable[[Match], Term | fx.Node | None]
    benefit: int
    sample: Sample
    near_miss: Sample
    semantics: Literal["bitwise", "rounding"] = "rounding"
    across_qconfigs: bool = False
    between_stubs: bool = True


@dataclass(frozen=True)
class _Candidate:
    """A match that its rule accepts, with what decides between overlapping ones."""

    key: tuple[int, int, int, str]
    rule: Rule
    match: Match
    replacement: Term | fx.Node = field(repr=False)


def rewrite(graph_module: fx.GraphModule, rules: Sequence[Rule]) -> fx.GraphModule:
    """Applies ``rules`` until none applies. Changes ``graph_module`` and returns it.

    Every round finds all matches around what changed, takes them by declared benefit, and leaves out those that
    overlap one taken before; these are tried again in the next round.
    """
    graph = graph_module.graph
    replacer = Replacer(graph_module)
    work: Iterable[fx.Node] = list(graph.nodes)
    budget = 4 * len(graph.nodes) + 16
    changed = False
    while True:
        candidates = _candidates(graph, rules, set(work))
        if not candidates:
            break
        budget -= 1
        assert budget > 0, f"rules do not terminate: {sorted({candidate.rule.name for candidate in candidates})}"
        work = _apply(candidates, replacer, max(rule.pattern.depth for rule in rules))
        changed = True
    if changed:
        graph.lint()
        graph_module.recompile()
    return graph_module


@facts_kept()
def _candidates(graph: fx.Graph, rules: Sequence[Rule], work: set[fx.Node]) -> list[_Candidate]:
    order = {node: index for index, node in enumerate(graph.nodes)}
    found = []
    for node, index in order.items():
        if node not in work or node.op != "call_function":
            continue
        for rule in rules:
            for match in matches(rule.pattern, node):
                if not (rule.across_qconfigs or _one_qconfig(match)):
                    continue
                replacement = rule.replace(match)
                if replacement is not None and replacement is not node and not _kept_apart(rule, match):
                    inner = max((order[other] for other in match.interior if other is not node), default=0)
                    found.append(_Candidate((-rule.benefit, index, -inner, rule.name), rule, match, replacement))
    return sorted(found, key=lambda candidate: candidate.key)


def _one_qconfig(match: Match) -> bool:
    """Whether everything the match joins has the same qconfig; a clamp that no entry names goes with its producer."""
    given = [n for n in match.interior if not (is_op(n, "relu", "clamp") and n.meta.get("qconfig_rule") == NO_ENTRY)]
    return all(n.meta.get("qconfig") == given[0].meta.get("qconfig") for n in given[1:])


def _kept_apart(rule: Rule, match: Match) -> bool:
    """Whether the author's boundaries forbid what ``rule`` would do; the match's root is told why."""
    if len({n.meta.get(OBSERVED_BY) for n in match.interior}) > 1:
        match.root.meta[APART] = "kept apart: FloatFunctional marks a boundary"
    elif match.root.meta.get(STUBBED, False) and not rule.between_stubs:
        match.root.meta[APART] = "kept as written: between stubs it has its input's scale"
    else:
        return False
    return True


def _apply(candidates: list[_Candidate], replacer: Replacer, reach: int) -> set[fx.Node]:
    """Applies what does not overlap; the nodes to look at next."""
    touched: set[fx.Node] = set()
    again: set[fx.Node] = set()
    for candidate in candidates:
        operands = {operand for node in candidate.match.interior for operand in node.all_input_nodes}
        operands |= set(nodes_in(candidate.replacement))  # which may lie further back than the pattern reaches
        if touched & (candidate.match.interior | operands):
            again.add(candidate.match.root)
            continue
        users = set(candidate.match.root.users)
        new = replacer.replace(candidate.match, candidate.replacement, candidate.rule.name)
        touched |= candidate.match.interior | {new} | users
        again |= _reached({new, *(user for operand in operands for user in operand.users)}, reach)
    return {node for node in again if not _erased(node)}


def _reached(nodes: set[fx.Node], reach: int) -> set[fx.Node]:
    """``nodes`` and their users up to ``reach`` steps away: where a match may have become possible."""
    found, front = set(nodes), set(nodes)
    for _ in range(reach):
        front = {user for node in front for user in node.users} - found
        found |= front
    return found


def _erased(node: Any) -> bool:
    return bool(node._erased)
