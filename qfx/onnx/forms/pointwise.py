"""Functions of one value."""

from __future__ import annotations

from collections.abc import Callable

from qfx.onnx.graph import Call
from qfx.onnx.table import FORMS, Form, form


def _one_node(kind: str, **attributes: str) -> Form:
    """The form of a function that ONNX has, with its arguments by the names of its attributes."""

    def write(call: Call) -> str:
        given = {name: call.given[argument] for name, argument in attributes.items()}
        return call.emit(kind, call.cast("x"), **given)

    write.__doc__ = f"{kind}."
    return write


form("relu")(_one_node("Relu"))
form("leaky_relu")(_one_node("LeakyRelu", alpha="negative_slope"))
form("elu")(_one_node("Elu", alpha="alpha"))
form("celu")(_one_node("Celu", alpha="alpha"))
form("mish")(_one_node("Mish"))
form("softsign")(_one_node("Softsign"))
form("abs")(_one_node("Abs"))
form("neg")(_one_node("Neg"))
form("erf")(_one_node("Erf"))
form("sin")(_one_node("Sin"))
form("cos")(_one_node("Cos"))
form("exp")(_one_node("Exp"))
form("sqrt")(_one_node("Sqrt"))
form("sign")(_one_node("Sign"))
form("log")(_one_node("Log"))
form("reciprocal")(_one_node("Reciprocal"))
form("sigmoid")(_one_node("Sigmoid"))
form("tanh")(_one_node("Tanh"))
form("hardswish")(_one_node("HardSwish"))
form("gelu")(_one_node("Gelu", approximate="approximate"))


def _number(call: Call, value: float) -> str:
    return call.constant(value, call.dtype)


def _rounding(kind: str) -> Form:
    """The form of a rounding, which leaves integers as they are."""

    def write(call: Call) -> str:
        return call.emit(kind, call.value("x")) if call.dtype.is_floating_point else call.value("x")

    write.__doc__ = f"{kind}."
    return write


form("floor")(_rounding("Floor"))
form("ceil")(_rounding("Ceil"))
form("round")(_rounding("Round"))


@form("clamp")
def clamp(call: Call) -> str:
    """Clip."""
    low, high = call.given["min"], call.given["max"]
    bounds = ["" if bound is None else _number(call, bound) for bound in (low, high)]
    return call.value("x") if low is None and high is None else call.emit("Clip", call.cast("x"), *bounds)


@form("silu")
def silu(call: Call) -> str:
    """x times Sigmoid."""
    x = call.cast("x")
    return call.emit("Mul", x, call.emit("Sigmoid", x))


@form("hardsigmoid")
def hardsigmoid(call: Call) -> str:
    """HardSigmoid with torch's slope."""
    return call.emit("HardSigmoid", call.cast("x"), alpha=1.0 / 6.0, beta=0.5)


@form("selu")
def selu(call: Call) -> str:
    """Selu, whose constants are torch's."""
    return call.emit("Selu", call.cast("x"), alpha=1.6732632423543772, gamma=1.0507009873554805)


@form("softplus")
def softplus(call: Call) -> str:
    """Softplus, and x itself where that is the same."""
    x, beta = call.cast("x"), call.given["beta"]
    scaled = x if beta == 1.0 else call.emit("Mul", x, _number(call, beta))
    curve = call.emit("Softplus", scaled)
    curve = curve if beta == 1.0 else call.emit("Div", curve, _number(call, beta))
    straight = call.emit("Greater", scaled, _number(call, call.given["threshold"]))
    return call.emit("Where", straight, x, curve)


@form("logsigmoid")
def logsigmoid(call: Call) -> str:
    """The negative of Softplus of the negative."""
    return call.emit("Neg", call.emit("Softplus", call.emit("Neg", call.cast("x"))))


@form("tanhshrink")
def tanhshrink(call: Call) -> str:
    """x minus Tanh."""
    x = call.cast("x")
    return call.emit("Sub", x, call.emit("Tanh", x))


@form("hardshrink")
def hardshrink(call: Call) -> str:
    """Where x is far enough from 0. ONNX's Shrink decides otherwise at the bound itself."""
    x = call.cast("x")
    small = call.emit("LessOrEqual", call.emit("Abs", x), _number(call, call.given["lambd"]))
    return call.emit("Where", small, _number(call, 0.0), x)


@form("softshrink")
def softshrink(call: Call) -> str:
    """x moved towards 0 by the bound."""
    x, bound = call.cast("x"), _number(call, call.given["lambd"])
    moved = call.emit("Sub", x, call.emit("Mul", call.emit("Sign", x), bound))
    return call.emit("Where", call.emit("LessOrEqual", call.emit("Abs", x), bound), _number(call, 0.0), moved)


@form("threshold")
def threshold(call: Call) -> str:
    """Where x is above."""
    x = call.cast("x")
    below = call.emit("LessOrEqual", x, _number(call, call.given["threshold"]))
    return call.emit("Where", below, _number(call, call.given["value"]), x)


@form("square")
def square(call: Call) -> str:
    """x times x."""
    x = call.cast("x")
    return call.emit("Mul", x, x)


@form("pow_scalar")
def pow_scalar(call: Call) -> str:
    """Pow; Sqrt for 0.5."""
    exponent = call.given["exponent"]
    if exponent == 0.5:
        return call.emit("Sqrt", call.cast("x"))
    return call.emit("Pow", call.cast("x"), _number(call, exponent))


@form("rsqrt")
def rsqrt(call: Call) -> str:
    """Reciprocal of Sqrt."""
    return call.emit("Reciprocal", call.emit("Sqrt", call.cast("x")))


def _with_number(write: Callable[[Call, str, str], str]) -> Form:
    """The form of arithmetic with a constant."""

    def enter(call: Call) -> str:
        return write(call, call.cast("x"), _number(call, call.given["value"]))

    return enter


form("add_scalar")(_with_number(lambda call, x, value: call.emit("Add", x, value)))
form("rsub_scalar")(_with_number(lambda call, x, value: call.emit("Sub", value, x)))
form("mul_scalar")(_with_number(lambda call, x, value: call.emit("Mul", x, value)))
form("rdiv_scalar")(_with_number(lambda call, x, value: call.emit("Div", value, x)))


@form("gated")
def gated(call: Call) -> str:
    """A function of one value, times another."""
    gate = FORMS[call.given["function"]](call)
    return call.emit("Mul", gate, call.value("y"))
