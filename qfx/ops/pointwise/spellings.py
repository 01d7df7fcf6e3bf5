"""Spellings of functions of one value, those of torch.ops.aten among them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from qfx.ops.spelling import (
    Alias,
    aliases,
    aten,
    finite,
    first,
    is_number,
    require,
    require_tensor,
    scalar_for,
)
from qfx.ops.terms import Attr, Item, Term, term


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


_SELU = (1.6732632423543772848170429916717, 1.0507009873554804934193349852946)


def aten_elu(input: Any, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Term:
    """``aten.elu``, which is ``selu`` too."""
    if (alpha, scale, input_scale) == (*_SELU, 1):
        return plain("selu", input)
    require(scale == 1 and input_scale == 1, "it scales its operand or its result")
    return with_alpha("elu", input, float(alpha))


def aten_rrelu(
    input: Any, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, generator: Any = None
) -> Term:
    """``aten.rrelu``."""
    return rrelu(input, lower, upper, training)


def _unary(
    op: str,
    modules: Iterable[type[nn.Module]],
    functions: Iterable[Callable[..., Any]],
    methods: str,
    names_in_aten: str = "",
) -> list[Alias]:
    rule = partial(plain, op)
    return aliases(op, rule, modules=modules, functions=functions, methods=methods) + aten(op, rule, names_in_aten)


_UNARY = (
    _unary("relu", [nn.ReLU], [F.relu, F.relu_, torch.relu], "relu relu_", "relu relu_"),
    _unary(
        "sigmoid",
        [nn.Sigmoid],
        [F.sigmoid, torch.sigmoid, torch.sigmoid_, torch.special.expit],
        "sigmoid sigmoid_",
        "sigmoid sigmoid_ special_expit",
    ),
    _unary("tanh", [nn.Tanh], [F.tanh, torch.tanh, torch.tanh_], "tanh tanh_", "tanh tanh_"),
    _unary("silu", [nn.SiLU], [F.silu], "", "silu silu_"),
    _unary("hardsigmoid", [nn.Hardsigmoid], [F.hardsigmoid], "", "hardsigmoid hardsigmoid_"),
    _unary("hardswish", [nn.Hardswish], [F.hardswish], "", "hardswish hardswish_"),
    _unary("selu", [nn.SELU], [F.selu, torch.selu, torch.selu_], "", "selu selu_"),
    _unary("mish", [nn.Mish], [F.mish], "", "mish mish_"),
    _unary("logsigmoid", [nn.LogSigmoid], [F.logsigmoid], "", "log_sigmoid"),
    _unary("softsign", [nn.Softsign], [F.softsign], ""),
    _unary("tanhshrink", [nn.Tanhshrink], [F.tanhshrink], ""),
    _unary("exp", [], [torch.exp, torch.exp_], "exp exp_", "exp exp_"),
    _unary("log", [], [torch.log, torch.log_], "log log_", "log log_"),
    _unary("sqrt", [], [torch.sqrt, torch.sqrt_], "sqrt sqrt_", "sqrt sqrt_"),
    _unary("rsqrt", [], [torch.rsqrt, torch.rsqrt_], "rsqrt rsqrt_", "rsqrt rsqrt_"),
    _unary(
        "reciprocal",
        [],
        [torch.reciprocal, torch.reciprocal_],
        "reciprocal reciprocal_",
        "reciprocal reciprocal_",
    ),
    _unary(
        "abs",
        [],
        [torch.abs, torch.abs_, torch.absolute, operator.abs],
        "abs abs_ absolute absolute_",
        "abs abs_ absolute absolute_",
    ),
    _unary("square", [], [torch.square, torch.square_], "square square_", "square square_"),
    _unary("erf", [], [torch.erf, torch.erf_, torch.special.erf], "erf erf_", "erf erf_ special_erf"),
    _unary("sin", [], [torch.sin, torch.sin_], "sin sin_", "sin sin_"),
    _unary("cos", [], [torch.cos, torch.cos_], "cos cos_", "cos cos_"),
    _unary("floor", [], [torch.floor, torch.floor_], "floor floor_", "floor floor_"),
    _unary("ceil", [], [torch.ceil, torch.ceil_], "ceil ceil_", "ceil ceil_"),
    _unary("round", [], [torch.round, torch.round_], "round round_", "round round_"),
    _unary("sign", [], [torch.sign], "sign sign_", "sign sign_"),
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
    *aten("logsigmoid", first(partial(plain, "logsigmoid"), 2), "log_sigmoid_forward"),
    *aten("clamp", relu6, "relu6 relu6_"),
    *aten("clamp", hardtanh, "hardtanh hardtanh_"),
    *aten("clamp", clamp, "clamp clamp_ clamp.Tensor clip clip_ clamp_min clamp_min_"),
    *aten("clamp", clamp_max, "clamp_max clamp_max_"),
    *aten("leaky_relu", leaky_relu, "leaky_relu leaky_relu_"),
    *aten("leaky_relu", aten_rrelu, "rrelu rrelu_"),
    *aten("leaky_relu", prelu, "prelu"),
    *aten("elu", aten_elu, "elu elu_"),
    *aten("celu", partial(with_alpha, "celu"), "celu celu_"),
    *aten("gelu", gelu, "gelu gelu_"),
    *aten("softplus", softplus, "softplus"),
    *aten("hardshrink", partial(with_lambd, "hardshrink"), "hardshrink"),
    *aten("softshrink", partial(with_lambd, "softshrink"), "softshrink"),
    *aten("threshold", threshold, "threshold threshold_"),
)  # fmt: skip
