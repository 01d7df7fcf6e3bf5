"""torch's fused transformer kernel, which reads float weights."""

from __future__ import annotations

from torch import nn


def leave_fast_path(module: nn.Module) -> None:
    """Keep it away from a layer that has no float weights any more."""
    if isinstance(module, nn.TransformerEncoderLayer) and not (
        type(module.linear1) is nn.Linear
        and type(module.linear2) is nn.Linear
        and isinstance(module.self_attn, nn.MultiheadAttention)
    ):
        module.activation_relu_or_gelu = 0
