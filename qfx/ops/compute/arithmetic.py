"""Spellings of arithmetic: of tensors, of tensors with numbers, and of dim values."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from qfx.ops.extents import is_dim
from qfx.ops.spelling import Alias, aliases, aten, finite, is_number, is_tensor, require, require_tensor, scalar_for
from qfx.ops.terms import Folded, NotNormal, Term, term


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


def aten_add_scalar(input: Any, other: Any, alpha: float = 1) -> Any:
    """``aten.add.Scalar``."""
    return add(input, other, alpha=alpha)


def aten_sub_scalar(input: Any, other: Any, alpha: float = 1) -> Any:
    """``aten.sub.Scalar``."""
    return sub(input, other, alpha=alpha)


def aten_rsub_scalar(input: Any, other: Any, alpha: float = 1) -> Any:
    """``aten.rsub.Scalar``."""
    return rsub(input, other, alpha=alpha)


ALIASES: tuple[Alias, ...] = (
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
    *aten("add", add, "add.Tensor add_.Tensor"),
    *aten("add", aten_add_scalar, "add.Scalar add_.Scalar"),
    *aten("add", addcmul, "addcmul addcmul_"),
    *aten("sub", sub, "sub.Tensor sub_.Tensor subtract.Tensor subtract_.Tensor subtract.Scalar"),
    *aten("sub", aten_sub_scalar, "sub.Scalar sub_.Scalar"),
    *aten("sub", rsub, "rsub.Tensor"),
    *aten("sub", aten_rsub_scalar, "rsub.Scalar"),
    *aten("mul", mul,
          "mul.Tensor mul_.Tensor mul.Scalar mul_.Scalar multiply.Tensor multiply_.Tensor multiply.Scalar"),
    *aten("div", div,
          "div.Tensor div_.Tensor div.Scalar div_.Scalar div.Tensor_mode div_.Tensor_mode div.Scalar_mode "
          "divide.Tensor divide_.Tensor divide.Scalar divide.Tensor_mode true_divide.Tensor true_divide_.Tensor "
          "true_divide.Scalar"),
    *aten("neg", neg, "neg neg_ negative negative_"),
    *aten("pow_scalar", power, "pow.Tensor_Scalar pow_.Scalar pow.Tensor_Tensor"),
)  # fmt: skip
