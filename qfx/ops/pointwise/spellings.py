"""Spellings of functions of one value and of tensor arithmetic."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from qfx.ops.extents import is_dim
from qfx.ops.spelling import Alias, aliases, finite, is_number, is_tensor, require, require_tensor, scalar_for
from qfx.ops.terms import Attr, Folded, Item, NotNormal, Term, term


def plain(op: str, input: Any, inplace: bool = False) -> Term:
    """A function with no attributes."""
    require_tensor(input)
    return term(op, input)


def leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Term:
    """``F.leaky_relu``."""
    require_tensor(input)
    return term("leaky_relu", input, negative_slope=finite(negative_slope))


def rrelu(
    input: Any, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False
) -> Term:
    """``F.rrelu`` in evaluation: the mean slope."""
    require(not training, "it draws random slopes")
    return leaky_relu(input, (lower + upper) / 2)


def prelu_module(module: Any, input: Any) -> Term:
    """``nn.PReLU``: one slope is a leaky relu; a slope a channel is ``relu(x) + slope * min(x, 0)``."""
    if module.num_parameters == 1:
        return leaky_relu(input, float(module.weight.detach()))
    require_tensor(input)
    negative = term("channel_affine", term("clamp", input, min=None, max=0.0), Attr("weight"), None)
    return term("add", term("relu", input), negative)


def prelu(input: Any, weight: Any) -> Term:
    """``F.prelu``: as ``nn.PReLU``."""
    require_tensor(input, weight)
    require(isinstance(weight, fx.Node) and weight.op == "get_attr", "its slopes are computed from activations")
    if weight.meta["shape"].count(1) == len(weight.meta["shape"]):
        return term("leaky_relu", input, negative_slope=Item(weight))
    negative = term("clamp", input, min=None, max=0.0)
    return term("add", term("relu", input), term("channel_affine", negative, weight, None))


def with_alpha(op: str, input: Any, alpha: float = 1.0, inplace: bool = False) -> Term:
    """``F.elu``, ``F.celu``."""
    require_tensor(input)
    return term(op, input, alpha=finite(alpha))


def gelu(input: Any, approximate: str = "none") -> Term:
    """``F.gelu``."""
    require_tensor(input)
    return term("gelu", input, approximate=approximate)


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Term:
    """``F.softplus``."""
    require_tensor(input)
    return term("softplus", input, beta=finite(beta), threshold=finite(threshold))


def with_lambd(op: str, input: Any, lambd: float = 0.5) -> Term:
    """``F.hardshrink``, ``F.softshrink``."""
    require_tensor(input)
    return term(op, input, lambd=finite(lambd))


def threshold(input: Any, threshold: float, value: float, inplace: bool = False) -> Term:
    """``F.threshold``."""
    require_tensor(input)
    return term("threshold", input, threshold=finite(threshold), value=finite(value))


def _bound(x: Any, value: Any) -> float | None:
    require(value is None or is_number(value), "its bounds are tensors")
    return None if value is None or value in (float("inf"), float("-inf")) else scalar_for(x, value)


def clamp(input: Any, min: Any = None, max: Any = None) -> Term:
    """``torch.clamp``."""
    require_tensor(input)
    return term("clamp", input, min=_bound(input, min), max=_bound(input, max))


def clamp_max(input: Any, max: Any) -> Term:
    """``torch.clamp_max``."""
    return clamp(input, None, max)


def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Term:
    """``F.hardtanh``."""
    return clamp(input, min_val, max_val)


def relu6(input: Any, inplace: bool = False) -> Term:
    """``F.relu6``."""
    return clamp(input, 0.0, 6.0)


def _dim_arithmetic(function: Callable[..., Any], *values: Any) -> Any:
    """``function`` of ints and dim values, or None when a tensor is among them."""
    if any(is_tensor(value) for value in values):
        require(not any(is_dim(value) for value in values), "it mixes a tensor with a dim value")
        return None
    if all(is_number(value) for value in values):
        return function(*values)
    require(
        all(is_dim(value) or isinstance(value, int) for value in values), "a dim value meets a value that is no int"
    )
    return term(function, *values)


def add(input: Any, other: Any, *, alpha: float = 1) -> Any:
    """``torch.add`` and ``+``."""
    dims = _dim_arithmetic(operator.add, input, other)
    if dims is not None:
        return dims
    if is_number(other):
        return term("add_scalar", input, value=scalar_for(input, other) * alpha)
    if is_number(input):
        return _scaled_add(input, other, alpha)
    require_tensor(input, other)
    return term("add", input, other if alpha == 1 else term("mul_scalar", other, value=scalar_for(other, alpha)))


def _scaled_add(value: float, x: Any, alpha: float) -> Term:
    require(alpha == 1, "it scales its second operand")
    return term("add_scalar", x, value=scalar_for(x, value))


def sub(input: Any, other: Any, *, alpha: float = 1) -> Any:
    """``torch.sub`` and ``-``."""
    dims = _dim_arithmetic(operator.sub, input, other)
    if dims is not None:
        return dims
    if is_number(other):
        return term("add_scalar", input, value=-scalar_for(input, other) * alpha)
    if is_number(input):
        require(alpha == 1, "it scales its second operand")
        return term("rsub_scalar", other, value=scalar_for(other, input))
    require_tensor(input, other)
    return term("sub", input, other if alpha == 1 else term("mul_scalar", other, value=scalar_for(other, alpha)))


def rsub(input: Any, other: Any, *, alpha: float = 1) -> Any:
    """``torch.rsub``: ``other - input``."""
    require(alpha == 1, "it scales its operand")
    return sub(other, input)


def mul(input: Any, other: Any) -> Any:
    """``torch.mul`` and ``*``."""
    dims = _dim_arithmetic(operator.mul, input, other)
    if dims is not None:
        return dims
    if is_number(other) or is_number(input):
        x, value = (input, other) if is_number(other) else (other, input)
        return term("mul_scalar", x, value=scalar_for(x, value))
    require_tensor(input, other)
    return term("mul", input, other)


def addcmul(input: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Term:
    """``torch.addcmul``: ``input + value * tensor1 * tensor2``."""
    require_tensor(input)
    product = mul(tensor1, tensor2)
    return term("add", input, product if value == 1 else term("mul_scalar", product, value=finite(value)))


def _reciprocal(x: torch.Tensor) -> torch.Tensor:
    return (1.0 / x.double()).to(x.dtype)


def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Any:
    """``torch.div`` and ``/``; a constant divisor becomes a factor."""
    require(rounding_mode is None, "it rounds its quotient")
    require(not is_dim(input) and not is_dim(other), "a dim value is divided with a fraction")
    if is_number(input) and is_number(other):
        return input / other
    if is_number(other):
        require(other != 0, "it divides by zero")
        return term("mul_scalar", input, value=finite(1.0 / other))
    if is_number(input):
        return term("rdiv_scalar", other, value=finite(input))
    require_tensor(input, other)
    if isinstance(other, fx.Node) and other.op == "get_attr":
        name = str(other.target).rsplit(".", 1)[-1]
        return term("mul", input, Folded(f"{name}_reciprocal", _reciprocal, (other,)))
    return term("div", input, other)


def floordiv(input: Any, other: Any) -> Any:
    """``//`` of dim values."""
    dims = _dim_arithmetic(operator.floordiv, input, other)
    if dims is None:
        raise NotNormal("it rounds its quotient")
    return dims


def neg(input: Any) -> Any:
    """``torch.neg`` and unary minus."""
    dims = _dim_arithmetic(operator.neg, input)
    return term("neg", input) if dims is None else dims


def power(input: Any, exponent: Any) -> Any:
    """``torch.pow`` and ``**`` with a constant exponent."""
    require_tensor(input)
    exponent = scalar_for(input, exponent)
    return term("square", input) if exponent == 2 else term("pow_scalar", input, exponent=exponent)


def _unary(
    op: str, modules: Iterable[type[nn.Module]], functions: Iterable[Callable[..., Any]], methods: str
) -> list[Alias]:
    return aliases(op, partial(plain, op), modules=modules, functions=functions, methods=methods)


_UNARY = (
    _unary("relu", [nn.ReLU], [F.relu, F.relu_, torch.relu], "relu relu_"),
    _unary(
        "sigmoid", [nn.Sigmoid], [F.sigmoid, torch.sigmoid, torch.sigmoid_, torch.special.expit], "sigmoid sigmoid_"
    ),
    _unary("tanh", [nn.Tanh], [F.tanh, torch.tanh, torch.tanh_], "tanh tanh_"),
    _unary("silu", [nn.SiLU], [F.silu], ""),
    _unary("hardsigmoid", [nn.Hardsigmoid], [F.hardsigmoid], ""),
    _unary("hardswish", [nn.Hardswish], [F.hardswish], ""),
    _unary("selu", [nn.SELU], [F.selu, torch.selu, torch.selu_], ""),
    _unary("mish", [nn.Mish], [F.mish], ""),
    _unary("logsigmoid", [nn.LogSigmoid], [F.logsigmoid], ""),
    _unary("softsign", [nn.Softsign], [F.softsign], ""),
    _unary("tanhshrink", [nn.Tanhshrink], [F.tanhshrink], ""),
    _unary("exp", [], [torch.exp, torch.exp_], "exp exp_"),
    _unary("log", [], [torch.log, torch.log_], "log log_"),
    _unary("sqrt", [], [torch.sqrt, torch.sqrt_], "sqrt sqrt_"),
    _unary("rsqrt", [], [torch.rsqrt, torch.rsqrt_], "rsqrt rsqrt_"),
    _unary("reciprocal", [], [torch.reciprocal, torch.reciprocal_], "reciprocal reciprocal_"),
    _unary("abs", [], [torch.abs, torch.abs_, torch.absolute, operator.abs], "abs abs_ absolute absolute_"),
    _unary("square", [], [torch.square, torch.square_], "square square_"),
    _unary("erf", [], [torch.erf, torch.erf_, torch.special.erf], "erf erf_"),
    _unary("sin", [], [torch.sin, torch.sin_], "sin sin_"),
    _unary("cos", [], [torch.cos, torch.cos_], "cos cos_"),
    _unary("floor", [], [torch.floor, torch.floor_], "floor floor_"),
    _unary("ceil", [], [torch.ceil, torch.ceil_], "ceil ceil_"),
    _unary("round", [], [torch.round, torch.round_], "round round_"),
    _unary("sign", [], [torch.sign], "sign sign_"),
)

ALIASES: tuple[Alias, ...] = (
    *(row for rows in _UNARY for row in rows),
    *aliases("clamp", relu6, functions=[F.relu6], modules=[nn.ReLU6]),
    *aliases("clamp", hardtanh, functions=[F.hardtanh, F.hardtanh_], modules=[nn.Hardtanh],
             attributes="min_val max_val"),
    *aliases("clamp", clamp, functions=[torch.clamp, torch.clamp_, torch.clip, torch.clip_, torch.clamp_min],
             methods="clamp clamp_ clip clip_ clamp_min clamp_min_"),
    *aliases("clamp", clamp_max, functions=[torch.clamp_max], methods="clamp_max clamp_max_"),
    *aliases("leaky_relu", leaky_relu, functions=[F.leaky_relu, F.leaky_relu_], modules=[nn.LeakyReLU],
             attributes="negative_slope"),
    *aliases("leaky_relu", rrelu, functions=[F.rrelu], modules=[nn.RReLU], attributes="lower upper"),
    *aliases("leaky_relu", prelu, functions=[F.prelu], methods="prelu"),
    *aliases("leaky_relu", prelu_module, modules=[nn.PReLU], takes_module=True),
    *aliases("elu", partial(with_alpha, "elu"), functions=[F.elu, F.elu_], modules=[nn.ELU], attributes="alpha"),
    *aliases("celu", partial(with_alpha, "celu"), functions=[F.celu, torch.celu, torch.celu_], modules=[nn.CELU],
             attributes="alpha"),
    *aliases("gelu", gelu, functions=[F.gelu], modules=[nn.GELU], attributes="approximate"),
    *aliases("softplus", softplus, functions=[F.softplus], modules=[nn.Softplus], attributes="beta threshold"),
    *aliases("hardshrink", partial(with_lambd, "hardshrink"), functions=[F.hardshrink], methods="hardshrink",
             modules=[nn.Hardshrink], attributes="lambd"),
    *aliases("softshrink", partial(with_lambd, "softshrink"), functions=[F.softshrink], modules=[nn.Softshrink],
             attributes="lambd"),
    *aliases("threshold", threshold, functions=[F.threshold, vars(F)["threshold_"]], modules=[nn.Threshold],
             attributes="threshold value"),
    *aliases("add", add, functions=[torch.add, operator.add, operator.iadd],
             methods="add add_ __add__ __radd__ __iadd__"),
    *aliases("sub", sub, functions=[torch.sub, torch.subtract, operator.sub, operator.isub],
             methods="sub sub_ subtract subtract_ __sub__"),
    *aliases("sub", rsub, functions=[torch.rsub], methods="__rsub__"),
    *aliases("mul", mul, functions=[torch.mul, torch.multiply, operator.mul, operator.imul],
             methods="mul mul_ multiply multiply_ __mul__ __rmul__ __imul__"),
    *aliases("div", div, functions=[torch.div, torch.divide, torch.true_divide, operator.truediv, operator.itruediv],
             methods="div div_ divide divide_ true_divide __truediv__"),
    *aliases("add", addcmul, functions=[torch.addcmul], methods="addcmul addcmul_"),
    *aliases("size", floordiv, functions=[operator.floordiv]),
    *aliases("neg", neg, functions=[torch.neg, torch.negative, operator.neg], methods="neg neg_ negative __neg__"),
    *aliases("pow_scalar", power, functions=[torch.pow, operator.pow], methods="pow pow_ __pow__"),
)  # fmt: skip
