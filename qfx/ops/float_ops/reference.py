"""Float references of the ops that stay float inside the program: normalizations, softmax, div."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def softmax(x: Tensor, *, dim: int) -> Tensor:
    """``exp(x) / sum(exp(x))`` along ``dim``."""
    return torch.softmax(x, dim)


def causal_softmax(x: Tensor) -> Tensor:
    """Softmax along the last dim of what is on or below the diagonal of the last two dims; zero above it.

    In graphs of older files only: what made it is attention now.
    """
    above = torch.ones(x.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
    return torch.softmax(x.masked_fill(above, -torch.inf), -1)


def log_softmax(x: Tensor, *, dim: int) -> Tensor:
    """``log(softmax(x))`` along ``dim``."""
    return torch.log_softmax(x, dim)


def layer_norm(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    normalized_shape: Sequence[int],
    eps: float,
) -> Tensor:
    """Zero mean, unit variance over the trailing ``normalized_shape`` dims, then ``* weight + bias``."""
    return F.layer_norm(x, list(normalized_shape), weight, bias, eps)


def rms_norm(x: Tensor, weight: Tensor | None = None, *, normalized_shape: Sequence[int], eps: float) -> Tensor:
    """Unit mean square over the trailing ``normalized_shape`` dims, then ``* weight``."""
    return F.rms_norm(x, list(normalized_shape), weight, eps)


def group_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, *, groups: int, eps: float
) -> Tensor:
    """Zero mean, unit variance per image and group of channels of ``[N, C, ...]``, then ``* weight[c] + bias[c]``."""
    return F.group_norm(x, groups, weight, bias, eps)


def instance_norm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, *, eps: float) -> Tensor:
    """Zero mean, unit variance per image and channel of ``[N, C, *spatial]``, then ``* weight[c] + bias[c]``."""
    return F.instance_norm(x, None, None, weight, bias, True, 0.0, eps)


def div(x: Tensor, y: Tensor) -> Tensor:
    """``x / y`` with broadcasting."""
    return torch.div(x, y)
