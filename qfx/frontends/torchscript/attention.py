"""Attention layers that a graph holds whole, made anew from what a scripted module kept of them.

TorchScript keeps the numbers that their code reads, as it does not for recurrent layers; a trace keeps none. Layers
without biases are not scripted by torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import nn

_RELU, _GELU = 1, 2
"""What ``TransformerEncoderLayer.activation_relu_or_gelu`` says."""


def rebuilt_attention(module: Any, kind: type[nn.Module]) -> nn.Module | None:
    """A plain layer, not yet with the weights, that computes what ``module``, of class ``kind``, does.

    None for other classes, for a trace, and for an activation that is neither ReLU nor GELU.
    """
    make = next((make for base, make in _MAKERS.items() if issubclass(kind, base)), None)
    try:
        return make(module) if make is not None else None
    except AttributeError:  # a trace has no constants
        return None


def _attention(module: Any) -> nn.Module:
    return nn.MultiheadAttention(
        module.embed_dim, module.num_heads, add_bias_kv="bias_k" in dict(module.named_parameters()),
        add_zero_attn=module.add_zero_attn, kdim=module.kdim, vdim=module.vdim, batch_first=module.batch_first,
    )  # fmt: skip


def _encoder_layer(module: Any) -> nn.TransformerEncoderLayer | None:
    attention, activation = module.self_attn, _activation(module)
    if activation is None:
        return None
    return nn.TransformerEncoderLayer(
        attention.embed_dim, attention.num_heads, module.linear1.weight.shape[0], module.dropout.p, activation,
        module.norm1.eps, attention.batch_first, module.norm_first,
    )  # fmt: skip


def _activation(module: Any) -> Callable[..., Any] | None:
    kind, layer = module.activation_relu_or_gelu, dict(module.named_children()).get("activation")
    if kind == _GELU:
        return F.gelu if layer is None else nn.GELU(layer.approximate)
    return F.relu if kind == _RELU else None


def _encoder(module: Any) -> nn.Module | None:
    children = dict(module.named_children())
    made_anew = [_encoder_layer(layer) for layer in children["layers"].children()]
    layers = [layer for layer in made_anew if layer is not None]
    if not layers or len(layers) < len(made_anew):
        return None
    norm = children.get("norm")
    ended = nn.LayerNorm(tuple(norm.normalized_shape), norm.eps, bias=hasattr(norm, "bias")) if norm else None
    made = nn.TransformerEncoder(layers[0], 0, ended, module.enable_nested_tensor, module.mask_check)
    made.layers, made.num_layers = nn.ModuleList(layers), len(layers)
    return made


_MAKERS: Mapping[type[nn.Module], Callable[[Any], nn.Module | None]] = {
    nn.MultiheadAttention: _attention,
    nn.TransformerEncoderLayer: _encoder_layer,
    nn.TransformerEncoder: _encoder,
}
