"""Transposed convolutions as ordinary ones: every phase of the stride is a convolution, and all phases are one.

With stride s, y[s i + r] = sum_j x[i - j] w[s j + r]: the s phases r of the result are s convolutions of x, each with
the taps s j + r of the kernel, reversed. They run as one convolution with s times the channels, whose result is
interleaved (Shi et al., "Is the deconvolution layer the same as a convolutional layer?", 2016).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, fx, nn

from qfx.ops.compute.spellings import conv
from qfx.ops.extents import rank_of
from qfx.ops.spelling import Alias, aliases, aten, ntuple, require, require_tensor
from qfx.ops.terms import Attr, Folded, Shape, Term, term


@dataclass(frozen=True)
class Phases:
    """One spatial dim: what the convolution of all phases pads, and what is cut from the interleaved result.

    Attributes:
        taps: Length of the convolution's kernel.
        low, high: Padding of the input.
        start, trailing: Elements to drop at the ends of the interleaved result.
    """

    taps: int
    low: int
    high: int
    start: int
    trailing: int

    @classmethod
    def of(cls, kernel: int, stride: int, padding: int, output_padding: int, dilation: int) -> Phases:
        """The phases of a transposed convolution; ``output_padding`` as in ``nn.ConvTranspose2d``."""
        reach = dilation * (kernel - 1) + 1
        taps = -(-reach // stride)
        skipped = min(padding // stride, taps - 1)
        beyond = reach - 1 + output_padding - padding
        high = max(0, beyond // stride)
        return cls(taps, taps - 1 - skipped, high, padding - stride * skipped, stride * (high + 1) - 1 - beyond)


def phase_weight(weight: Tensor, groups: int, stride: tuple[int, ...], dilation: tuple[int, ...]) -> Tensor:
    """``[C_in, C_out / groups, *kernel]`` as the weight of all phases, ``[C_out * S, C_in / groups, *taps]``.

    ``S`` is the product of the strides. Channel ``o * S + r`` is phase ``r``, row-major over dims, of channel ``o``.
    """
    spatial = len(stride)
    for dim, (s, d) in enumerate(zip(stride, dilation, strict=True), 2):
        reach = d * (weight.shape[dim] - 1) + 1
        spread = weight.new_zeros(*weight.shape[:dim], -(-reach // s) * s, *weight.shape[dim + 1 :])
        spread.narrow(dim, 0, reach).movedim(dim, 0)[::d] = weight.movedim(dim, 0)
        weight = spread
    split = [n for size, s in zip(weight.shape[2:], stride, strict=True) for n in (size // s, s)]
    parts = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], *split)
    taps, phases = range(3, 3 + 2 * spatial, 2), range(4, 4 + 2 * spatial, 2)
    ordered = parts.flip(tuple(taps)).permute(0, 2, *phases, 1, *taps)
    shape = (-1, parts.shape[1], *split[::2])
    return ordered.reshape(shape).contiguous()


def _phase_bias(bias: Tensor, phases: int) -> Tensor:
    return bias.repeat_interleave(phases)


def _interleave(phased: Term, x: Any, stride: tuple[int, ...], dims: tuple[Phases, ...], channels: int) -> Term:
    """The phases, channels of ``phased``, put between each other."""
    spatial = len(stride)
    if spatial == 2 and stride[0] == stride[1]:
        return term("pixel_shuffle", phased, factor=stride[0])
    shape = Shape(x)
    lengths = [_plus(shape[2 + i], p.low + p.high - p.taps + 1) for i, p in enumerate(dims)]
    split = term("reshape", phased, (shape[0], channels, *stride, *lengths))
    order = [n for i in range(spatial) for n in (2 + spatial + i, 2 + i)]
    joined = tuple(_times(length, s) for length, s in zip(lengths, stride, strict=True))
    return term("reshape", term("permute", split, dims=(0, 1, *order)), (shape[0], channels, *joined))


def _plus(length: Any, amount: int) -> Any:
    return length + amount if isinstance(length, int) else Term(operator.add, (length, amount)) if amount else length


def _times(length: Any, factor: int) -> Any:
    return length * factor if isinstance(length, int) else Term(operator.mul, (length, factor))


def _transposed(
    input: Any,
    weight: Any,
    bias: Any,
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    output_padding: tuple[int, ...],
    groups: int,
    dilation: tuple[int, ...],
) -> Term:
    if rank_of(input) == len(stride) + 1:
        one = term("unsqueeze", input, dim=0)
        y = _transposed(one, weight, bias, shape, stride, padding, output_padding, groups, dilation)
        return term("squeeze", y, dim=0)
    fits = all(o < max(s, d) for o, s, d in zip(output_padding, stride, dilation, strict=True))
    require(fits, "its output_padding is neither smaller than the stride nor than the dilation")
    given = zip(shape[2:], stride, padding, output_padding, dilation, strict=True)
    dims = tuple(Phases.of(*amounts) for amounts in given)
    count = math.prod(stride)
    folded = Folded("weight", partial(phase_weight, groups=groups, stride=stride, dilation=dilation), (weight,))
    shift = None if bias is None else Folded("bias", partial(_phase_bias, phases=count), (bias,))
    ones = (1,) * len(stride)
    y = term("conv", input, folded, shift, stride=ones, padding=tuple((p.low, p.high) for p in dims), dilation=ones,
             groups=groups)  # fmt: skip
    if count > 1:
        y = _interleave(y, input, stride, dims, shape[1] * groups)
    for dim, p in enumerate(dims, 2):
        if p.start or p.trailing:
            y = term("slice", y, dim=dim, start=p.start, end=-p.trailing if p.trailing else None, step=1)
    return y


def conv_transpose(
    spatial: int, input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Term:  # fmt: skip
    """``F.conv_transpose{spatial}d``."""
    require_tensor(input)
    constant = all(isinstance(t, fx.Node) and t.op == "get_attr" for t in (weight, bias) if t is not None)
    require(constant and "shape" in weight.meta, "its weight is computed from activations")
    return _transposed(
        input, weight, bias, tuple(weight.meta["shape"]), ntuple(stride, spatial), ntuple(padding, spatial),
        ntuple(output_padding, spatial), groups, ntuple(dilation, spatial),
    )  # fmt: skip


def conv_transpose_module(module: Any, input: Any, output_size: Any = None) -> Term:
    """``nn.ConvTranspose{1,2,3}d``."""
    require_tensor(input)
    require(output_size is None, "its output_size is given in the call")
    bias = Attr("bias") if module.bias is not None else None
    return _transposed(
        input, Attr("weight"), bias, tuple(module.weight.shape), tuple(module.stride), tuple(module.padding),
        tuple(module.output_padding), module.groups, tuple(module.dilation),
    )  # fmt: skip


_ROWS: tuple[tuple[int, tuple[Callable[..., Any], ...], type[nn.Module]], ...] = (
    (1, (F.conv_transpose1d,), nn.ConvTranspose1d),
    (2, (F.conv_transpose2d,), nn.ConvTranspose2d),
    (3, (F.conv_transpose3d,), nn.ConvTranspose3d),
)


def convolution(
    input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool,
    output_padding: Any, groups: int, *flags: Any,
) -> Term:  # fmt: skip
    """``aten.convolution``."""
    spatial = len(stride)
    if transposed:
        return conv_transpose(spatial, input, weight, bias, stride, padding, output_padding, groups, dilation)
    return conv(spatial, input, weight, bias, stride, padding, dilation, groups)


ALIASES: tuple[Alias, ...] = (
    *(row for spatial, fns, _ in _ROWS for row in aliases("conv", partial(conv_transpose, spatial), functions=fns)),
    *aliases("conv", conv_transpose_module, modules=[module for _, _, module in _ROWS], takes_module=True),
    *aten("conv", partial(conv_transpose, 1), "conv_transpose1d"),
    *aten("conv", partial(conv_transpose, 2), "conv_transpose2d.input"),
    *aten("conv", partial(conv_transpose, 3), "conv_transpose3d.input"),
    *aten("conv", convolution, "convolution _convolution _convolution.deprecated"),
)  # fmt: skip
