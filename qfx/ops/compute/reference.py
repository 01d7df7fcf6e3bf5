"""Float references of the ops that multiply and add: conv, linear, channel affine, matmul, tensor arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from qfx.errors import InputError

Activation: TypeAlias = tuple[str, float | None, float | None] | None
"""The clamp epilogue: ``("clamp", low, high)``, a bound of None being open. ReLU is ``("clamp", 0.0, None)``."""


def activate(y: Tensor, activation: Activation) -> Tensor:
    """``y`` after the clamp epilogue. NaN stays NaN; the gradients are those of relu and hardtanh."""
    if activation is None:
        return y
    kind, low, high = activation
    if kind != "clamp":
        raise InputError(f"{kind!r} is not an activation epilogue.", remedy='Use ("clamp", low, high).')
    if low is None and high is None:
        return y
    if low == 0.0 and high is None:
        return torch.relu(y)
    if low is not None and high is not None and low <= high:
        return F.hardtanh(y, low, high)
    return torch.clamp(y, low, high)


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    *,
    stride: Sequence[int],
    padding: Sequence[Sequence[int]],
    dilation: Sequence[int],
    groups: int,
    activation: Activation = None,
) -> Tensor:
    """Convolution over 1 to 3 spatial dims, then the residual, then the activation.

    Args:
        x: ``[N, C, *spatial]`` or unbatched ``[C, *spatial]``.
        weight: ``[O, C / groups, *kernel]``.
        bias: ``[O]``.
        residual: Shaped as the result.
        stride: One int a spatial dim.
        padding: ``(low, high)`` a spatial dim.
        dilation: One int a spatial dim.
        groups: Channel groups.
        activation: The clamp epilogue.

    Raises:
        InputError: ``stride``, ``padding`` or ``dilation`` does not fit the weight's rank.
    """
    spatial = weight.dim() - 2
    if spatial not in _CONVS or not len(stride) == len(padding) == len(dilation) == spatial:
        raise InputError(
            f"conv with a rank-{weight.dim()} weight got stride {tuple(stride)}, padding {tuple(padding)}, "
            f"dilation {tuple(dilation)}.",
            remedy="Give one stride, one (low, high) padding and one dilation a spatial dim, 1 to 3 of them.",
        )
    symmetric = [low for low, _ in padding]
    if any(low != high for low, high in padding):
        x = F.pad(x, [side for pair in reversed(padding) for side in pair])
        symmetric = [0] * spatial
    y = _CONVS[spatial](x, weight, bias, list(stride), symmetric, list(dilation), groups)
    return activate(y if residual is None else y + residual, activation)


_CONVS = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}


def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    *,
    activation: Activation = None,
) -> Tensor:
    """``x @ weight.T + bias`` over the last dim, then the residual, then the activation.

    Args:
        x: ``[..., C]``.
        weight: ``[O, C]``.
        bias: ``[O]``.
        residual: Shaped as the result, ``[..., O]``.
        activation: The clamp epilogue.
    """
    y = F.linear(x, weight, bias)
    return activate(y if residual is None else y + residual, activation)


def channel_affine(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, activation: Activation = None) -> Tensor:
    """``x * weight[c] + bias[c]`` along dim 1 of ``[N, C, ...]``: a batch norm that stands alone."""
    if x.dim() < 2:
        raise InputError(
            f"channel_affine needs [N, C, ...], got rank {x.dim()}.",
            remedy="Pass it a batch of values with channels in dim 1.",
        )
    shape = [1, -1] + [1] * (x.dim() - 2)
    y = x * weight.reshape(shape)
    return activate(y if bias is None else y + bias.reshape(shape), activation)


def matmul(x: Tensor, y: Tensor, *, factor: float = 1.0, activation: Activation = None) -> Tensor:
    """``x @ y * factor``, then the activation.

    Args:
        x: ``[..., m, k]`` or ``[k]``.
        y: ``[..., k, n]`` or ``[k]``; batch dims broadcast, as in ``torch.matmul``.
        factor: Of the product, such as an attention's ``1 / sqrt(k)``.
        activation: The clamp epilogue.
    """
    product = torch.matmul(x, y)
    return activate(product if factor == 1.0 else product * factor, activation)


def add(x: Tensor, y: Tensor, *, activation: Activation = None) -> Tensor:
    """``x + y`` with broadcasting."""
    return activate(torch.add(x, y), activation)


def sub(x: Tensor, y: Tensor, *, activation: Activation = None) -> Tensor:
    """``x - y`` with broadcasting."""
    return activate(torch.sub(x, y), activation)


def mul(x: Tensor, y: Tensor, *, activation: Activation = None) -> Tensor:
    """``x * y`` with broadcasting."""
    return activate(torch.mul(x, y), activation)
