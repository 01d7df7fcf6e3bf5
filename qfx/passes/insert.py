"""Normal -> Observed: one observer a group of values that share qparams, and what bias correction needs to know."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import fx

from qfx.ir.attributes import attribute
from qfx.ir.nodes import path, place
from qfx.ops.calls import activations, arguments
from qfx.ops.table import op_of
from qfx.passes.annotate import Annotation, Group
from qfx.quantization.observer import ChannelMean, FixedQParamsObserver

GROUP = "group"
"""Node metadata: path of the observer whose qparams the node's value carries."""


def insert_observers(gm: fx.GraphModule, annotation: Annotation, *, bias_correction: bool) -> fx.GraphModule:
    """Add observers behind the sources of every group and input means before weighted int8 nodes.

    Args:
        gm: The Normal graph that ``annotation`` describes; it is changed.
        annotation: Decisions and groups.
        bias_correction: Whether to collect the mean input of every weighted int8 node.
    """
    for node, decision in annotation.decisions.items():
        node.meta["decision"] = (decision.kind, decision.reason)
    weighted = [n for n in annotation.decisions if _wants_mean(n)] if bias_correction else []
    for group in annotation.groups:
        _observe(gm, group, annotation.leaving)
    for node in weighted:
        _collect_input_mean(gm, node)
    gm.graph.lint()
    gm.recompile()
    return gm


def _observe(gm: fx.GraphModule, group: Group, leaving: frozenset[fx.Node]) -> None:
    where = _free_path(gm, group.sources[0] if group.sources else group.members[0], "activation_post_process")
    gm.add_submodule(where, _observer(group))
    for member in group.members:
        member.meta[GROUP] = where
    for source in group.sources:
        readers = _readers(source, leaves=source in leaving)
        with gm.graph.inserting_after(source):
            call = gm.graph.call_module(where, (source,))
        call.meta.update(place(source), observer=where)
        for user in readers:
            user.replace_input_with(source, call)


def _observer(group: Group) -> Any:
    node = group.sources[0] if group.sources else group.members[0]
    if group.fixed is not None:
        observer: Any = FixedQParamsObserver(*group.fixed.per_tensor(), group.fixed.dtype)
    else:
        assert group.qconfig is not None
        observer = group.qconfig.activation()
    observer.label = node.meta.get("module_path") or node.name
    observer.source = node.meta.get("source")
    return observer


def _readers(source: fx.Node, *, leaves: bool) -> list[fx.Node]:
    """Uses of ``source`` that see it quantized: all of an int8 node's, and the int8 ones of a float node."""
    users = [u for u in source.users if "observer" not in u.meta and not _asks_shape(u)]
    if source.meta.get("decision", ("float",))[0] == "int8":
        return users
    return [u for u in users if _reads_codes(u, source) or (leaves and u.op == "output")]


def _reads_codes(user: fx.Node, source: fx.Node) -> bool:
    """Whether an int8 op reads ``source`` as an activation, not as its weight."""
    op = op_of(user)
    return op is not None and user.meta.get("decision", ("float",))[0] == "int8" and source in activations(op, user)


def _asks_shape(node: fx.Node) -> bool:
    op = op_of(node)
    return op is not None and op.name == "size"


def _wants_mean(node: fx.Node) -> bool:
    op = op_of(node)
    return op is not None and bool(op.weights) and node.meta["decision"][0] == "int8" and op.name != "channel_affine"


def _collect_input_mean(gm: fx.GraphModule, node: fx.Node) -> None:
    op = op_of(node)
    assert op is not None
    given = arguments(op, node)
    x, weight = given[op.tensors[0]], attribute(gm, given[op.weights[0]].target)
    where = _free_path(gm, node, "input_mean")
    mean = ChannelMean(ch_axis=1 - weight.dim())
    mean.label, mean.source = node.meta.get("module_path") or node.name, node.meta.get("source")
    gm.add_submodule(where, mean)
    with gm.graph.inserting_before(node):
        call = gm.graph.call_module(where, (x,))
    call.meta.update(place(node), observer=where)
    node.meta["input_mean"] = where
    node.replace_input_with(x, call)


def _free_path(gm: fx.GraphModule, node: fx.Node, suffix: str) -> str:
    """A submodule path near the node's own module that nothing uses yet."""
    taken = {name for name, _ in gm.named_modules(remove_duplicate=False)}
    weight = _weight_path(node)
    candidates = [f"{weight}.{suffix}"] if weight else []
    candidates += [f"{node.name}_{suffix}", *(f"{node.name}_{suffix}_{i}" for i in range(1, len(taken) + 2))]
    return next(name for name in candidates if name not in taken)


def _weight_path(node: fx.Node) -> str | None:
    op = op_of(node)
    if op is None or not op.weights:
        return None
    weight = arguments(op, node)[op.weights[0]]
    is_parameter = isinstance(weight, fx.Node) and weight.op == "get_attr"
    return path(weight).rpartition(".")[0] or None if is_parameter else None


def observer_calls(graph: fx.Graph) -> Iterable[fx.Node]:
    """The nodes that :func:`insert_observers` added."""
    return [n for n in graph.nodes if "observer" in n.meta]
