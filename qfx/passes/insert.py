"""Normal -> Observed: one observer a group of values that share qparams, and statistics of what layers read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, fx

from qfx.errors import QConfigError
from qfx.ir import facts
from qfx.ir.attributes import attribute, has_attribute
from qfx.ir.nodes import decide, decision_of, path, place
from qfx.ir.user_names import token_path
from qfx.ops.calls import arguments
from qfx.ops.table import is_op, op_at, op_of
from qfx.passes.annotate import ANNOTATION, Annotation, Group
from qfx.passes.precision import codes_read
from qfx.passes.preparation import Preparation, Recovery
from qfx.passes.sharing import Part, asks_size
from qfx.quantization.fake_quantize import FakeQuantizeBase, FixedQParamsFakeQuantize
from qfx.quantization.observer import (
    ChannelMean,
    ChannelSample,
    FixedOrObserved,
    FixedQParamsObserver,
    Observer,
    ObserverBase,
    Window,
    WindowMoments,
)

GROUP = "group"
"""Node metadata: path of the observer whose qparams the node's value carries."""

WANTED = "wanted"
"""Node metadata: an int8 op reads the node's value as integers."""

MAY_READ_WIDE = "may_read_wide"
"""Node metadata: a layer's input may turn out to need more than 8 bits."""

WEIGHT_FAKE_QUANT = "weight_fake_quant"
"""Node metadata: path of the module that fake-quantizes the weight of a node to be trained."""

OWN_RANGE = "own_range"
"""Node metadata: path of the observer of a part of the group alone, which may come to have parameters of its own."""

INPUT_STATISTICS = "input_statistics"
"""Node metadata: path of the module that collects statistics of what a weighted node reads."""

CHANNEL_SAMPLE = "channel_sample"
"""Node metadata: path of the module that samples what a rotation reads."""

LONGEST_WINDOW = 1536
"""Weights an output channel may have for adaptive rounding; the moments of its inputs are this squared."""


def insert_observers(gm: fx.GraphModule, preparation: Preparation) -> fx.GraphModule:
    """Add observers behind the sources of every group, and input statistics before weighted int8 nodes.

    Args:
        gm: A Normal graph that is annotated; it is changed.
        preparation: Says which statistics to collect.
    """
    annotation = _decided(gm, preparation)
    for node in annotation.wide:
        node.meta[MAY_READ_WIDE] = True
    weighted = [n for n in annotation.decisions if _is_weighted(n)]
    for group in annotation.groups:
        _observe(gm, group, annotation.leaving, _observer(group))
        for part in group.parts:
            _observe_part(gm, group, part)
    for node in weighted:
        _collect_input_statistics(gm, node, preparation.recovery)
    for node in list(gm.graph.nodes) if preparation.recovery.smoothing else ():
        if is_op(node, "rotate"):
            _watch(gm, node, ChannelSample(), CHANNEL_SAMPLE)
    return _complete(gm)


def insert_fake_quantize(gm: fx.GraphModule, preparation: Preparation) -> fx.GraphModule:
    """Add fake-quantize modules behind the sources of every group, and one for the weight of weighted int8 nodes.

    The path of the latter is the node's ``meta["weight_fake_quant"]``.

    Args:
        gm: A Normal graph that is annotated; it is changed.
        preparation: As for :func:`insert_observers`.

    Raises:
        QConfigError: A qconfig makes observers that do not round.
    """
    annotation = _decided(gm, preparation)
    weighted = [n for n in annotation.decisions if _is_weighted(n)]
    for group in annotation.groups:
        _observe(gm, group, annotation.leaving, _fake_quantize(group))
    for node in weighted:
        _fake_quantize_weight(gm, node)
    return _complete(gm)


def _decided(gm: fx.GraphModule, preparation: Preparation) -> Annotation:
    """The annotation, when nodes and graph have been told what of it conversion asks for."""
    annotation: Annotation = gm.meta.pop(ANNOTATION)
    for node, decision in annotation.decisions.items():
        decide(node, decision)
    for node in annotation.wanted:
        node.meta[WANTED] = True
    gm.meta["recovery"] = preparation.recovery
    gm.meta["input_quantized_idxs"] = preparation.rules.input_quantized_idxs
    gm.meta["output_quantized_idxs"] = preparation.rules.output_quantized_idxs
    return annotation


def _complete(gm: fx.GraphModule) -> fx.GraphModule:
    gm.graph.lint()
    gm.recompile()
    return gm


def _observe(gm: fx.GraphModule, group: Group, leaving: frozenset[fx.Node], observer: Any) -> None:
    node = group.sources[0] if group.sources else group.members[0]
    where = _free_path(gm, node, "activation_post_process")
    _name(observer, node)
    gm.add_submodule(where, observer)
    for member in group.members:
        member.meta[GROUP] = where
    for source in group.sources:
        readers = _readers(source, leaves=source in leaving)
        with gm.graph.inserting_after(source):
            call = gm.graph.call_module(where, (source,))
        call.meta.update(place(source), observer=where)
        for user in readers:
            user.replace_input_with(source, call)


def _observe_part(gm: fx.GraphModule, group: Group, part: Part) -> None:
    """Observe the sources of ``part`` by themselves, behind the observer of the whole group."""
    sources = [n for n in part if n in group.sources]
    if not sources:
        return
    observer = group.qconfig.activation()
    where = _free_path(gm, sources[0], "own_range")
    _name(observer, sources[0])
    gm.add_submodule(where, observer)
    for source in sources:
        source.meta[OWN_RANGE] = where
        call = next(u for u in source.users if u.meta.get("observer") == source.meta[GROUP])
        readers = list(call.users)
        with gm.graph.inserting_after(call):
            own = gm.graph.call_module(where, (call,))
        own.meta.update(place(source), observer=where)
        for user in readers:
            user.replace_input_with(call, own)


def _observer(group: Group) -> Any:
    own = group.qconfig.activation()
    if group.fixed is None:
        return own
    scale, zero_point = group.fixed.per_tensor()
    if isinstance(own, ObserverBase) and not own.per_channel:
        return FixedOrObserved(scale, zero_point, group.fixed.dtype, own)
    return FixedQParamsObserver(scale, zero_point, group.fixed.dtype)


def _fake_quantize(group: Group) -> Any:
    if group.fixed is None:
        return _rounding(group.qconfig.activation(), (group.sources or group.members)[0], "activation")
    scale, zero_point = group.fixed.per_tensor()
    fixed = FixedQParamsObserver.with_args(scale=scale, zero_point=zero_point, dtype=group.fixed.dtype)
    return FixedQParamsFakeQuantize(fixed)


def _fake_quantize_weight(gm: fx.GraphModule, node: fx.Node) -> None:
    where = _free_path(gm, node, WEIGHT_FAKE_QUANT)
    rounding = _rounding(node.meta["qconfig"].weight(), node, "weight")
    _name(rounding, node, ".weight")
    gm.add_submodule(where, rounding)
    node.meta[WEIGHT_FAKE_QUANT] = where


def _rounding(module: Any, node: fx.Node, role: str) -> Any:
    if isinstance(module, FakeQuantizeBase):
        return module
    raise QConfigError(
        f"Training needs fake-quantize modules, but the qconfig of {facts.where(node)} makes "
        f"{type(module).__name__} for its {role}.",
        where=facts.where(node),
        source=facts.source(node),
        why="An observer alone does not round, so training would not see the quantization.",
        remedy="Use qfx.get_default_qat_qconfig(), or QConfig(activation=FakeQuantize.with_args(...), weight=...).",
    )


def _name(observer: Any, node: fx.Node, suffix: str = "") -> None:
    """Where the observed value is, for errors."""
    for module in (observer, *(m for m in observer.modules() if isinstance(m, Observer))):
        module.label = (facts.where(node)) + suffix
        module.source = facts.source(node)


def _readers(source: fx.Node, *, leaves: bool) -> list[fx.Node]:
    """Uses of ``source`` that see it quantized: all of an int8 node's, and the int8 ones of a float node."""
    users = [u for u in source.users if "observer" not in u.meta and not asks_size(u)]
    if decision_of(source).kind == "int8":
        return users
    return [u for u in users if _reads_codes(u, source) or (leaves and u.op == "output")]


def _reads_codes(user: fx.Node, source: fx.Node) -> bool:
    """Whether an int8 op reads ``source`` as an activation, not as its weight."""
    if op_of(user) is None or decision_of(user).kind != "int8":
        return False
    return source in codes_read(user, (user,) if WANTED in user.meta else ())


def _is_weighted(node: fx.Node) -> bool:
    op = op_of(node)
    return op is not None and bool(op.weights) and decision_of(node).kind == "int8" and op.name != "channel_affine"


def _collect_input_statistics(gm: fx.GraphModule, node: fx.Node, recovery: Recovery) -> None:
    op = op_at(node)
    given = arguments(op, node)
    weight = attribute(gm, given[op.weights[0]].target)
    window = _window(given, weight)
    if recovery.adaptive_rounding and window.length <= LONGEST_WINDOW:
        statistics: ChannelMean = WindowMoments(window)
    elif recovery.bias_correction:
        statistics = ChannelMean(ch_axis=1 - weight.dim())
    else:
        return
    _watch(gm, node, statistics, INPUT_STATISTICS)


def _watch(gm: fx.GraphModule, node: fx.Node, statistics: ChannelMean, key: str) -> None:
    """Let ``statistics`` see what ``node`` reads; its path is the node's ``meta[key]``."""
    op = op_at(node)
    x = arguments(op, node)[op.tensors[0]]
    where = _free_path(gm, node, key)
    _name(statistics, node)
    gm.add_submodule(where, statistics)
    with gm.graph.inserting_before(node):
        call = gm.graph.call_module(where, (x,))
    call.meta.update(place(node), observer=where)
    node.meta[key] = where
    node.replace_input_with(x, call)


def _window(given: dict[str, Any], weight: Tensor) -> Window:
    if weight.dim() == 2:
        return Window(weight.shape[1])
    groups = int(given["groups"])
    return Window(
        weight.shape[1] * groups,
        groups,
        tuple(weight.shape[2:]),
        tuple(given["stride"]),
        tuple(given["dilation"]),
        tuple(map(tuple, given["padding"])),
    )


def _free_path(gm: fx.GraphModule, node: fx.Node, suffix: str) -> str:
    """A submodule path near the node's own module that nothing uses yet."""
    taken = {name for name, _ in gm.named_modules(remove_duplicate=False)}
    weight = _weight_path(node)
    candidates = [f"{weight}.{suffix}"] if weight else []
    candidates += [f"{node.name}_{suffix}", *(f"{node.name}_{suffix}_{i}" for i in range(1, len(taken) + 2))]
    return next(name for name in map(token_path, candidates) if name not in taken and not has_attribute(gm, name))


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
