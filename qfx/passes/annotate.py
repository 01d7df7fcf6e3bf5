"""Decide for every node whether it runs in int8, and which values share which quantization parameters."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from networkx.utils import UnionFind
from torch import fx

from qfx.errors import ConversionError, QConfigError
from qfx.ir import facts
from qfx.ir.attributes import attribute
from qfx.ir.levels import is_opaque
from qfx.ir.nodes import Decision, outputs, path
from qfx.ir.types import QDType, QParams
from qfx.ops.calls import activations, arguments
from qfx.ops.extents import extent_of, facts_kept
from qfx.ops.table import Op, op_of
from qfx.passes.by_rows import decide_by_rows
from qfx.passes.dynamic import decide_linear, decide_module, decide_table
from qfx.passes.limits import beyond_sums
from qfx.passes.on_codes import why_in_float
from qfx.passes.precision import UNREAD, codes_read, has_float_step, spread_ranges, wanted_as_codes
from qfx.passes.preparation import Preparation
from qfx.passes.sharing import Part, Readers, asks_size, may_split, pads_with_value, parts_of
from qfx.passes.wide import may_read_wide
from qfx.quantization.factory import Factory
from qfx.quantization.qconfig import QConfig


@dataclass(frozen=True)
class Group:
    """Values that share quantization parameters.

    Attributes:
        sources: Nodes whose values are observed: the members that do not inherit their range.
        members: Every node whose value carries the parameters.
        qconfig: Whose activation observer finds the parameters.
        fixed: Parameters that hold unless the data use little of their range.
        parts: The parts of the members that may come to have parameters of their own, if there are any.
    """

    sources: tuple[fx.Node, ...]
    members: tuple[fx.Node, ...]
    qconfig: QConfig
    fixed: QParams | None
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Annotation:
    """The result of :func:`annotate`.

    Attributes:
        decisions: What happens to each op, by node.
        groups: In graph order.
        leaving: Nodes that the graph returns as integers.
        wanted: Nodes whose value an int8 op reads as integers.
        wide: Layers whose input may turn out to need more than 8 bits.
    """

    decisions: dict[fx.Node, Decision]
    groups: tuple[Group, ...]
    leaving: frozenset[fx.Node] = frozenset()
    wanted: frozenset[fx.Node] = frozenset()
    wide: frozenset[fx.Node] = frozenset()


@facts_kept()
def annotate(
    gm: fx.GraphModule,
    *,
    quantized_inputs: Iterable[int] = (),
    quantized_outputs: Iterable[int] = (),
) -> Annotation:
    """Annotate a Normal graph whose nodes carry ``meta["qconfig"]``.

    Args:
        gm: The Normal graph.
        quantized_inputs: Indices of placeholders that arrive as integers.
        quantized_outputs: Indices of outputs that leave as integers.

    Raises:
        QConfigError: An index that the model does not have, or that no qconfig reaches.
        ConversionError: A weight or bias to be quantized holds NaN or infinity.
    """
    nodes = list(gm.graph.nodes)
    arriving = _chosen("input_quantized_idxs", gm.graph.find_nodes(op="placeholder"), quantized_inputs)
    leaving = _chosen("output_quantized_idxs", outputs(gm.graph), quantized_outputs)
    spread = spread_ranges(nodes)
    wanted = wanted_as_codes(nodes, _blocked, spread, leaving)
    wide = may_read_wide(nodes)
    decisions = _decide(nodes, spread, wanted, wide)
    for node, decision in decisions.items():
        if decision.kind != "float":
            _require_finite(gm, node)
    carriers = [n for n in nodes if n in arriving | leaving or _needs_codes(n, decisions, wanted)]
    groups = _groups(carriers, decisions, _readers(decisions, wanted))
    return Annotation(decisions, tuple(groups), frozenset(leaving), frozenset(wanted), frozenset(wide))


def _chosen(section: str, among: list[fx.Node], indices: Iterable[int]) -> set[fx.Node]:
    """The nodes that a list of indices in the qconfig_dict names."""
    chosen = set()
    for index in indices:
        if index >= len(among):
            raise QConfigError(
                f"qconfig_dict[{section!r}] names {index}, but the model has {len(among)}: "
                f"{', '.join(n.name for n in among) or 'none'}.",
                remedy="Count from 0 in the order of forward()'s arguments, or of what it returns.",
            )
        chosen.add(among[index])
    return chosen


# ---------------------------------------------------------------- decisions


def _decide(
    nodes: list[fx.Node], spread: Mapping[fx.Node, str], wanted: set[fx.Node], wide: set[fx.Node]
) -> dict[fx.Node, Decision]:
    decisions: dict[fx.Node, Decision] = {}
    ahead = _leads_to_products(nodes, wide)
    for node in nodes:
        op = op_of(node)
        if is_opaque(node):
            kept = Decision("float", node.meta.get("opaque_reason") or node.meta["island_reason"])
            decisions[node] = decide_module(node) or kept
        elif op is not None and op.by_rows:
            decisions[node] = decide_by_rows(op, node)
        elif op is not None and op.looks_up:
            decisions[node] = decide_table(op, node)
        elif op is not None and op.qparams != "none":
            decisions[node] = _decide_op(op, node, decisions, ahead, spread)
            if decisions[node].kind == "int8" and node not in wanted and has_float_step(op, node):
                decisions[node] = Decision("float", UNREAD)
    return decisions


def _decide_op(
    op: Op, node: fx.Node, decisions: dict[fx.Node, Decision], ahead: set[fx.Node], spread: Mapping[fx.Node, str]
) -> Decision:
    blocked = _blocked(op, node)
    if blocked:
        return Decision("float", blocked)
    qconfig = node.meta["qconfig"]
    if qconfig.is_dynamic:
        return decide_linear(op, node, qconfig)
    if node in spread:
        return Decision("float", spread[node])
    if op.weights:
        return Decision("int8", "weights and activations quantized")
    if op.sums == "operands":
        return Decision("int8", "both operands quantized")
    operands = list(activations(op, node))
    if any(_is_int8(n, decisions) for n in operands):
        return Decision("int8", "an operand is int8")
    if op.qparams == "share" and node in ahead and not all(n.op == "get_attr" for n in operands):
        return Decision("int8", "every use leads to an int8 layer")
    return Decision("float", "no operand is int8, so quantizing would only lose accuracy")


def _is_int8(node: fx.Node, decisions: dict[fx.Node, Decision]) -> bool:
    return node in decisions and decisions[node].kind == "int8"


_KNOWN: ContextVar[dict[Any, str | None] | None] = ContextVar("_KNOWN", default=None)


@contextmanager
def one_graph() -> Iterator[None]:
    """Within it, one graph that has been annotated is annotated again and again, with other qconfigs for some nodes.

    What does not depend on them is found once, and parameters are not checked again.
    """
    token = _KNOWN.set({})
    try:
        yield
    finally:
        _KNOWN.reset(token)


def _blocked(op: Op, node: fx.Node) -> str | None:
    """Why the node can't be quantized at all, or None."""
    known, key = _KNOWN.get(), (node, id(node.meta.get("qconfig")))
    if known is None:
        return _why_blocked(op, node)
    if key not in known:
        known[key] = _why_blocked(op, node)
    return known[key]


def _why_blocked(op: Op, node: fx.Node) -> str | None:
    if node.meta.get("qconfig") is None:
        return f"its qconfig is None ({node.meta.get('qconfig_rule', 'no entry applies')})"
    in_float = why_in_float(op, node) or beyond_sums(op, node)
    if in_float:
        return in_float
    if op.name == "sum" and not _has_fixed_count(node):
        return "it sums over a length that changes with the input, and int8 needs one scale for all (a mean has one)"
    dtype = node.meta.get("dtype")
    if dtype is not None and not dtype.is_floating_point:
        return f"its values are {dtype}, not floating point"
    given = arguments(op, node)
    for n in activations(op, node):
        dtype = n.meta.get("dtype")
        if n.op != "get_attr" and dtype is not None and not dtype.is_floating_point:
            return f"its operand {n.name} is {dtype}, not floating point"
    for name in op.weights:
        if not (isinstance(given[name], fx.Node) and given[name].op == "get_attr"):
            return f"its {name} is computed by the model, not a parameter"
    if node.meta["qconfig"].is_dynamic:
        return None
    return _unusable(node.meta["qconfig"])


def _has_fixed_count(node: fx.Node) -> bool:
    """Whether constants of the model determine how many elements each sum adds."""
    dims: Any = node.kwargs["dims"]
    return bool(dims) and all(extent_of(node.args[0], dim) is not None for dim in dims)


def _unusable(qconfig: QConfig) -> str | None:
    if qconfig.by_groups:
        return "its weights have a scale a group, and are multiplied with float activations or activations by groups"
    make = qconfig.activation
    return _unusable_observer(make) if isinstance(make, (Factory, type)) else _unusable_observer.__wrapped__(make)


@functools.lru_cache(maxsize=64)
def _unusable_observer(make: Callable[..., Any]) -> str | None:
    observer = make()
    dtype = getattr(observer, "dtype", None)
    try:
        kind = QDType.parse(dtype)
    except Exception:
        return f"its activation observer {type(observer).__name__} has dtype {dtype}, which is not an int8 type"
    return "its activation observer has dtype qint32" if kind is QDType.qint32 else None


def _leads_to_products(nodes: list[fx.Node], wide: set[fx.Node]) -> set[fx.Node]:
    """Sharing nodes whose every use is an int8 weighted layer whose input 8 bits hold, an int8 matmul, or such a node
    again."""
    ahead: set[fx.Node] = set()
    for node in reversed(nodes):
        op = op_of(node)
        if op is None or op.qparams != "share" or _blocked(op, node) or not node.users:
            continue
        if all(user in ahead or (_is_static_product(user) and user not in wide) for user in node.users):
            ahead.add(node)
    return ahead


def _is_static_product(node: fx.Node) -> bool:
    op = op_of(node)
    multiplies = op is not None and not op.looks_up and (bool(op.weights) or op.sums is not None)
    return multiplies and not _blocked(op, node) and not node.meta["qconfig"].is_dynamic  # type: ignore[arg-type]


def _require_finite(gm: fx.GraphModule, node: fx.Node) -> None:
    """Raise for a parameter of a layer to be quantized that is not finite, before calibration trips over it."""
    if _KNOWN.get() is not None:  # it has been annotated before, and so checked
        return
    op = op_of(node)
    given = arguments(op, node) if op is not None and op.weights else {}
    for role in ("weight", "bias"):
        parameter = given.get(role)
        if not isinstance(parameter, fx.Node) or parameter.op != "get_attr":
            continue
        values = attribute(gm, path(parameter))
        if values.numel() > 0 and not bool(torch.stack(torch.aminmax(values.detach())).isfinite().all()):
            where = facts.where(node)
            raise ConversionError(
                f"The {role} of {where} is not finite: NaN or infinity in {path(parameter)!r}.",
                where=where,
                source=facts.source(node),
                why="The float model's parameters hold it, or the statistics of a batch norm folded into them.",
                remedy="Repair the float model, or keep this layer float: give it the qconfig None.",
            )


# ---------------------------------------------------------------- groups


def _needs_codes(node: fx.Node, decisions: dict[fx.Node, Decision], wanted: set[fx.Node]) -> bool:
    """Whether the node's value must exist as integers."""
    op = op_of(node)
    if node.op == "output" or (op is not None and op.qparams == "none"):
        return False
    if any(_is_int8(user, decisions) and node in codes_read(user, wanted) for user in node.users):
        return True
    return _is_int8(node, decisions) and not (op is not None and _can_return_float(op))


def _can_return_float(op: Op) -> bool:
    """Whether the op computes float32 from integers: out of its accumulator, or by a table."""
    return bool(op.weights) or op.sums is not None or op.pointwise is not None


def _readers(decisions: dict[fx.Node, Decision], wanted: set[fx.Node]) -> Readers:
    readers: dict[fx.Node, set[fx.Node]] = {}
    for user in decisions:
        if op_of(user) is not None and _is_int8(user, decisions):
            for node in codes_read(user, wanted):
                readers.setdefault(node, set()).add(user)
    for node in decisions:
        if _is_int8(node, decisions):
            readers.setdefault(node, set()).update(u for u in node.users if not asks_size(u))
    return readers


def _groups(carriers: list[fx.Node], decisions: dict[fx.Node, Decision], readers: Readers) -> list[Group]:
    union: UnionFind = UnionFind(carriers)
    present = set(carriers)
    for node in carriers:
        op = op_of(node)
        if op is not None and _shares(node, decisions):
            for operand in activations(op, node):
                assert operand in present, f"{node} shares the qparams of {operand}, which carries none"
                union.union(node, operand)
    members: dict[fx.Node, list[fx.Node]] = {}
    for node in carriers:
        members.setdefault(union[node], []).append(node)
    return [_group(group, decisions, readers) for group in members.values()]


def _shares(node: fx.Node, decisions: dict[fx.Node, Decision]) -> bool:
    op = op_of(node)
    return op is not None and op.qparams == "share" and _is_int8(node, decisions)


def _group(members: list[fx.Node], decisions: dict[fx.Node, Decision], readers: Readers) -> Group:
    sources = [n for n in members if not _inherits(n, decisions)]
    fixed = {op.fixed for op in map(op_of, sources) if op is not None and op.qparams == "fixed"}
    only_fixed = len(fixed) == 1 and all((op := op_of(n)) is not None and op.qparams == "fixed" for n in sources)
    parts = parts_of(members, lambda n: _shares(n, decisions))
    return Group(
        tuple(sources), tuple(members), _group_qconfig(members), fixed.pop() if only_fixed else None,
        parts if may_split(parts, readers) and not only_fixed else (),
    )  # fmt: skip


def _inherits(node: fx.Node, decisions: dict[fx.Node, Decision]) -> bool:
    """Whether the node's range lies within its operands': such a value needs no observing of its own."""
    return _shares(node, decisions) and not pads_with_value(node)


def _group_qconfig(members: list[fx.Node]) -> QConfig:
    """The qconfig of the first member that has one, else of the first node that reads one of them as int8."""
    for node in [*members, *(user for member in members for user in member.users)]:
        qconfig = node.meta.get("qconfig")
        op = op_of(node)
        if isinstance(qconfig, QConfig) and not qconfig.is_dynamic and op is not None:
            return qconfig
    node = members[0]
    raise QConfigError(
        f"{node.name} is to arrive or leave as integers, but no qconfig says how to quantize it.",
        where=facts.where(node),
        source=facts.source(node),
        remedy="Give the op that makes or reads it a static qconfig, or take its index out of the qconfig_dict.",
    )


# ---------------------------------------------------------------- the pass

ANNOTATION = "annotation"
"""Key of a Normal graph's ``meta``: its :class:`Annotation`, until observers are inserted."""


def annotate_values(gm: fx.GraphModule, preparation: Preparation) -> fx.GraphModule:
    """Annotate the graph as the qconfig_dict says; errors as of :func:`annotate`."""
    rules = preparation.rules
    gm.meta[ANNOTATION] = annotate(
        gm, quantized_inputs=rules.input_quantized_idxs, quantized_outputs=rules.output_quantized_idxs
    )
    return gm
