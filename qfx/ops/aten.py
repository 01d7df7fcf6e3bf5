"""The aten spellings of ops that compute: what torch.export and TorchScript leave of a user's calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from qfx.ops.compute import products
from qfx.ops.compute import spellings as compute
from qfx.ops.compute.transposed import conv_transpose
from qfx.ops.float_ops import spellings as float_ops
from qfx.ops.pointwise import spellings as pointwise
from qfx.ops.spelling import Alias, aliases, require
from qfx.ops.terms import Pieces, Term


def overload(name: str) -> Callable[..., Any]:
    """The op of ``"mean.dim"`` or, with the overload ``default``, of ``"relu"``."""
    packet, _, kind = name.partition(".")
    found: Callable[..., Any] = getattr(getattr(torch.ops.aten, packet), kind or "default")
    return found


def rows(op: str, rule: Callable[..., Any], names: str) -> list[Alias]:
    """Rows of one op that share a rule; ``names`` are those of :func:`overload`, separated by blanks."""
    return aliases(op, rule, functions=[overload(name) for name in names.split()])


def first(rule: Callable[..., Any], count: int = 3) -> Callable[..., Any]:
    """``rule`` for an op that returns a tuple of which only the first item has a row."""
    return partial(_first, rule, count)


def _first(rule: Callable[..., Any], count: int, *args: Any) -> Pieces:
    def piece(index: int) -> Any:
        require(index == 0, "it uses a result that only training needs, or indices")
        return rule(*args)

    rule(*args)
    return Pieces(piece, count)


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


_SELU = (1.6732632423543772848170429916717, 1.0507009873554804934193349852946)


def elu(input: Any, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Term:
    """``aten.elu``, which is ``selu`` too."""
    if (alpha, scale, input_scale) == (*_SELU, 1):
        return pointwise.plain("selu", input)
    require(scale == 1 and input_scale == 1, "it scales its operand or its result")
    return pointwise.with_alpha("elu", input, float(alpha))


def rrelu(
    input: Any, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, generator: Any = None
) -> Term:
    """``aten.rrelu``."""
    return pointwise.rrelu(input, lower, upper, training)


def add_scalar(input: Any, other: Any, alpha: float = 1) -> Any:
    """``aten.add.Scalar``."""
    return pointwise.add(input, other, alpha=alpha)


def sub_scalar(input: Any, other: Any, alpha: float = 1) -> Any:
    """``aten.sub.Scalar``."""
    return pointwise.sub(input, other, alpha=alpha)


def rsub_scalar(input: Any, other: Any, alpha: float = 1) -> Any:
    """``aten.rsub.Scalar``."""
    return pointwise.rsub(input, other, alpha=alpha)


_SAME_NAME = (
    "relu sigmoid tanh silu hardsigmoid hardswish selu mish exp log sqrt rsqrt reciprocal abs square erf sin cos "
    "floor ceil round"
)
"""Functions of one value whose row has the name of the op, and which have an in-place form."""

ALIASES: tuple[Alias, ...] = (
    *(row for n in (1, 2, 3) for row in rows("conv", partial(compute.conv, n), f"conv{n}d conv{n}d.padding")),
    *rows("conv", partial(conv_transpose, 1), "conv_transpose1d"),
    *rows("conv", partial(conv_transpose, 2), "conv_transpose2d.input"),
    *rows("conv", partial(conv_transpose, 3), "conv_transpose3d.input"),
    *rows("conv", convolution, "convolution _convolution _convolution.deprecated"),
    *rows("linear", compute.linear, "linear"),
    *rows("linear", products.addmm, "addmm"),
    *rows("matmul", products.matmul, "matmul mm bmm"),
    *rows("matmul", products.addmm, "baddbmm"),
    *rows("matmul", products.einsum, "einsum"),
    *rows("matmul", products.attention, "scaled_dot_product_attention"),
    *rows("channel_affine", compute.torch_batch_norm, "batch_norm"),
    *rows("channel_affine", first(_batch_norm_of_inference), "_native_batch_norm_legit_no_training"),
    *rows("channel_affine", first(compute.torch_batch_norm), "native_batch_norm"),
    *rows("layer_norm", layer_norm, "layer_norm"),
    *rows("layer_norm", first(layer_norm), "native_layer_norm"),
    *rows("group_norm", group_norm, "group_norm"),
    *rows("group_norm", first(_native_group_norm), "native_group_norm"),
    *rows("group_norm", instance_norm, "instance_norm"),
    *rows("softmax", partial(float_ops.torch_softmax, "softmax"), "softmax.int"),
    *rows("softmax", partial(_softmax, "softmax"), "_softmax"),
    *rows("log_softmax", partial(float_ops.torch_softmax, "log_softmax"), "log_softmax.int"),
    *rows("log_softmax", partial(_softmax, "log_softmax"), "_log_softmax"),
    *(row for name in _SAME_NAME.split() for row in rows(name, partial(pointwise.plain, name), f"{name} {name}_")),
    *rows("sign", partial(pointwise.plain, "sign"), "sign sign_"),
    *rows("sigmoid", partial(pointwise.plain, "sigmoid"), "special_expit"),
    *rows("erf", partial(pointwise.plain, "erf"), "special_erf"),
    *rows("abs", partial(pointwise.plain, "abs"), "absolute absolute_"),
    *rows("logsigmoid", partial(pointwise.plain, "logsigmoid"), "log_sigmoid"),
    *rows("logsigmoid", first(partial(pointwise.plain, "logsigmoid"), 2), "log_sigmoid_forward"),
    *rows("clamp", pointwise.relu6, "relu6 relu6_"),
    *rows("clamp", pointwise.hardtanh, "hardtanh hardtanh_"),
    *rows("clamp", pointwise.clamp, "clamp clamp_ clamp.Tensor clip clip_ clamp_min clamp_min_"),
    *rows("clamp", pointwise.clamp_max, "clamp_max clamp_max_"),
    *rows("leaky_relu", pointwise.leaky_relu, "leaky_relu leaky_relu_"),
    *rows("leaky_relu", rrelu, "rrelu rrelu_"),
    *rows("leaky_relu", pointwise.prelu, "prelu"),
    *rows("elu", elu, "elu elu_"),
    *rows("celu", partial(pointwise.with_alpha, "celu"), "celu celu_"),
    *rows("gelu", pointwise.gelu, "gelu gelu_"),
    *rows("softplus", pointwise.softplus, "softplus"),
    *rows("hardshrink", partial(pointwise.with_lambd, "hardshrink"), "hardshrink"),
    *rows("softshrink", partial(pointwise.with_lambd, "softshrink"), "softshrink"),
    *rows("threshold", pointwise.threshold, "threshold threshold_"),
    *rows("add", pointwise.add, "add.Tensor add_.Tensor"),
    *rows("add", add_scalar, "add.Scalar add_.Scalar"),
    *rows("add", pointwise.addcmul, "addcmul addcmul_"),
    *rows("sub", pointwise.sub, "sub.Tensor sub_.Tensor subtract.Tensor subtract_.Tensor subtract.Scalar"),
    *rows("sub", sub_scalar, "sub.Scalar sub_.Scalar"),
    *rows("sub", pointwise.rsub, "rsub.Tensor"),
    *rows("sub", rsub_scalar, "rsub.Scalar"),
    *rows("mul", pointwise.mul,
          "mul.Tensor mul_.Tensor mul.Scalar mul_.Scalar multiply.Tensor multiply_.Tensor multiply.Scalar"),
    *rows("div", pointwise.div,
          "div.Tensor div_.Tensor div.Scalar div_.Scalar div.Tensor_mode div_.Tensor_mode div.Scalar_mode "
          "divide.Tensor divide_.Tensor divide.Scalar divide.Tensor_mode true_divide.Tensor true_divide_.Tensor "
          "true_divide.Scalar"),
    *rows("neg", pointwise.neg, "neg neg_ negative negative_"),
    *rows("pow_scalar", pointwise.power, "pow.Tensor_Scalar pow_.Scalar pow.Tensor_Tensor"),
)  # fmt: skip
