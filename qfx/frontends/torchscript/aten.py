"""Operators of ``aten`` on numbers, shapes, lists and dicts: computed, or written as Python's own functions."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx
from torch.utils import _pytree as pytree

from qfx.frontends.torchscript.obstacle import NUMBER, REWRITE, Obstacle
from qfx.frontends.torchscript.overloads import arguments, as_argument
from qfx.frontends.torchscript.ranks import rank_of

if TYPE_CHECKING:
    from qfx.frontends.torchscript.translate import Translator

Rule = Callable[["Translator", list[Any]], Any]


def number_of(t: Translator, value: Any) -> Any:
    """``int(x)``, ``float(x)``, ``x.item()``.

    Raises:
        Obstacle: ``x`` is a tensor that the model computes.
    """
    if isinstance(value, Tensor) and value.numel() == 1:
        return value.item()
    if isinstance(value, fx.Node) and not t.is_number(value):
        raise t.obstacle("a Python number made from a tensor's value", NUMBER)
    return value


def compute(t: Translator, overload: Any, operands: list[Any]) -> Any:
    """The value of an operator on Python values."""
    given = [as_argument(overload, index, value) for index, value in enumerate(operands)]
    args, kwargs = arguments(overload, given)
    try:
        return overload(*args, **kwargs)
    except Exception as error:
        raise t.obstacle(f"{overload}, which fails ({type(error).__name__}: {error})", REWRITE) from error


def _size(t: Translator, operands: list[Any]) -> Any:
    x, *dim = operands
    return t.method("size", x, *dim) if dim else t.emit(getattr, (x, "shape"), number=True)


def _dim(t: Translator, operands: list[Any]) -> Any:
    rank = rank_of(t, operands[0])
    if rank is None:
        rank = _rank_in_layer(t.frames[-1].layer)
    return t.method("dim", operands[0]) if rank is None else rank


def _rank_in_layer(layer: type | None) -> int | None:
    """The rank that a layer of ``torch.nn`` for images, ``...2d``, takes with a batch."""
    name = layer.__name__ if layer is not None else ""
    return int(name[-2]) + 2 if name[-2:] in ("1d", "2d", "3d") and name != "BatchNorm1d" else None


def _len(t: Translator, operands: list[Any]) -> Any:
    value = operands[0]
    if not isinstance(value, fx.Node):
        return len(value)
    if t.is_number(value):
        return _shape_length(t, value)
    if rank_of(t, value) is not None or value.op == "placeholder":
        return t.method("size", value, 0)
    raise t.obstacle("len() of a list that an operator makes", NUMBER)


def _shape_length(t: Translator, shape: fx.Node) -> Any:
    """How many dims a shape, or a slice of one, has."""
    source: Any = shape.args[0]
    if shape.target is getattr:
        return _dim(t, [source])
    part: Any = shape.args[1] if shape.target is operator.getitem else None
    if isinstance(part, slice):
        whole = _shape_length(t, source)
        if isinstance(whole, int):
            return len(range(whole)[part])
        if isinstance(part.start, int) and part.start < 0 and part.stop is None:
            return -part.start
    raise t.obstacle("the length of a part of a shape of unknown rank", NUMBER)


def _items(t: Translator, value: Any) -> Any:
    """``list(value)``; of a shape of known rank its lengths, one by one."""
    if not t.is_number(value):
        return list(value)
    try:
        length = _shape_length(t, value)
    except Obstacle:
        return value
    if not isinstance(length, int):
        return value
    return [t.emit(operator.getitem, (value, index), number=True) for index in range(length)]


def _getitem(t: Translator, operands: list[Any]) -> Any:
    container, index = operands
    if isinstance(container, fx.Node) or isinstance(index, fx.Node):
        return t.emit(operator.getitem, (container, index), number=t.is_number(container))
    try:
        return container[index]
    except (KeyError, IndexError, TypeError) as error:
        raise t.obstacle(f"an item that is not there ({type(error).__name__}: {error})", REWRITE) from error


def _slice(t: Translator, operands: list[Any]) -> Any:
    container, *rest = operands
    if isinstance(container, (list, tuple, str)):
        return container[slice(*rest)]
    if t.is_number(container):
        start, end, step = rest
        return t.emit(operator.getitem, (container, slice(start, end, None if step == 1 else step)), number=True)
    return NotImplemented


def _is(t: Translator, operands: list[Any]) -> bool:
    left, right = operands
    if left is None or right is None:
        return left is right
    if isinstance(left, fx.Node) and isinstance(right, fx.Node):
        return left is right
    return bool(left is right)


def _format(t: Translator, operands: list[Any]) -> Any:
    text, *values = operands
    return text.format(*values)


def _arithmetic(function: Callable[..., Any], *, swapped: bool = False, scaled: bool = False) -> Rule:
    """``function`` of numbers and lists, NotImplemented where a tensor is among the operands."""

    def rule(t: Translator, operands: list[Any]) -> Any:
        values = [item for item in operands if not isinstance(item, str) or function is not operator.floordiv]
        if scaled and len(values) == 3 and values[2] == 1:
            values = values[:2]
        if len(values) > 2 or any(_is_tensor(t, value) for value in values):
            return NotImplemented
        values = values[::-1] if swapped else values
        if function is operator.add and any(isinstance(value, list) for value in values):
            values = [_items(t, value) if t.is_number(value) else value for value in values]
        if any(isinstance(leaf, fx.Node) for leaf in pytree.tree_leaves(values)):
            lists = function in (operator.add, operator.mul) and any(isinstance(value, list) for value in values)
            return function(*values) if lists else t.emit(function, tuple(values), number=True)
        try:
            return function(*values)
        except (TypeError, ArithmeticError) as error:
            raise t.obstacle(f"arithmetic that fails ({type(error).__name__}: {error})", REWRITE) from error

    return rule


def _is_tensor(t: Translator, value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, fx.Node) and not t.is_number(value))


def _divide(t: Translator, operands: list[Any]) -> Any:
    mode = operands[2] if len(operands) > 2 else None
    function = operator.floordiv if mode in ("floor", "trunc") else operator.truediv
    return _arithmetic(function)(t, operands[:2])


def _number(t: Translator, operands: list[Any]) -> Any:
    return number_of(t, operands[0])


def _whole_number(t: Translator, operands: list[Any]) -> Any:
    value = number_of(t, operands[0])
    return value if isinstance(value, fx.Node) else int(value)


def _truth(t: Translator, operands: list[Any]) -> Any:
    value = operands[0]
    return value if isinstance(value, fx.Node) else bool(value)


def _not(t: Translator, operands: list[Any]) -> Any:
    value = operands[0]
    return t.emit(operator.not_, (value,), number=t.is_number(value)) if isinstance(value, fx.Node) else not value


def _assign(t: Translator, operands: list[Any]) -> Any:
    container, key, value = operands
    t.require_own(container)
    container[key] = value
    return container


def _pop(t: Translator, operands: list[Any]) -> Any:
    t.require_own(operands[0])
    return operands[0].pop(*operands[1:])


def _in_place(method: str) -> Rule:
    """A method of lists and dicts that changes them."""

    def rule(t: Translator, operands: list[Any]) -> Any:
        t.require_own(operands[0])
        getattr(operands[0], method)(*operands[1:])
        return operands[0]

    return rule


def _contains(t: Translator, operands: list[Any]) -> Any:
    container, value = operands
    if isinstance(value, fx.Node):
        return NotImplemented
    return any(item == value for item in container if not isinstance(item, fx.Node))


ATEN: dict[str, Rule] = {
    "aten::size": _size,
    "aten::dim": _dim,
    "aten::numel": lambda t, operands: t.method("numel", operands[0]),
    "aten::len": _len,
    "aten::__getitem__": _getitem,
    "aten::slice": _slice,
    "aten::__is__": _is,
    "aten::__isnot__": lambda t, operands: not _is(t, operands),
    "aten::__not__": _not,
    "aten::__contains__": _contains,
    "aten::format": _format,
    "aten::warn": lambda t, operands: [],
    "aten::_unwrap_optional": lambda t, operands: operands[0],
    "aten::Int": _whole_number,
    "aten::IntImplicit": _whole_number,
    "aten::ScalarImplicit": _number,
    "aten::FloatImplicit": _number,
    "aten::Float": _number,
    "aten::item": _number,
    "aten::Bool": _truth,
    "aten::add": _arithmetic(operator.add, scaled=True),
    "aten::sub": _arithmetic(operator.sub, scaled=True),
    "aten::rsub": _arithmetic(operator.sub, swapped=True, scaled=True),
    "aten::mul": _arithmetic(operator.mul),
    "aten::div": _divide,
    "aten::floordiv": _arithmetic(operator.floordiv),
    "aten::floor_divide": _arithmetic(operator.floordiv),
    "aten::remainder": _arithmetic(operator.mod),
    "aten::neg": _arithmetic(operator.neg),
    "aten::eq": _arithmetic(operator.eq),
    "aten::ne": _arithmetic(operator.ne),
    "aten::lt": _arithmetic(operator.lt),
    "aten::le": _arithmetic(operator.le),
    "aten::gt": _arithmetic(operator.gt),
    "aten::ge": _arithmetic(operator.ge),
    "aten::append": _in_place("append"),
    "aten::extend": _in_place("extend"),
    "aten::insert": _in_place("insert"),
    "aten::reverse": _in_place("reverse"),
    "aten::clear": _in_place("clear"),
    "aten::update": _in_place("update"),
    "aten::_set_item": _assign,
    "aten::pop": _pop,
    "aten::list": lambda t, operands: _items(t, operands[0]),
    "aten::copy": lambda t, operands: operands[0].copy() if not isinstance(operands[0], fx.Node) else NotImplemented,
    "aten::keys": lambda t, operands: list(operands[0].keys()),
    "aten::values": lambda t, operands: list(operands[0].values()),
    "aten::items": lambda t, operands: list(operands[0].items()),
    "aten::get": lambda t, operands: operands[0].get(*operands[1:]),
}
"""The rule of each: the translator and the operands to the value; NotImplemented leaves it to torch's overload."""
