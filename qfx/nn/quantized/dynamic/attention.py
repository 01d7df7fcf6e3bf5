"""Multi-head attention whose projections quantize their inputs at each call; scores and mixing are float32."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qfx.arguments import checked
from qfx.errors import InputError
from qfx.memory import require_regular
from qfx.nn.quantized.dynamic.linear import Linear
from qfx.nn.quantized.dynamic.served import ServedWeight
from qfx.nn.quantized.dynamic.weights import require_class

Made = TypeVar("Made", bound="MultiheadAttention")
_INPUTS = ("linear_Q", "linear_K", "linear_V")


class MultiheadAttention(nn.Module):
    """``torch.nn.MultiheadAttention`` with dynamic linear layers, float32 in and out.

    State: that of ``linear_Q``, ``linear_K``, ``linear_V`` and ``out_proj``, each a :class:`Linear`; ``bias_k`` and
    ``bias_v`` float32 ``[1, 1, embed_dim]`` if they are there.

    Args:
        embed_dim, num_heads, dropout, bias, add_bias_kv, add_zero_attn, kdim, vdim, batch_first: As of the float layer.
        dtype: Of the weights: ``qfx.qint8`` or ``torch.float16``.

    Raises:
        InputError: The heads do not divide the features.
    """

    bias_k: Tensor | None
    bias_v: Tensor | None

    @checked
    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        **weights: Any,
    ) -> None:
        super().__init__()
        if num_heads < 1 or embed_dim % num_heads:
            raise InputError(f"{num_heads} heads can't share {embed_dim} features.", remedy="Pass a divisor of them.")
        if not 0.0 <= dropout <= 1.0:
            raise InputError(f"dropout={dropout} is no probability.", remedy="Pass one from 0 to 1.")
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim, self.vdim = kdim or embed_dim, vdim or embed_dim
        self.dropout, self.add_zero_attn, self.batch_first = dropout, add_zero_attn, batch_first
        self._qkv_same_embed_dim = self.kdim == embed_dim and self.vdim == embed_dim
        for name, features in zip(_INPUTS, (embed_dim, self.kdim, self.vdim), strict=True):
            self.add_module(name, Linear(features, embed_dim, bias, **weights))
        self.out_proj = Linear(embed_dim, embed_dim, bias, **weights)
        with torch.inference_mode(False):
            for name in ("bias_k", "bias_v"):
                self.register_buffer(name, torch.zeros(1, 1, embed_dim, device="cpu") if add_bias_kv else None)

    @classmethod
    def from_float(cls: type[Made], mod: nn.Module) -> Made:
        """The quantized version of a float layer, weights as its qconfig says (without one: int8, a scale a row).

        Raises:
            ConversionError: ``mod`` is of another class, or its weights can't be quantized as its qconfig asks.
        """
        require_class(cls, mod, (nn.MultiheadAttention,))
        layer: Any = mod
        made = cls(
            layer.embed_dim, layer.num_heads, layer.dropout, layer.in_proj_bias is not None, layer.bias_k is not None,
            layer.add_zero_attn, layer.kdim, layer.vdim, layer.batch_first,
        )  # fmt: skip
        packed = layer.in_proj_weight
        own = (layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight)
        weights = own if packed is None else packed.detach().chunk(3)
        biases = (None,) * 3 if layer.in_proj_bias is None else layer.in_proj_bias.detach().chunk(3)
        for name, weight, bias in zip(_INPUTS, weights, biases, strict=True):
            made.add_module(name, _linear(mod, weight, bias))
        made.out_proj = _linear(mod, layer.out_proj.weight, layer.out_proj.bias)
        with torch.no_grad(), torch.inference_mode(False):
            for name in ("bias_k", "bias_v") if layer.bias_k is not None else ():
                setattr(made, name, getattr(layer, name).detach().to("cpu", torch.float32, copy=True))
        return made.train(mod.training)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As the float layer: ``(output, weights)``, weights None unless ``need_weights``.

        Raises:
            InputError: Inputs that do not fit the layer or each other.
        """
        _require_sequences(query, key, value)
        batched = query.dim() == 3
        if is_causal and attn_mask is None:
            raise InputError("is_causal comes without attn_mask.", remedy="Pass the causal mask as attn_mask, too.")
        if not batched:
            query, key, value = (x.unsqueeze(0) for x in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        heads = [self._heads(name, x) for name, x in zip(_INPUTS, (query, key, value), strict=True)]
        mask = self._mask(attn_mask, key_padding_mask, heads[0], heads[1].shape[2])
        mixed, weights = self._mixed(self._extended(heads), mask, need_weights)
        y = self.out_proj(mixed.transpose(1, 2).flatten(2))
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        if not batched:
            return y.squeeze(0), None if weights is None else weights.squeeze(0)
        return y if self.batch_first else y.transpose(0, 1), weights

    @property
    def in_proj_weight(self) -> Tensor | None:
        """The three input projections' weights as the float layer has them, one below the other; None where they differ
        in their features."""
        if not self._qkv_same_embed_dim:
            return None

        def values() -> Tensor:
            return torch.cat([layer._float_weight() for layer in self._inputs()])

        return ServedWeight((3 * self.embed_dim, self.embed_dim), values, values)

    @property
    def in_proj_bias(self) -> Tensor | None:
        """The three input projections' biases as the float layer has them, one after the other, or None."""
        stored = [layer._buffers.get("bias") for layer in self._inputs()]
        return torch.cat([b for b in stored if b is not None]) if stored[0] is not None else None

    def extra_repr(self) -> str:
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, batch_first={self.batch_first}"

    def _inputs(self) -> list[Linear]:
        return [getattr(self, name) for name in _INPUTS]

    def _heads(self, name: str, x: Tensor) -> Tensor:
        """Projected by the layer ``name``: ``[batch, heads, length, head_dim]``."""
        projected: Tensor = getattr(self, name)(x)
        return projected.view(*projected.shape[:2], self.num_heads, self.head_dim).transpose(1, 2)

    def _extended(self, heads: list[Tensor]) -> list[Tensor]:
        """Queries, keys and values, the latter with the learned one and zeros behind them where the layer adds them."""
        query, *rest = heads
        for index, bias in enumerate((self.bias_k, self.bias_v)):
            parts, one = [rest[index]], (query.shape[0], self.num_heads, 1, self.head_dim)
            if bias is not None:
                parts.append(bias.view(1, self.num_heads, 1, self.head_dim).expand(one))
            if self.add_zero_attn:
                parts.append(query.new_zeros(one))
            rest[index] = torch.cat(parts, 2) if len(parts) > 1 else rest[index]
        return [query, *rest]

    def _mask(self, scores: Tensor | None, padding: Tensor | None, query: Tensor, keys: int) -> Tensor | None:
        """What is added to the scores, for all keys that :meth:`_extended` makes; None for nothing."""
        batch, _, length, _ = query.shape
        added = None
        if scores is not None:
            added = _additive("attn_mask", scores, (length, keys), (batch * self.num_heads, length, keys))
            added = added if added.dim() == 2 else added.view(batch, self.num_heads, length, keys)
        if padding is not None:
            per_key = _additive("key_padding_mask", padding, (batch, keys)).view(batch, 1, 1, keys)
            added = per_key if added is None else added + per_key
        if added is None:
            return None
        return F.pad(added, (0, int(self.bias_k is not None) + int(self.add_zero_attn)))

    def _mixed(self, heads: list[Tensor], mask: Tensor | None, need_weights: bool) -> tuple[Tensor, Tensor | None]:
        query, key, value = heads
        dropout = self.dropout if self.training else 0.0
        if not need_weights:
            return F.scaled_dot_product_attention(query, key, value, mask, dropout), None
        scores = query @ key.transpose(-1, -2) / math.sqrt(self.head_dim)
        weights = (scores if mask is None else scores + mask).softmax(-1)
        weights = F.dropout(weights, dropout) if dropout else weights
        return weights @ value, weights


def _require_sequences(query: Tensor, key: Tensor, value: Tensor) -> None:
    """Raise unless the three are sequences of one rank, keys and values of one length and batch."""
    given = (query, key, value)
    for x in given:
        if isinstance(x, Tensor) and not torch.compiler.is_dynamo_compiling():
            require_regular(x, "A sequence")
    tensors = all(isinstance(x, Tensor) for x in given)
    if not tensors or query.dim() not in (2, 3) or {x.dim() for x in given} != {query.dim()}:
        shown = ", ".join(str(tuple(x.shape)) if isinstance(x, Tensor) else type(x).__name__ for x in given)
        raise InputError(
            f"MultiheadAttention got {shown}.", remedy="Pass query, key and value as three tensors of rank 3, or of 2."
        )
    if key.shape[:-1] != value.shape[:-1]:
        raise InputError(
            f"Keys {tuple(key.shape)} and values {tuple(value.shape)} do not go together.",
            remedy="Pass as many values as keys.",
        )


def _additive(name: str, mask: Tensor, *shapes: tuple[int, ...]) -> Tensor:
    """A mask as float32 to add to scores: a boolean one has minus infinity where it is True."""
    if not isinstance(mask, Tensor) or tuple(mask.shape) not in shapes:
        given = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise InputError(f"{name} is {given}.", remedy=f"Pass a tensor of shape {' or '.join(map(str, shapes))}.")
    if mask.dtype is not torch.bool:
        return mask.to(torch.float32)
    return torch.zeros_like(mask, dtype=torch.float32).masked_fill(mask, -torch.inf)


def _linear(attention: Any, weight: Tensor, bias: Tensor | None) -> Linear:
    layer: Any = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    layer.qconfig = getattr(attention, "qconfig", None)
    return Linear.from_float(layer.train(attention.training))
