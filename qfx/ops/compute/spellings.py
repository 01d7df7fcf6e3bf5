"""Spellings of the ops that multiply and add: convolution, linear, normalization, softmax."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from qfx.ops.spelling import Alias, aliases, aten, first, ntuple, require, require_tensor
from qfx.ops.terms import Attr, Folded, Term, term

_COMPUTED = "its weight is computed from activations"


def _is_constant(value: Any) -> bool:
    return value is None or isinstance(value, (Attr, Tensor)) or (isinstance(value, fx.Node) and value.op == "get_attr")


def conv(
    spatial: int,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Term:
    """``F.conv{spatial}d``."""
    require_tensor(input)
    require(_is_constant(weight) and _is_constant(bias), _COMPUTED)
    dilation = ntuple(dilation, spatial)
    kernel = weight.meta["shape"][2:] if isinstance(weight, fx.Node) else ()
    amounts = _conv_padding(padding, kernel, dilation, spatial)
    return term(
        "conv", input, weight, bias, stride=ntuple(stride, spatial), padding=amounts, dilation=dilation, groups=groups
    )


def _conv_padding(padding: Any, kernel: Any, dilation: Any, spatial: int) -> tuple[tuple[int, int], ...]:
    if padding == "valid":
        return ((0, 0),) * spatial
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    return tuple((amount, amount) for amount in ntuple(padding, spatial))


def conv_module(module: Any, input: Any) -> Term:
    """``nn.Conv{1,2,3}d`` with any padding and padding mode."""
    require_tensor(input)
    spatial = len(module.kernel_size)
    padding = _conv_padding(module.padding, module.kernel_size, module.dilation, spatial)
    if module.padding_mode != "zeros":
        flat = tuple(amount for pair in reversed(padding) for amount in pair)
        input = term("pad", input, pad=flat, mode=module.padding_mode, value=None)
        padding = ((0, 0),) * spatial
    bias = Attr("bias") if module.bias is not None else None
    return term(
        "conv", input, Attr("weight"), bias, stride=tuple(module.stride), padding=padding,
        dilation=tuple(module.dilation), groups=module.groups,
    )  # fmt: skip


def linear(input: Any, weight: Any, bias: Any = None) -> Term:
    """``F.linear``."""
    require_tensor(input)
    require(_is_constant(weight) and _is_constant(bias), _COMPUTED)
    return term("linear", input, weight, bias)


def affine_scale(weight: Tensor | None, var: Tensor, eps: float) -> Tensor:
    scale = 1.0 / torch.sqrt(var.double() + eps)
    return (scale if weight is None else scale * weight.double()).to(var.dtype)


def _affine_shift(bias: Tensor | None, weight: Tensor | None, mean: Tensor, var: Tensor, eps: float) -> Tensor:
    scale = 1.0 / torch.sqrt(var.double() + eps)
    shift = -mean.double() * (scale if weight is None else scale * weight.double())
    return (shift if bias is None else shift + bias.double()).to(mean.dtype)


def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
) -> Term:
    """``F.batch_norm`` in evaluation: one multiplication and one addition a channel."""
    require_tensor(input)
    require(running_mean is not None and running_var is not None and not training, "it normalizes by batch statistics")
    operands = (running_mean, running_var, weight, bias)
    require(all(_is_constant(operand) for operand in operands), "its statistics are computed from activations")
    return normalized(input, weight, bias, running_mean, running_var, eps)


def normalized(x: Any, weight: Any, bias: Any, mean: Any, var: Any, eps: float) -> Term:
    """``x`` normalized by constants, a channel of dim 1 each."""
    scale = Folded("weight", affine_scale, (weight, var, eps))
    shift = Folded("bias", _affine_shift, (bias, weight, mean, var, eps))
    return term("channel_affine", x, scale, shift)


def torch_batch_norm(
    input: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any,
    training: bool, momentum: float, eps: float, cudnn_enabled: bool = True,
) -> Term:  # fmt: skip
    """``torch.batch_norm``."""
    return batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def _batch_norm_of_inference(
    input: Any, weight: Any, bias: Any, mean: Any, var: Any, momentum: float, eps: float
) -> Term:
    return batch_norm(input, mean, var, weight, bias, False, momentum, eps)


_Module = type[nn.Module]
_CONVS: tuple[tuple[int, Callable[..., Any], _Module], ...] = (
    (1, F.conv1d, nn.Conv1d),
    (2, F.conv2d, nn.Conv2d),
    (3, F.conv3d, nn.Conv3d),
)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

ALIASES: tuple[Alias, ...] = (
    *(row for spatial, fn, _ in _CONVS for row in aliases("conv", partial(conv, spatial), functions=[fn])),
    *aliases("conv", conv_module, modules=[module for _, _, module in _CONVS], takes_module=True),
    *aliases(
        "linear", linear, functions=[F.linear], attributes="weight bias",
        modules=[nn.Linear, nn.modules.linear.NonDynamicallyQuantizableLinear],
    ),
    *aliases("channel_affine", batch_norm, functions=[F.batch_norm]),
    *aliases("channel_affine", torch_batch_norm, functions=[torch.batch_norm]),
    *aliases("channel_affine", batch_norm, modules=_BATCH_NORMS, attributes="running_mean running_var weight bias eps"),
    *(row for n in (1, 2, 3) for row in aten("conv", partial(conv, n), f"conv{n}d conv{n}d.padding")),
    *aten("linear", linear, "linear"),
    *aten("channel_affine", torch_batch_norm, "batch_norm"),
    *aten("channel_affine", first(_batch_norm_of_inference), "_native_batch_norm_legit_no_training"),
    *aten("channel_affine", first(torch_batch_norm), "native_batch_norm"),
)  # fmt: skip
