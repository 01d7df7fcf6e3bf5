"""Observed -> QDQ: observers become quantize/dequantize pairs, weights and biases integers."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Any

import torch
from torch import Tensor, fx

from qfx.errors import CalibrationError, ConversionError
from qfx.ir import facts
from qfx.ir.attributes import attribute, has_attribute, is_free, is_tensor, set_buffer
from qfx.ir.nodes import decision_of, operand, path, place
from qfx.ir.snapshot import bytes_of
from qfx.ir.types import QParams
from qfx.ir.user_names import token_path
from qfx.ops import qdq
from qfx.ops.calls import activations, arguments
from qfx.ops.qdq.decode import StoredWeight
from qfx.ops.qdq.dynamic import requantize_dynamic
from qfx.ops.table import Op, op_at, op_of
from qfx.passes import weights
from qfx.passes.by_rows import compute_by_rows, matrices
from qfx.passes.dynamic import convert_layers
from qfx.passes.insert import (
    GROUP,
    INPUT_STATISTICS,
    MAY_READ_WIDE,
    OWN_RANGE,
    WANTED,
    WEIGHT_FAKE_QUANT,
    observer_calls,
)
from qfx.passes.islands import swap_inside
from qfx.passes.precision import codes_read
from qfx.passes.preparation import Recovery
from qfx.passes.rounding import round_adaptively
from qfx.passes.sharing import Readers, asks_size, observed, parts_of, split
from qfx.passes.weight_only import is_decoded, store_weight
from qfx.passes.wide import WIDE, halves, keeps_few_bits, read_halves
from qfx.quantization.observer import FixedOrObserved, PerChannelMinMaxObserver, WindowMoments
from qfx.quantization.observer.base import range_width
from qfx.quantization.observer.union import united
from qfx.quantization.qconfig import SMALLEST_SCALE


@dataclass
class _Conversion:
    """One run of :func:`convert_to_qdq`: the graph, the observers' qparams, and the weights already converted."""

    gm: fx.GraphModule
    qparams: dict[str, QParams] = field(default_factory=dict)  # by the path of an observer that found them
    bases: dict[str, str] = field(default_factory=dict)
    keys: dict[fx.Node, str] = field(default_factory=dict)  # which of them a node's value has
    observers: dict[str, Any] = field(default_factory=dict)  # the observer that found each of them
    apart: list[tuple[fx.Node, fx.Node]] = field(default_factory=list)  # operands to requantize, and for which op
    wide: dict[fx.Node, dict[str, str]] = field(default_factory=dict)  # layers, and which qparams their halves have
    floats: dict[str, Tensor] = field(default_factory=dict)
    weights: dict[tuple[object, ...], str] = field(default_factory=dict)
    moments: dict[int, tuple[Tensor, int]] = field(default_factory=dict)  # by where a float weight is in memory
    recovery: Recovery = field(default_factory=Recovery)


def convert_to_qdq(gm: fx.GraphModule) -> fx.GraphModule:
    """Convert a calibrated Observed graph.

    Raises:
        CalibrationError: An observer saw no data.
        ConversionError: A layer can't be quantized as its qconfig asks.
    """
    run = _Conversion(gm, recovery=gm.meta.get("recovery", Recovery()))
    # Read before anything is replaced: a module used twice is converted twice from the same float weight.
    run.floats.update({path(n): attribute(gm, path(n)).detach() for n in gm.graph.find_nodes(op="get_attr")})
    _read_observers(run)
    _read_moments(run)
    nodes = list(gm.graph.nodes)
    for node in nodes:
        if MAY_READ_WIDE in node.meta and decision_of(node).kind == "int8":
            _widen(run, node)
    for node in nodes:
        kind = decision_of(node).kind
        op = op_of(node)
        if op is not None and op.weights and kind in ("int8", "dynamic", "weight_only"):
            _convert_weights(run, op, node, kind)
        elif op is not None and op.matrices and kind == "dynamic":
            _convert_matrices(run, op, node)
    for node in nodes:
        if GROUP in node.meta and "observer" not in node.meta:
            _quantize_value(run, node)
    swap_inside(gm, convert_layers(gm))
    compute_by_rows(gm)
    _remove_observers(gm)
    for source, join in run.apart:
        _requantize(run, source, join)
    for node, keys in run.wide.items():
        _read_wide(run, node, keys)
    _return_codes(gm)
    gm.graph.eliminate_dead_code()
    gm.graph.lint()
    return fx_module(gm)


def fx_module(gm: fx.GraphModule) -> fx.GraphModule:
    """A GraphModule that keeps only what the graph refers to."""
    fresh = fx.GraphModule(gm, gm.graph)
    fresh.meta.update(gm.meta)
    return fresh


def _read_observers(run: _Conversion) -> None:
    groups: dict[str, list[fx.Node]] = {}
    for node in run.gm.graph.nodes:
        if GROUP in node.meta and "observer" not in node.meta:
            groups.setdefault(node.meta[GROUP], []).append(node)
    for group, members in groups.items():
        observer: Any = run.gm.get_submodule(group)
        for path_, found, having in _split(run, members) or ((group, observer, members),):
            run.observers[path_] = found
            _store_qparams(run, path_, found.qparams(), having)
            if isinstance(found, FixedOrObserved) and found.gave_way:
                for node in having:
                    _note(node, "its own range, as the data use less than an eighth of the fixed one")


def _store_qparams(run: _Conversion, where: str, qparams: QParams, members: list[fx.Node]) -> None:
    base = token_path(_base(where))
    while not (is_free(run.gm, base, "scale") and is_free(run.gm, base, "zero_point")):
        base += "_"
    run.qparams[where], run.bases[where] = qparams, base
    run.keys.update(dict.fromkeys(members, where))
    set_buffer(run.gm, f"{base}.scale", torch.tensor(qparams.scale, dtype=torch.float32))
    set_buffer(run.gm, f"{base}.zero_point", torch.tensor(qparams.zero_point, dtype=torch.int64))


def _split(run: _Conversion, members: list[fx.Node]) -> list[tuple[str, Any, list[fx.Node]]]:
    """The group's parts with parameters of their own, where ranges are too far apart to share: of each the path of an
    observer, one of all that it holds, and the members. None, for all of them to share, is an empty list."""
    if not any(OWN_RANGE in n.meta for n in members):
        return []
    parts = parts_of(members, _shares)
    own = {part: _own_observer(run, part) for part in parts}
    try:
        widths = {p: range_width(o, o.qparams()) if o is not None else 0.0 for p, o in own.items()}
    except CalibrationError:
        return []
    classes, apart = split(parts, widths.__getitem__, _shares, _readers(run.gm.graph))
    found = []
    for each in classes:
        observers = [o for part in dict.fromkeys(each.sources) if (o := own[part]) is not None]
        first = next(n for part in each.parts for n in part if OWN_RANGE in n.meta)
        found.append((first.meta[OWN_RANGE], united(observers), [n for part in each.parts for n in part]))
    if len(classes) == 1 or any(observer is None for _, observer, _ in found):
        return []
    run.apart += apart
    for source, join in apart:
        _note(join, f"{source.name} requantized on its way in, as its range is less than an eighth of the result's")
    return found


def _own_observer(run: _Conversion, part: tuple[fx.Node, ...]) -> Any:
    path_ = next((n.meta[OWN_RANGE] for n in part if OWN_RANGE in n.meta), None)
    return None if path_ is None else run.gm.get_submodule(path_)


def _shares(node: fx.Node) -> bool:
    op = op_of(node)
    return op is not None and op.qparams == "share" and decision_of(node).kind == "int8"


def _readers(graph: fx.Graph) -> Readers:
    readers: dict[fx.Node, set[fx.Node]] = {}
    for user in graph.nodes:
        if op_of(user) is not None and decision_of(user).kind == "int8":
            for node in codes_read(user, (user,) if WANTED in user.meta else ()):
                readers.setdefault(observed(node), set()).add(user)
        if "observer" not in user.meta and not asks_size(user):
            for node in map(observed, user.all_input_nodes):
                if decision_of(node).kind == "int8":
                    readers.setdefault(node, set()).add(user)
    return readers


def _base(group: str) -> str:
    """Where the qparams of what the observer at ``group`` sees go: to its module, or under the name of its node."""
    for suffix in ("activation_post_process", OWN_RANGE):
        if group.endswith(f".{suffix}"):
            return group.removesuffix(f".{suffix}")
    return group.removesuffix("activation_post_process").removesuffix(OWN_RANGE).rstrip("._") or "value"


def _read_moments(run: _Conversion) -> None:
    """The moments of every weight's inputs: a weight used twice is rounded once, for all that it is multiplied with."""
    for node in run.gm.graph.nodes:
        statistics = _statistics(run, node)
        if not isinstance(statistics, WindowMoments):
            continue
        op = op_at(node)
        weight = run.floats[arguments(op, node)[op.weights[0]].target].data_ptr()
        moments = statistics.moments(centred=run.recovery.bias_correction)
        samples = int(statistics.samples)
        known, before = run.moments.get(weight, (moments, 0))
        if known.shape == moments.shape:
            run.moments[weight] = (known * before + moments * samples) / (before + samples), before + samples


def _statistics(run: _Conversion, node: fx.Node) -> Any:
    return run.gm.get_submodule(node.meta[INPUT_STATISTICS]) if INPUT_STATISTICS in node.meta else None


# ---------------------------------------------------------------- activations


def _quantize_value(run: _Conversion, node: fx.Node) -> None:
    """Put quantize and dequantize behind ``node``, in front of its observer call if it has one."""
    group, key = node.meta[GROUP], run.keys[node]
    node.meta["qparams"] = run.qparams[key]
    calls = [u for u in node.users if u.meta.get("observer") == group]
    readers = calls if calls else [u for u in node.users if not asks_size(u)]
    if not readers:
        return
    value = _rounded(run, node, key)
    for reader in readers:
        reader.replace_input_with(node, value)


def _requantize(run: _Conversion, source: fx.Node, join: fx.Node) -> None:
    """Let ``join`` read the value of ``source`` with its own parameters."""
    for value in {n for n in join.all_input_nodes if n.target is qdq.dequantize and operand(operand(n)) is source}:
        join.replace_input_with(value, _rounded(run, value, run.keys[join]))


def _widen(run: _Conversion, node: fx.Node) -> None:
    """Give a layer's input two halves where it is float32 and 8 bits keep too little of it."""
    op = op_at(node)
    source, key = observed(arguments(op, node)[op.tensors[0]]), _input_key(run, op, node)
    arrives = source.op == "placeholder" and any(source is n for n in _arriving(run.gm))
    if arrives or decision_of(source).kind != "float" or not keeps_few_bits(run.observers[key], run.qparams[key]):
        return
    run.wide[node] = {half: f"{_base(key)}_{half}" for half in ("high", "low")}
    for where, qparams in zip(run.wide[node].values(), halves(run.observers[key], run.qparams[key]), strict=True):
        if where not in run.qparams:
            _store_qparams(run, where, qparams, [])
    _note(node, WIDE)


def _arriving(gm: fx.GraphModule) -> list[fx.Node]:
    """The inputs that arrive as integers."""
    placeholders = gm.graph.find_nodes(op="placeholder")
    return [placeholders[i] for i in gm.meta.get("input_quantized_idxs", ())]


def _read_wide(run: _Conversion, node: fx.Node, keys: dict[str, str]) -> None:
    op = op_at(node)
    source = operand(operand(arguments(op, node)[op.tensors[0]]))
    read_halves(node, source, lambda value, half: _rounded(run, value, keys[half]))


def _rounded(run: _Conversion, node: fx.Node, key: str) -> fx.Node:
    """``node`` through a quantize and a dequantize behind it."""
    graph, qparams = run.gm.graph, run.qparams[key]
    with graph.inserting_after(node):
        scale = graph.get_attr(f"{run.bases[key]}.scale")
    with graph.inserting_after(scale):
        zero = graph.get_attr(f"{run.bases[key]}.zero_point")
    kwargs: dict[str, Any] = {"dtype": qparams.dtype.name, "quant_min": qparams.qmin, "quant_max": qparams.qmax}
    with graph.inserting_after(zero):
        code = graph.call_function(qdq.quantize, (node, scale, zero), kwargs)
    with graph.inserting_after(code):
        value = graph.call_function(qdq.dequantize, (code, scale, zero))
    for made in (scale, zero, code, value):
        made.meta.update(place(node))
    code.meta["qparams"] = value.meta["qparams"] = qparams
    return value


def _remove_observers(gm: fx.GraphModule) -> None:
    for call in observer_calls(gm.graph):
        call.replace_all_uses_with(operand(call))
        gm.graph.erase_node(call)


def _return_codes(gm: fx.GraphModule) -> None:
    """Let the outputs named in ``output_quantized_idxs`` leave, and the inputs named arrive, as integers."""
    output = gm.graph.output_node()
    wanted, position = set(gm.meta.get("output_quantized_idxs", ())), count()

    def leaving(node: fx.Node) -> fx.Node:
        return operand(node) if next(position) in wanted and node.target is qdq.dequantize else node

    output.args = fx.node.map_arg(output.args, leaving)
    placeholders = gm.graph.find_nodes(op="placeholder")
    for index in gm.meta.get("input_quantized_idxs", ()):
        placeholder = placeholders[index]
        for user in list(placeholder.users):
            if user.target is qdq.quantize:
                placeholder.meta["arrives_as"] = user.meta["qparams"]
                user.replace_all_uses_with(placeholder)
                gm.graph.erase_node(user)


# ---------------------------------------------------------------- weights


def _convert_weights(run: _Conversion, op: Op, node: fx.Node, kind: str) -> None:
    given = arguments(op, node)
    weight_path = given[op.weights[0]].target
    weight = run.floats[weight_path]
    if is_decoded(op, node):
        stored = store_weight(weight, _weight_observer(node, op))
        _set_operand(run, op, node, op.weights[0], _decoded(run, weight_path, stored))
        if kind == "dynamic":
            _make_dynamic(run, op, node)
        return
    rounded = _rounded_weight(run, op, node, weight)
    if kind == "dynamic" and INPUT_STATISTICS not in node.meta:
        _set_operand(run, op, node, op.weights[0], _store_weight(run, weight_path, rounded))
        if not op.looks_up:
            _make_dynamic(run, op, node)
        return
    bias = run.floats[given["bias"].target] if given.get("bias") is not None else None
    if weight.data_ptr() in run.moments:
        rounded = round_adaptively(weight, rounded, *run.moments[weight.data_ptr()])
        _note(node, "weights rounded adaptively")
    if bias is not None:
        weights.check_finite(bias, _where(node), facts.source(node))
    bias = _corrected_bias(run, node, weight, rounded, bias, int(given.get("groups", 1)))
    if kind == "dynamic":
        _set_operand(run, op, node, op.weights[0], _store_weight(run, weight_path, rounded))
        if bias is not None:
            _set_operand(run, op, node, "bias", _store_float_bias(run, weight_path, bias))
        _make_dynamic(run, op, node)
        return
    _store_parameters(run, op, node, weight, rounded, bias)


def _store_parameters(
    run: _Conversion, op: Op, node: fx.Node, weight: Tensor, rounded: weights.QuantizedWeight, bias: Tensor | None
) -> None:
    """Give a layer whose input has one scale its weights and its bias in integers."""
    weight_path = path(arguments(op, node)[op.weights[0]])
    key = run.wide[node]["high"] if node in run.wide else _input_key(run, op, node)
    x_scale = torch.tensor(run.qparams[key].scale, dtype=torch.float32)
    stored_bias = None
    if bias is not None:
        rounded = weights.widen_for_bias(weight, rounded, bias, x_scale)
        stored_bias, bias_scale = weights.quantize_bias(bias, x_scale, rounded.scale)
    weights.check_accumulator(rounded, stored_bias, _where(node), facts.source(node))
    _set_operand(run, op, node, op.weights[0], _store_weight(run, weight_path, rounded))
    if stored_bias is not None:
        _set_operand(run, op, node, "bias", _store_bias(run, weight_path, stored_bias, bias_scale))


def _convert_matrices(run: _Conversion, op: Op, node: fx.Node) -> None:
    """Round what multiplies rows that the op quantizes itself, a matrix at a time."""
    for name, matrix in matrices(op, node).items():
        rounded = weights.quantize_weight(run.floats[path(matrix)], _weight_observer(node, op))
        if rounded.axis not in (None, 0):
            raise ConversionError(
                f"The {name} of {_where(node)} can't have one scale along axis {rounded.axis}.",
                where=_where(node),
                source=facts.source(node),
                remedy="Use a weight observer with ch_axis=0, or a per-tensor one.",
            )
        _set_operand(run, op, node, name, _store_weight(run, path(matrix), rounded))


def _note(node: fx.Node, what: str) -> None:
    """Keep for the report what was done about an error of rounding."""
    node.meta["recovery"] = (*node.meta.get("recovery", ()), what)


def _where(node: fx.Node) -> str:
    return facts.where(node)


def _rounded_weight(run: _Conversion, op: Op, node: fx.Node, weight: Tensor) -> weights.QuantizedWeight:
    """The weight in integers: by the qparams that it was trained with, else by those that its observer finds."""
    if WEIGHT_FAKE_QUANT in node.meta:
        trained: Any = run.gm.get_submodule(node.meta[WEIGHT_FAKE_QUANT])
        return weights.quantize_weight_by(weight, trained.qparams())
    return weights.quantize_weight(weight, _weight_observer(node, op))


def _weight_observer(node: fx.Node, op: Op) -> Any:
    if op.name == "channel_affine":
        # One factor a channel: its own scale represents it exactly, whatever the qconfig does with kernels.
        return PerChannelMinMaxObserver(dtype="qint8", qscheme="per_channel_symmetric", ch_axis=0, eps=SMALLEST_SCALE)
    observer = node.meta["qconfig"].weight()
    observer.label, observer.source = f"{facts.where(node)}.weight", facts.source(node)
    return observer


def _input_key(run: _Conversion, op: Op, node: fx.Node) -> str:
    return run.keys[observed(arguments(op, node)[op.tensors[0]])]


def _corrected_bias(
    run: _Conversion, node: fx.Node, weight: Tensor, rounded: weights.QuantizedWeight, bias: Tensor | None, groups: int
) -> Tensor | None:
    statistics = _statistics(run, node)
    if statistics is None or not run.recovery.bias_correction:
        return bias
    shift = weights.bias_shift(weight, rounded, statistics.mean(), groups)
    _note(node, "bias corrected")
    return shift if bias is None else bias.double() + shift


def _store_weight(run: _Conversion, weight_path: str, rounded: weights.QuantizedWeight) -> fx.Node:
    """The dequantize node of a stored int8 weight; equal weights of a reused module are stored once."""
    base = _stored(run, "weight", weight_path, (rounded.values, rounded.scale, rounded.zero_point))
    return _dequantized(run, base, rounded.axis)


def _decoded(run: _Conversion, weight_path: str, stored: StoredWeight) -> fx.Node:
    """The node that decodes a stored weight."""
    tensors = stored.codes, stored.scale, stored.zero_point
    base, graph = _stored(run, "weight", weight_path, tensors), run.gm.graph
    given: dict[str, Any] = {} if stored.packed is None else {"shape": stored.packed}
    with graph.inserting_before(next(iter(graph.nodes))):
        paths = [None if t is None else base + suffix for t, suffix in zip(tensors, _SUFFIXES, strict=True)]
        operands = tuple(None if path is None else graph.get_attr(path) for path in paths)
        return graph.call_function(qdq.decode_weight, operands, given)


def _store_bias(run: _Conversion, weight_path: str, bias: Tensor, scale: Tensor) -> fx.Node:
    base = _stored(run, "bias", _bias_path(weight_path), (bias, scale, torch.zeros_like(bias, dtype=torch.int64)))
    return _dequantized(run, base, 0)


def _store_float_bias(run: _Conversion, weight_path: str, bias: Tensor) -> fx.Node:
    base = _stored(run, "bias", _bias_path(weight_path), (bias.float(), None, None))
    with run.gm.graph.inserting_before(next(iter(run.gm.graph.nodes))):
        return run.gm.graph.get_attr(base)


def _bias_path(weight_path: str) -> str:
    prefix = weight_path.rpartition(".")[0]
    return f"{prefix}.bias" if prefix else "bias"


_SUFFIXES = ("", "_scale", "_zero_point")


def _stored(run: _Conversion, role: str, wanted: str, tensors: tuple[Tensor | None, ...]) -> str:
    """Where integers, scale and zero point of ``wanted`` are: over the float tensor, or beside it if that is taken."""
    key = (role, wanted, *(None if t is None else bytes_of(t) for t in tensors))
    if key not in run.weights:
        free = wanted
        while free in run.weights.values() or not _is_replaceable(run.gm, free):
            free += "_int8"
        run.weights[key] = free
        for suffix, tensor in zip(_SUFFIXES, tensors, strict=True):
            if tensor is not None:
                set_buffer(run.gm, free + suffix, tensor)
    return run.weights[key]


def _is_replaceable(gm: fx.GraphModule, wanted: str) -> bool:
    """Whether a stored parameter may go to ``wanted``: no other use needs what is there, nor its companions' names."""
    if any(has_attribute(gm, wanted + suffix) for suffix in _SUFFIXES[1:]):
        return False
    if is_tensor(gm, wanted):
        readers = [(n, u) for n in gm.graph.find_nodes(op="get_attr") if n.target == wanted for u in n.users]
        return all(_reads_as_parameter(user, node) for node, user in readers)
    owner, _, name = wanted.rpartition(".")
    return is_free(gm, owner, name) if owner else not has_attribute(gm, name)


def _reads_as_parameter(user: fx.Node, node: fx.Node) -> bool:
    """Whether conversion replaces this use of a parameter: as weight or bias of an int8 layer, and as nothing else."""
    op, kind = op_of(user), decision_of(user).kind
    if op is None or kind not in ("int8", "dynamic", "weight_only") or node in activations(op, user):
        return False
    if op.matrices:
        return kind != "weight_only" and node in matrices(op, user).values()
    if not op.weights:
        return False
    return kind == "int8" or INPUT_STATISTICS in user.meta or arguments(op, user).get("bias") is not node


def _dequantized(run: _Conversion, base: str, axis: int | None) -> fx.Node:
    graph = run.gm.graph
    first = next(iter(graph.nodes))
    with graph.inserting_before(first):
        code, scale, zero = (graph.get_attr(base + suffix) for suffix in _SUFFIXES)
        return graph.call_function(qdq.dequantize, (code, scale, zero), {"axis": axis})


def _set_operand(run: _Conversion, op: Op, node: fx.Node, name: str, value: fx.Node) -> None:
    names = list(arguments(op, node))
    position = names.index(name)
    args = list(node.args) + [None] * (position + 1 - len(node.args))
    args[position] = value
    node.args = tuple(args)
    node.kwargs = {k: v for k, v in node.kwargs.items() if k != name}


def _make_dynamic(run: _Conversion, op: Op, node: fx.Node) -> None:
    """Quantize the layer's input per call, with qparams from the values at hand."""
    x = arguments(op, node)[op.tensors[0]]
    qconfig = node.meta["qconfig"]
    given = {"reduce_range": False, "per_row": qconfig.per_row}
    if qconfig.input_group is not None:
        given["group_size"] = qconfig.input_group
    with run.gm.graph.inserting_before(node):
        rounded = run.gm.graph.call_function(requantize_dynamic, (x,), given)
    rounded.meta.update(place(node))
    _set_operand(run, op, node, op.tensors[0], rounded)
