"""Batch normalization with fixed statistics, folded into the layer before it; the same numbers as in graph mode."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from qfx.errors import ConversionError
from qfx.ir.computed import baked
from qfx.ops.compute.spellings import batch_norm
from qfx.ops.terms import Attr
from qfx.patterns.rules.batch_norm import scale_bias, scale_weight

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def affine_of(norm: Any) -> tuple[Tensor, Tensor]:
    """``(scale, shift)``, each ``[C]``: what the batch norm ``norm`` does in evaluation is ``x * scale + shift``.

    Raises:
        ConversionError: It keeps no running statistics.
    """
    if norm.running_mean is None or norm.running_var is None:
        raise ConversionError(
            f"{type(norm).__name__} without running statistics can't be folded.",
            why="It normalizes by each batch's own mean and variance, in evaluation too.",
            remedy="Construct it with track_running_stats=True, or leave it out of the fusion.",
        )
    operands = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    mean, var, weight, bias = (None if t is None else t.detach() for t in operands)
    term = batch_norm(Attr("input"), mean, var, weight, bias, eps=norm.eps)
    scale, shift = (folded.compute(*folded.operands) for folded in term.args[1:])
    return scale, shift


def fold_batch_norm(layer: nn.Module, norm: nn.Module) -> nn.Module:
    """A copy of the convolution or linear ``layer`` that does what ``layer`` and then ``norm`` do in evaluation.

    Computed in float64 and rounded once, as graph mode folds.

    Raises:
        ConversionError: The channel counts differ, or ``norm`` keeps no running statistics.
    """
    folded: Any = deepcopy(baked(layer))
    scale, shift = affine_of(norm)
    if scale.shape[0] != folded.weight.shape[0]:
        raise ConversionError(
            f"A {type(norm).__name__} of {scale.shape[0]} channels can't be folded into a {type(layer).__name__} of "
            f"{folded.weight.shape[0]}.",
            remedy="Fuse a batch norm with the layer whose output it normalizes.",
        )
    with torch.no_grad():
        bias = None if folded.bias is None else folded.bias.detach()
        folded.weight = nn.Parameter(scale_weight(folded.weight.detach(), scale))
        folded.bias = nn.Parameter(scale_bias(bias, scale, shift))
    return folded
