"""Adaptive rounding: weights rounded so that the layer's output on calibration data changes least."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from qfx.ops import arithmetic
from qfx.passes.weights import QuantizedWeight
from qfx.runtime import _C
from qfx.runtime.threads import default_threads

_LEAST_SHRINKAGE = 0.01


def round_adaptively(weight: Tensor, rounded: QuantizedWeight, moments: Tensor, samples: int) -> QuantizedWeight:
    """``rounded`` with integers chosen for least ``(w - dequantize(q))' H (w - dequantize(q))`` a channel.

    Coordinate descent from the nearest integers: every weight in turn takes the integer that is best while the others
    stay, so the error never grows. The objective is the layer-wise output error of Nagel et al., "Up or Down? Adaptive
    Rounding for Post-Training Quantization", 2020, equation 13; scales and zero points stay as they are.

    Args:
        weight: ``[O, C / groups, *kernel]``.
        rounded: The same, each weight rounded to its nearest integer.
        moments: ``H``, second moments of what the kernel sees, ``[groups, length, length]`` with
            ``length = C / groups * taps``.
        samples: What the moments are means of.
    """
    groups, length = moments.shape[:2]
    shrunk = shrink(moments, samples).contiguous()
    scale = arithmetic.expand_channel(rounded.scale, rounded.axis, weight.dim())
    zero_point = arithmetic.expand_channel(rounded.zero_point, rounded.axis, weight.dim())
    target = (weight.detach().float() / scale + zero_point).reshape(groups, -1, length).contiguous()
    codes = rounded.values.reshape(groups, -1, length).clone()
    _C.round_to_moments(target.numpy(), shrunk.numpy(), codes.numpy(), rounded.qmin, rounded.qmax, default_threads())
    return replace(rounded, values=codes.reshape(weight.shape))


def shrink(moments: Tensor, samples: int) -> Tensor:
    """Moments of a sample, ``[groups, n, n]``, moved towards a multiple of the identity: few samples overstate how
    inputs go together.

    The weight of the identity is Chen et al., "Shrinkage Algorithms for MMSE Covariance Estimation", 2010, equation 23
    (OAS), and never under 1 %.
    """
    n = moments.shape[1]
    trace = moments.diagonal(dim1=1, dim2=2).sum(1)
    squares = moments.square().sum((1, 2))
    spread = (samples + 1 - 2 / n) * (squares - trace.square() / n)
    ratio = ((1 - 2 / n) * squares + trace.square()) / spread.clamp_min(torch.finfo(torch.float32).tiny)
    share = ratio.clamp(_LEAST_SHRINKAGE, 1.0).reshape(-1, 1, 1)
    level = (trace / n).clamp_min(torch.finfo(torch.float32).eps ** 4).reshape(-1, 1, 1)
    return (1 - share) * moments + share * level * torch.eye(n)
