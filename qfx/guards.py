"""What a capture took for granted about the inputs of a model: facts that every call is checked for.

A graph is the code as it ran once. Where the code asked for the length of a dim, the type of an argument or the number
of items of a list, the graph holds for inputs with the same answer only.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, NoReturn

import torch
from torch import Tensor

from qfx.errors import InputError

GUARDS = "guards"
"""Key of a graph's ``meta``: the facts that hold it, a tuple of :class:`Guard`."""

PLAIN = (type(None), bool, int, float, str, torch.dtype, torch.device)
"""Types of values that code compares and branches on, and that a file can hold. Subclasses, as of enums, are others."""

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)

Path = tuple[Any, ...]
"""The name of an input, and the keys that lead from it to a part of it."""

Expression = Any
"""A number, ``("size", path, dim)``, or the name of an operation and its operands."""


@dataclass(frozen=True)
class Guard:
    """One fact.

    Attributes:
        kind: A row of :data:`KINDS`.
        path: Of which part of which input; () for a relation, which names its own.
        wanted: What is so.
    """

    kind: str
    path: Path
    wanted: Any


@dataclass(frozen=True)
class _Kind:
    """How facts of a kind are checked.

    Attributes:
        valid: Whether ``wanted`` is one of this kind.
        holds: Whether ``wanted`` is so of a value.
        given: What a value has in its place, in words.
        expected: ``wanted`` in words.
        remedy: What to do where it is not so.
    """

    valid: Callable[[Any], bool]
    holds: Callable[[Any, Any], bool]
    given: Callable[[Any], str]
    expected: Callable[[Any], str]
    remedy: str


def is_plain(value: object) -> bool:
    """Whether ``value`` is of one of :data:`PLAIN` exactly."""
    return type(value) in PLAIN


def sort_of(value: object) -> str:
    """What a value is, in the word that a fact of the kind ``sort`` has for it."""
    if isinstance(value, Tensor):
        return "a tensor"
    for name, kinds in _CONTAINERS.items():
        if isinstance(value, kinds):
            return name
    if isinstance(value, torch.SymInt):
        return "of type int"
    return "None" if value is None else f"of type {type(value).__name__}"


_CONTAINERS: dict[str, Any] = {"a dict": Mapping, "a list or tuple": (list, tuple)}


def same_value(value: Any, wanted: Any) -> bool:
    """Whether ``value`` is ``wanted``, a plain value."""
    if type(value) is not type(wanted):
        return False
    return bool(value == wanted) or (isinstance(value, float) and math.isnan(value) and math.isnan(wanted))


def keys_of(value: Any) -> tuple[Any, ...]:
    """The keys of a dict, or the indices of a list."""
    return tuple(value) if isinstance(value, Mapping) else tuple(range(len(value)))


def _items_hold(value: Any, wanted: tuple[Any, ...]) -> bool:
    return sort_of(value) in _CONTAINERS and set(keys_of(value)) == set(wanted)


def _sizes_hold(value: Any, wanted: tuple[int | None, ...]) -> bool:
    return value.dim() == len(wanted) and all(w in (None, g) for g, w in zip(value.shape, wanted, strict=True))


def _sizes(wanted: tuple[int | None, ...]) -> str:
    return f"({', '.join('any' if size is None else str(size) for size in wanted)}{',' * (len(wanted) == 1)})"


def _items(keys: tuple[Any, ...]) -> str:
    return f"{len(keys)} items" if keys == tuple(range(len(keys))) else ", ".join(map(repr, keys))


def _is_tuple_of(*types: type) -> Callable[[Any], bool]:
    return lambda wanted: isinstance(wanted, tuple) and all(type(item) in types for item in wanted)


_OTHER_SIZES = (
    "Pass inputs of that size, or quantize again with example inputs and calibration data of the size that you need. "
    'frontend="export" keeps sizes free where the model does, and so does an ExportedProgram with dynamic_shapes.'
)
_OTHER_VALUE = "Pass what it was captured with, or quantize again with example inputs that hold what you pass now."

KINDS: dict[str, _Kind] = {
    "sort": _Kind(
        lambda wanted: isinstance(wanted, str), lambda value, wanted: sort_of(value) == wanted,
        lambda value: f"is {sort_of(value)}", lambda wanted: f"it was {wanted} when the model was captured",
        _OTHER_VALUE,
    ),
    "traced": _Kind(
        lambda wanted: wanted is None, lambda value, _: not is_plain(value),
        lambda value: f"is {value!r}", lambda wanted: "it was taken for a tensor when the model was captured",
        "Pass a tensor, or quantize again with example inputs that hold what you pass now.",
    ),
    "value": _Kind(
        is_plain, same_value,
        lambda value: f"is {value!r}" if is_plain(value) else f"is {sort_of(value)}",
        lambda wanted: f"it was {wanted!r} when the model was captured", _OTHER_VALUE,
    ),
    "items": _Kind(
        _is_tuple_of(int, str, bool), _items_hold,
        lambda value: f"has {_items(keys_of(value))}" if sort_of(value) in _CONTAINERS else f"is {sort_of(value)}",
        lambda wanted: f"it had {_items(wanted)} when the model was captured", _OTHER_VALUE,
    ),
    "rank": _Kind(
        lambda wanted: type(wanted) is int, lambda value, wanted: value.dim() == wanted,
        lambda value: f"has rank {value.dim()} (shape {tuple(value.shape)})",
        lambda wanted: f"the model was prepared with rank {wanted}",
        "Pass a tensor of that rank; a single sample needs a batch dimension.",
    ),
    "dtype": _Kind(
        _is_tuple_of(torch.dtype), lambda value, wanted: value.dtype in wanted,
        lambda value: f"has dtype {value.dtype}",
        lambda wanted: f"it had {' or '.join(map(str, wanted))} when the model was captured",
        "Pass it in that dtype, x.to(dtype), or quantize again with example inputs of yours.",
    ),
    "sizes": _Kind(
        _is_tuple_of(int, type(None)), _sizes_hold,
        lambda value: f"has shape {tuple(value.shape)}", lambda wanted: f"the model takes {_sizes(wanted)}",
        _OTHER_SIZES,
    ),
}  # fmt: skip
"""Facts about one part of one input. The kind ``relation`` is about the sizes of several."""


def require(guards: Iterable[Guard], inputs: Mapping[str, Any], *, coded: Iterable[str] = ()) -> None:
    """Raise unless every fact is so of ``inputs``.

    Args:
        guards: The facts.
        inputs: Every input by name.
        coded: Names of the inputs that arrive as integers, whose dtype is not that of the float model.

    Raises:
        InputError: The input, what it is, what it has to be, and what to do.
    """
    coded = frozenset(coded)
    for guard in guards:
        if guard.kind == "relation":
            _require_relation(guard.wanted, inputs)
        elif guard.kind != "dtype" or guard.path[0] not in coded:
            kind, value = KINDS[guard.kind], part_of(inputs, guard.path)
            if not kind.holds(value, guard.wanted):
                what = f"Input {spelled(guard.path)!r}"
                _refuse(what, kind.given(value), kind.expected(guard.wanted), kind.remedy, str(guard.path[0]))


def about_shapes(guards: Iterable[Guard], names: Collection[str]) -> tuple[Guard, ...]:
    """Those of ``guards`` that are about the shapes of the inputs ``names``, which are tensors, alone."""
    return tuple(
        guard
        for guard in guards
        if (guard.kind in ("rank", "sizes") and len(guard.path) == 1 and guard.path[0] in names)
        or (guard.kind == "relation" and all(len(p) == 1 and p[0] in names for p in read_by(guard.wanted)))
    )


def part_of(inputs: Mapping[str, Any], path: Path) -> Any:
    """The part of ``inputs`` at ``path``, whose containers have been checked."""
    return reduce(lambda value, key: value[key], path, inputs)


def spelled(path: Path) -> str:
    """A path as code writes it."""
    return f"{path[0]}{''.join(f'[{key!r}]' for key in path[1:])}"


def is_sound(guard: Guard) -> bool:
    """Whether a record is a fact that can be checked, as a file must show of each that it holds."""
    kind, path, wanted = guard.kind, guard.path, guard.wanted
    if kind == "relation":
        return path == () and _is_condition(wanted)
    named = isinstance(path, tuple) and all(type(key) in (str, int, bool) for key in path) and path[:1] != ()
    return named and isinstance(path[0], str) and kind in KINDS and KINDS[kind].valid(wanted)


# ---------------------------------------------------------------- relations


def _divide(left: Any, right: Any) -> Any:
    return left / right


OPERATIONS: dict[str, tuple[Callable[..., Any], str]] = {
    "+": (lambda *values: sum(values), "({} + {})"),
    "-": (operator.sub, "({} - {})"),
    "*": (operator.mul, "{} * {}"),
    "//": (operator.floordiv, "({} // {})"),
    "%": (operator.mod, "({} % {})"),
    "/": (_divide, "({} / {})"),
    "neg": (operator.neg, "-{}"),
    "max": (max, "max({}, {})"),
    "min": (min, "min({}, {})"),
    "trunc": (math.trunc, "int({})"),
    "floor": (math.floor, "math.floor({})"),
    "ceil": (math.ceil, "math.ceil({})"),
    "float": (float, "float({})"),
    "int": (int, "int({})"),
    "abs": (abs, "abs({})"),
    "sqrt": (math.sqrt, "math.sqrt({})"),
    "==": (operator.eq, "{} == {}"),
    "!=": (operator.ne, "{} != {}"),
    "<": (operator.lt, "{} < {}"),
    "<=": (operator.le, "{} <= {}"),
    ">": (operator.gt, "{} > {}"),
    ">=": (operator.ge, "{} >= {}"),
    "and": (lambda *values: all(values), "{} and {}"),
    "or": (lambda *values: any(values), "({} or {})"),
    "not": (operator.not_, "not {}"),
}
"""What relations may compute: name, function, and how code writes it."""

_DEEPEST = 60


def written(expression: Expression) -> str:
    """An expression as code writes it."""
    if not isinstance(expression, tuple):
        return str(expression)
    if expression[0] == "size":
        return f"{spelled(expression[1])}.shape[{expression[2]}]"
    return OPERATIONS[expression[0]][1].format(*map(written, expression[1:]))


def evaluate(expression: Expression, inputs: Mapping[str, Any]) -> Any:
    """The value of an expression."""
    if not isinstance(expression, tuple):
        return expression
    if expression[0] == "size":
        return part_of(inputs, expression[1]).shape[expression[2]]
    return OPERATIONS[expression[0]][0](*(evaluate(operand, inputs) for operand in expression[1:]))


def read_by(expression: Expression) -> list[Path]:
    """The inputs whose sizes an expression reads, in order, each once."""
    if not isinstance(expression, tuple):
        return []
    found = [expression[1]] if expression[0] == "size" else [p for e in expression[1:] for p in read_by(e)]
    return list(dict.fromkeys(found))


def _require_relation(condition: Expression, inputs: Mapping[str, Any]) -> None:
    try:
        held = evaluate(condition, inputs)
    except ArithmeticError:
        held = False
    if held:
        return
    paths = read_by(condition)
    has = " and ".join(f"{spelled(path)!r} has shape {tuple(part_of(inputs, path).shape)}" for path in paths)
    _refuse(f"Input {has}", "", f"the model was captured for {written(condition)}", _OTHER_SIZES)


def _is_condition(expression: Any, depth: int = 0) -> bool:
    if not isinstance(expression, tuple):
        return type(expression) in (int, float, bool)
    if depth > _DEEPEST or not expression or not isinstance(expression[0], str):
        return False
    if expression[0] == "size":
        return (
            len(expression) == 3
            and is_sound(Guard("rank", expression[1], 0))
            and type(expression[2]) is int
            and expression[2] >= 0
        )
    name, *operands = expression
    fits = name in OPERATIONS and len(operands) == OPERATIONS[name][1].count("{}")
    return fits and all(_is_condition(operand, depth + 1) for operand in operands)


def _refuse(what: str, given: str, expected: str, remedy: str, where: str | None = None) -> NoReturn:
    raise InputError(
        f"{what}{' ' * bool(given)}{given}, but {expected}.",
        where=where,
        why="The graph holds for such inputs only: the code was captured as it ran on the example inputs.",
        remedy=remedy,
    )


# ---------------------------------------------------------------- facts of examples


def structure(path: Path, value: Any, *, exact: bool) -> list[Guard]:
    """The facts that any capture takes for granted about an input: what it is, and the ranks and dtypes of its tensors.

    Args:
        path: Of the input.
        value: An example of it.
        exact: Whether the capture fixes the dtypes of integers.
    """
    if isinstance(value, Tensor):
        floats = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
        alike = floats if value.dtype in floats else INTEGERS if value.dtype in INTEGERS and not exact else None
        sort = Guard("sort", path, "a tensor")
        return [sort, Guard("rank", path, value.dim()), Guard("dtype", path, alike or (value.dtype,))]
    if sort_of(value) in _CONTAINERS:
        inner = [g for key in keys_of(value) for g in structure((*path, key), value[key], exact=exact)]
        return [Guard("sort", path, sort_of(value)), Guard("items", path, keys_of(value)), *inner]
    if is_plain(value):
        return [Guard("value", path, value)]
    return [Guard("sort", path, sort_of(value))]


def tensors_of(path: Path, value: Any) -> list[tuple[Path, Tensor]]:
    """Every tensor in an input, with its path."""
    if isinstance(value, Tensor):
        return [(path, value)]
    if sort_of(value) in _CONTAINERS:
        return [found for key in keys_of(value) for found in tensors_of((*path, key), value[key])]
    return []
