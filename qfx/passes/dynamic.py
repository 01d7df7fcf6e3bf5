"""Layers with a dynamic qconfig: what becomes of each, and recurrent ones and embeddings swapped for modules.

Neither is an op of the table: in the graph it stays a call of a module, which runs a program of its own.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from qfx.errors import ConversionError
from qfx.frontends.leaves import builtin_base
from qfx.ir.attributes import attribute, set_buffer
from qfx.ir.nodes import Decision, decision_of, path
from qfx.ir.types import QDType
from qfx.ops.calls import arguments
from qfx.ops.extents import extent_of
from qfx.ops.table import Op, op_of
from qfx.passes.weight_only import HALVES, by_groups, decide_groups, decide_weight_only, describe_groups
from qfx.patterns.replacement import tensor_of
from qfx.quantization.mappings import known_layers
from qfx.quantization.qconfig import QConfig
from qfx.runtime.limits import MOST_FEATURES

_PER_CALL = "dynamic qconfig: weights int8, activations quantized per call, one scale"
_LOOKED_UP = Decision("dynamic", "dynamic qconfig: weights int8, looked up as float32")
_TABLES = (nn.Embedding, nn.EmbeddingBag)
_LINEAR = (nn.Linear, nn.MultiheadAttention)
_EVERY_MODEL = '""'
"""The rule that names no layer."""
_SMALL = 1 / 64
"""A table of rows that is less of the weights stays float, unless the qconfig names it."""
_BY_GROUPS = (
    "weights with a scale a group are for linear layers and tables, and for float activations or activations by groups"
)
_INPUT_GROUPS = "activations with a scale a group are for linear layers"
STORED = "weights stored as {}, arithmetic in float32"
"""What becomes of layers with weights of 16 bits."""
_NARROW_ROWS = "weights stored as {}, looked up as float32"


def decide_linear(op: Op, node: fx.Node, qconfig: QConfig) -> Decision:
    """What a dynamic qconfig makes of an op of the table."""
    if op.name != "linear":
        return Decision("float", f"a dynamic qconfig quantizes linear and recurrent layers only, not {op.name}")
    if qconfig.input_group is not None:
        return _decide_input_groups([extent_of(arguments(op, node)[op.weights[0]], 1)], qconfig)
    if qconfig.by_groups or qconfig.weight().dtype in HALVES:
        return decide_weight_only(op, node, qconfig) if qconfig.weight_only else Decision("float", _BY_GROUPS)
    return decide_weights(qconfig, STORED)


def takes_linear(qconfig: QConfig, features: int) -> bool:
    """Whether a qconfig is dynamic, or for weights alone, and quantizes a linear layer of so many features."""
    if not qconfig.is_dynamic:
        return False
    weight: Any = qconfig.weight()
    if qconfig.input_group is not None:
        return _decide_input_groups([features], qconfig).kind == "dynamic"
    if qconfig.by_groups:
        return qconfig.weight_only and (weight.group_size is None or features % weight.group_size == 0)
    return weight.dtype is QDType.qint8 or weight.dtype in HALVES


def _decide_input_groups(widths: Sequence[int | None], qconfig: QConfig) -> Decision:
    """What a qconfig whose activations have a scale a group makes of linear layers with so many features."""
    observer, size = qconfig.weight(), qconfig.input_group
    if observer.dtype is not QDType.qint8:
        return Decision("float", f"activations with a scale a group are for integer weights, not {observer.dtype}")
    stored = "weights int8"
    if qconfig.by_groups:
        decision = decide_groups(widths, observer, looks_up=False)
        if decision.kind == "float":
            return decision
        if observer.group_size is not None and observer.group_size % size:
            return Decision("float", f"{observer.group_size} of its weights share a scale, no whole groups of {size}")
        stored = describe_groups(observer)
    per_call = f"activations quantized per call, one scale for {size} features of a row"
    return Decision("dynamic", f"dynamic qconfig: {stored}, {per_call}")


def _stores_groups(qconfig: QConfig) -> bool:
    """Whether tables, and the weights of linear layers, are stored by groups."""
    return qconfig.by_groups and (qconfig.weight_only or qconfig.input_group is not None)


def decide_table(op: Op, node: fx.Node) -> Decision:
    """What becomes of an op of the table that looks rows up."""
    qconfig = node.meta.get("qconfig")
    if qconfig is None:
        return Decision("float", f"its qconfig is None ({node.meta.get('qconfig_rule', 'no entry applies')})")
    if not qconfig.is_dynamic:
        return Decision("float", "a static qconfig keeps tables of rows in float")
    root, weight = node.graph.owning_module, arguments(op, node)[op.weights[0]]
    assert root is not None
    assert isinstance(weight, fx.Node)
    small = _kept_small(node, tensor_of(root, weight))
    if small is None and qconfig.by_groups:
        return decide_weight_only(op, node, qconfig) if _stores_groups(qconfig) else Decision("float", _BY_GROUPS)
    return small or decide_weights(qconfig, _NARROW_ROWS, nn.Embedding)


def _kept_small(node: fx.Node, table: Tensor) -> Decision | None:
    """Float for a table that would save little by being rounded, where the qconfig is that of the whole model."""
    if node.meta.get("qconfig_rule") != _EVERY_MODEL:
        return None
    root = node.graph.owning_module
    assert root is not None
    tensors = {id(t): t.numel() for t in (*root.parameters(), *root.buffers()) if t.is_floating_point()}
    share = table.numel() / max(1, sum(tensors.values()))
    if share >= _SMALL:
        return None
    saves = f"{node.meta['qconfig'].weight().bits} bits save" if by_groups(node) else "int8 saves"
    return Decision("float", f"its table is {share:.1%} of the weights: {saves} little there, and rounds each row")


def decide_module(node: fx.Node) -> Decision | None:
    """What a dynamic qconfig makes of the module that an opaque node calls; None where there is nothing to make."""
    qconfig = node.meta.get("qconfig")
    if node.op != "call_module" or "island_reason" in node.meta or not isinstance(qconfig, QConfig):
        return None
    if not qconfig.is_dynamic or layer_class(node.meta.get("module_class")) is None:
        return None
    root = node.graph.owning_module
    assert root is not None
    layer = as_base(root.get_submodule(path(node)))
    small = _kept_small(node, layer.weight) if isinstance(layer, _TABLES) else None
    return small or decide_layer(layer, qconfig)


def layer_class(cls: object) -> type[nn.Module] | None:
    """The class of torch that has a dynamic version and whose computation modules of ``cls`` perform, or None."""
    base = builtin_base(cls) if isinstance(cls, type) and issubclass(cls, nn.Module) else None
    return base if base in known_layers().dynamic else None


def decide_layer(layer: nn.Module, qconfig: QConfig) -> Decision:
    """What a dynamic qconfig makes of a layer of torch that has a dynamic version."""
    if getattr(layer, "max_norm", None) is not None:
        return Decision("float", "its max_norm changes its weight at every call")
    widths = [t.shape[1] for t in layer.parameters() if t.dim() == 2]
    widest = max(widths, default=0)
    if widest > MOST_FEATURES and _is_limited(layer, qconfig):
        kind = "linear layer in float16" if isinstance(layer, _LINEAR) else "recurrent layer"
        return Decision("float", f"it has {widest} features, and a dynamic {kind} takes {MOST_FEATURES} at most")
    if qconfig.input_group is not None and isinstance(layer, _LINEAR):
        return _decide_input_groups(widths, qconfig)
    if _stores_groups(qconfig) and isinstance(layer, (*_LINEAR, *_TABLES)):
        return decide_groups(widths, qconfig.weight(), looks_up=isinstance(layer, _TABLES))
    return decide_weights(qconfig, STORED, type(layer))


def _is_limited(layer: nn.Module, qconfig: QConfig) -> bool:
    """Whether kernels take a limited number of features of a layer."""
    if isinstance(layer, _LINEAR):
        return qconfig.weight_only
    return not isinstance(layer, _TABLES)


def swapped(layer: nn.Module, qconfig: QConfig) -> nn.Module:
    """The dynamic version of a layer of torch, which is not changed.

    Raises:
        ConversionError: A weight that can't be quantized as the qconfig asks.
    """
    made: nn.Module = known_layers().dynamic[type(layer)].from_float(_configured(layer, qconfig))
    return made


def decide_weights(qconfig: QConfig, of_half: str, cls: type = nn.Linear) -> Decision:
    """What a dynamic qconfig makes of a layer by the dtype of its weights; ``of_half`` says what 16 bits mean."""
    dtype = qconfig.weight().dtype
    if qconfig.input_group is not None and not issubclass(cls, _TABLES):
        return Decision("float", _INPUT_GROUPS)
    if qconfig.by_groups:
        return Decision("float", _BY_GROUPS)
    if dtype is QDType.qint8:
        per_call = Decision("dynamic", f"{_PER_CALL} {'a row' if qconfig.per_row else 'a tensor'}")
        return _LOOKED_UP if issubclass(cls, _TABLES) else per_call
    if dtype is torch.float16 or (dtype in HALVES and issubclass(cls, (*_LINEAR, *_TABLES))):
        return Decision("weight_only", f"dynamic qconfig: {of_half.format(HALVES[dtype])}")
    return Decision("float", f"its dynamic qconfig asks for {dtype} weights, which no layer of its kind takes")


def convert_layers(gm: fx.GraphModule) -> dict[int, nn.Module]:
    """Swap recurrent layers and embeddings where the decision is theirs.

    Returns:
        The new layers by the id of the float one.

    Raises:
        ConversionError: A weight that can't be quantized as its qconfig asks.
    """
    done: dict[int, nn.Module] = {}
    for node in gm.graph.nodes:
        kind, op = decision_of(node).kind, op_of(node)
        if op is None and kind in ("dynamic", "weight_only"):
            owner, _, name = path(node).rpartition(".")
            layers = gm.get_submodule(owner)._modules
            layer: Any = layers[name]
            if layer_class(type(layer)) is not None:  # else swapped already, for another call
                if id(layer) not in done:
                    done[id(layer)] = swapped(as_base(layer), node.meta["qconfig"])
                layers[name] = done[id(layer)]
        elif op is not None and kind == "weight_only" and op.matrices:
            given = arguments(op, node)
            for matrix in (given[name] for name in op.matrices if given[name] is not None):
                set_buffer(gm, path(matrix), rounded_to_half(attribute(gm, path(matrix)).detach(), path(matrix)))
    return done


def as_base(layer: nn.Module) -> nn.Module:
    """``layer`` as a module of the class of torch that it computes as, over the same tensors."""
    base = layer_class(type(layer))
    if base in (None, type(layer)):
        return layer
    plain = copy.copy(layer)
    plain.__class__ = base
    return plain


def _configured(layer: Any, qconfig: QConfig) -> Any:
    """``layer`` with ``qconfig``, over the same tensors; the user's own is not changed."""
    made = copy.copy(layer)
    made.__dict__["qconfig"] = qconfig
    return made


def rounded_to_half(value: Tensor, name: str, dtype: torch.dtype = torch.float16) -> Tensor:
    """``value`` in 16 bits, saturated, with a warning, where it is beyond them.

    Raises:
        ConversionError: It is not finite.
    """
    if not bool(value.isfinite().all()):
        raise ConversionError(f"{name} is not finite.", remedy="Repair the float model's weights.")
    largest = torch.finfo(dtype).max
    if bool((value.abs() > largest).any()):
        warnings.warn(
            f"{name} reaches {float(value.abs().max()):g}; {HALVES[dtype]} ends at {largest:g}, to which larger "
            "weights are clamped. dtype=qfx.qint8 keeps them.",
            stacklevel=2,
        )
    return value.clamp(-largest, largest).to(dtype)
