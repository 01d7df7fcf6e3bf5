"""Layers with a dynamic qconfig: what becomes of each, and recurrent ones swapped for modules that quantize by call.

A recurrent layer is no op of the table: in the graph it stays a call of a module, which runs a program of its own.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, fx

from qfx.ir.attributes import attribute, set_buffer
from qfx.ir.nodes import Decision, decision_of, path
from qfx.ir.types import QDType
from qfx.ops.calls import arguments
from qfx.ops.table import Op, op_of
from qfx.quantization.mappings import default_dynamic_mapping
from qfx.quantization.qconfig import QConfig
from qfx.runtime.limits import MOST_FEATURES

_PER_CALL = Decision("dynamic", "dynamic qconfig: weights int8, activations quantized per call")
_LARGEST = torch.finfo(torch.float16).max


def decide_linear(op: Op, qconfig: QConfig) -> Decision:
    """What a dynamic qconfig makes of an op of the table."""
    if op.name != "linear":
        return Decision("float", f"a dynamic qconfig quantizes linear and recurrent layers only, not {op.name}")
    return _decided(qconfig, "weights rounded to float16, arithmetic in float32")


def decide_module(node: fx.Node) -> Decision | None:
    """What a dynamic qconfig makes of the module that an opaque node calls; None where there is nothing to make."""
    qconfig = node.meta.get("qconfig")
    if node.op != "call_module" or "island_reason" in node.meta or not isinstance(qconfig, QConfig):
        return None
    if not qconfig.is_dynamic or node.meta.get("module_class") not in default_dynamic_mapping():
        return None
    widest = _most_features(node)
    if widest > MOST_FEATURES:
        return Decision(
            "float", f"it has {widest} features, and a dynamic recurrent layer takes {MOST_FEATURES} at most"
        )
    return _decided(qconfig, "weights stored as float16, arithmetic in float32")


def _most_features(node: fx.Node) -> int:
    """The most columns of a weight of the module that ``node`` calls."""
    root = node.graph.owning_module
    assert root is not None
    return max((t.shape[1] for t in root.get_submodule(path(node)).parameters() if t.dim() == 2), default=0)


def _decided(qconfig: QConfig, of_half: str) -> Decision:
    dtype = qconfig.weight().dtype
    if dtype is QDType.qint8:
        return _PER_CALL
    if dtype is torch.float16:
        return Decision("float16", f"dynamic qconfig: {of_half}")
    return Decision("float", f"its dynamic qconfig asks for {dtype} weights, which no layer takes")


def convert_layers(gm: fx.GraphModule) -> None:
    """Swap recurrent layers, and round the weights of linear ones, where the decision is theirs.

    Raises:
        ConversionError: A weight that can't be quantized as its qconfig asks.
    """
    mapping = default_dynamic_mapping()
    for node in gm.graph.nodes:
        kind, op = decision_of(node).kind, op_of(node)
        if op is None and kind in ("dynamic", "float16"):
            owner, _, name = path(node).rpartition(".")
            layers = gm.get_submodule(owner)._modules
            layer: Any = layers[name]
            if type(layer) in mapping:  # else swapped already, for another call
                layers[name] = mapping[type(layer)].from_float(_configured(layer, node.meta["qconfig"]))
        elif op is not None and kind == "float16":
            weight: Any = arguments(op, node)[op.weights[0]]
            set_buffer(gm, path(weight), _rounded(attribute(gm, path(weight))))


def _configured(layer: Any, qconfig: QConfig) -> Any:
    """``layer`` with ``qconfig``, over the same tensors; the user's own is not changed."""
    made = copy.copy(layer)
    made.__dict__["qconfig"] = qconfig
    return made


def _rounded(weight: Tensor) -> Tensor:
    return weight.detach().clamp(-_LARGEST, _LARGEST).to(torch.float16).to(torch.float32)
