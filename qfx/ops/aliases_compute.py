"""Spellings of the ops that multiply and add: convolution, linear, normalization, softmax."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from qfx.ops.aliases_record import Alias, aliases, ntuple, require, require_tensor
from qfx.ops.extents import extent_of, rank_of
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
    return _normalized(input, weight, bias, running_mean, running_var, eps)


def _normalized(x: Any, weight: Any, bias: Any, mean: Any, var: Any, eps: float) -> Term:
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


def layer_norm(input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Term:
    """``F.layer_norm``."""
    require_tensor(input)
    shape = ntuple(normalized_shape, 1)
    require(all(isinstance(entry, int) for entry in shape), "its normalized shape is not constant")
    return term("layer_norm", input, weight, bias, normalized_shape=shape, eps=eps)


def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Term:
    """``F.group_norm``."""
    require_tensor(input)
    return term("group_norm", input, weight, bias, groups=num_groups, eps=eps)


def instance_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Term:
    """``F.instance_norm``: group norm with a group a channel when the number of channels is known."""
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    require_tensor(input)
    channels = extent_of(weight, 0) or extent_of(input, 1)
    if channels is None:
        return term("instance_norm", input, weight, bias, eps=eps)
    return term("group_norm", input, weight, bias, groups=channels, eps=eps)


def instance_norm_module(module: Any, input: Any) -> Term:
    """``nn.InstanceNorm{1,2,3}d``, of a batch or of one input without a batch dim."""
    require_tensor(input)
    spatial = next(n for n, cls in _INSTANCE_NORMS.items() if isinstance(module, cls))
    if rank_of(input) == spatial + 1:
        return term("squeeze", _instance_norm_of_batch(module, term("unsqueeze", input, dim=0)), dim=0)
    return _instance_norm_of_batch(module, input)


def _instance_norm_of_batch(module: Any, x: Any) -> Term:
    weight, bias = (Attr(name) if getattr(module, name) is not None else None for name in ("weight", "bias"))
    if not module.track_running_stats:
        return term("group_norm", x, weight, bias, groups=module.num_features, eps=module.eps)
    return _normalized(x, weight, bias, Attr("running_mean"), Attr("running_var"), module.eps)


_INSTANCE_NORMS = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


def softmax(op: str, input: Any, dim: Any = None, _stacklevel: int = 3, dtype: Any = None) -> Term:
    """``F.softmax`` and ``F.log_softmax``."""
    require_tensor(input)
    require(isinstance(dim, int) and dtype in (None, torch.float32), "its dim is not given, or it changes the dtype")
    return term(op, input, dim=dim)


def torch_softmax(op: str, input: Any, dim: Any, dtype: Any = None) -> Term:
    """``torch.softmax`` and the method."""
    return softmax(op, input, dim, 3, dtype)


def softmax2d(input: Any) -> Term:
    """``nn.Softmax2d``: over channels."""
    return term("softmax", input, dim=-3)


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
    *aliases("layer_norm", layer_norm, functions=[F.layer_norm, torch.layer_norm], modules=[nn.LayerNorm],
             attributes="normalized_shape weight bias eps"),
    *aliases("group_norm", group_norm, functions=[F.group_norm, torch.group_norm], modules=[nn.GroupNorm],
             attributes="num_groups weight bias eps"),
    *aliases("group_norm", instance_norm, functions=[F.instance_norm]),
    *aliases("group_norm", instance_norm_module, modules=_INSTANCE_NORMS.values(),
             takes_module=True),
    *aliases("softmax", partial(softmax, "softmax"), functions=[F.softmax], modules=[nn.Softmax], attributes="dim"),
    *aliases("softmax", partial(torch_softmax, "softmax"), functions=[torch.softmax], methods="softmax"),
    *aliases("softmax", softmax2d, modules=[nn.Softmax2d]),
    *aliases("log_softmax", partial(softmax, "log_softmax"), functions=[F.log_softmax], modules=[nn.LogSoftmax],
             attributes="dim"),
    *aliases("log_softmax", partial(torch_softmax, "log_softmax"), functions=[torch.log_softmax],
             methods="log_softmax"),
)  # fmt: skip
