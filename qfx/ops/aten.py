"""The aten spellings of layers, products and norms: what torch.export and TorchScript leave of a user's calls."""

from __future__ import annotations

from functools import partial
from typing import Any

from qfx.ops.compute import products
from qfx.ops.compute import spellings as compute
from qfx.ops.compute.transposed import conv_transpose
from qfx.ops.float_ops import spellings as float_ops
from qfx.ops.spelling import Alias, aten, first, require
from qfx.ops.terms import Term


def convolution(
    input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool,
    output_padding: Any, groups: int, *flags: Any,
) -> Term:  # fmt: skip
    """``aten.convolution``."""
    spatial = len(stride)
    if transposed:
        return conv_transpose(spatial, input, weight, bias, stride, padding, output_padding, groups, dilation)
    return compute.conv(spatial, input, weight, bias, stride, padding, dilation, groups)


def layer_norm(input: Any, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, *flags: Any) -> Term:
    """``aten.layer_norm``."""
    return float_ops.layer_norm(input, shape, weight, bias, eps)


def group_norm(input: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *flags: Any) -> Term:
    """``aten.group_norm``."""
    return float_ops.group_norm(input, groups, weight, bias, eps)


def _native_group_norm(
    input: Any, weight: Any, bias: Any, n: Any, c: Any, inner: Any, groups: int, eps: float
) -> Term:  # fmt: skip
    return float_ops.group_norm(input, groups, weight, bias, eps)


def instance_norm(
    input: Any, weight: Any, bias: Any, mean: Any, var: Any, use_input_stats: bool, momentum: float, eps: float,
    *flags: Any,
) -> Term:  # fmt: skip
    """``aten.instance_norm``."""
    return float_ops.instance_norm(input, mean, var, weight, bias, use_input_stats, momentum, eps)


def _batch_norm_of_inference(
    input: Any, weight: Any, bias: Any, mean: Any, var: Any, momentum: float, eps: float
) -> Term:
    return compute.batch_norm(input, mean, var, weight, bias, False, momentum, eps)


def _softmax(op: str, input: Any, dim: int, half_to_float: bool) -> Term:
    require(not half_to_float, "it changes the dtype")
    return float_ops.torch_softmax(op, input, dim)


ALIASES: tuple[Alias, ...] = (
    *(row for n in (1, 2, 3) for row in aten("conv", partial(compute.conv, n), f"conv{n}d conv{n}d.padding")),
    *aten("conv", partial(conv_transpose, 1), "conv_transpose1d"),
    *aten("conv", partial(conv_transpose, 2), "conv_transpose2d.input"),
    *aten("conv", partial(conv_transpose, 3), "conv_transpose3d.input"),
    *aten("conv", convolution, "convolution _convolution _convolution.deprecated"),
    *aten("linear", compute.linear, "linear"),
    *aten("linear", products.addmm, "addmm"),
    *aten("matmul", products.matmul, "matmul mm bmm"),
    *aten("matmul", products.addmm, "baddbmm"),
    *aten("matmul", products.einsum, "einsum"),
    *aten("matmul", products.attention, "scaled_dot_product_attention"),
    *aten("channel_affine", compute.torch_batch_norm, "batch_norm"),
    *aten("channel_affine", first(_batch_norm_of_inference), "_native_batch_norm_legit_no_training"),
    *aten("channel_affine", first(compute.torch_batch_norm), "native_batch_norm"),
    *aten("layer_norm", layer_norm, "layer_norm"),
    *aten("layer_norm", first(layer_norm), "native_layer_norm"),
    *aten("group_norm", group_norm, "group_norm"),
    *aten("group_norm", first(_native_group_norm), "native_group_norm"),
    *aten("group_norm", instance_norm, "instance_norm"),
    *aten("softmax", partial(float_ops.torch_softmax, "softmax"), "softmax.int"),
    *aten("softmax", partial(_softmax, "softmax"), "_softmax"),
    *aten("log_softmax", partial(float_ops.torch_softmax, "log_softmax"), "log_softmax.int"),
    *aten("log_softmax", partial(_softmax, "log_softmax"), "_log_softmax"),
)  # fmt: skip
