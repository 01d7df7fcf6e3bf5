"""Arguments of public calls against their annotations: what a raw error of a call is explained by.

A call does not look at its arguments before it runs, so what works is never refused. Where it fails with an error that
is not qfx's, and an argument does not fit its annotation, that argument is the error.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import inspect
import math
import types
from collections import abc
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin

from qfx.errors import InputError, QfxError, shown

P = ParamSpec("P")
R = TypeVar("R")


def explained(fn: Callable[P, R]) -> Callable[P, R]:
    """Decorator: an InputError where ``fn`` fails with a raw error and an argument does not fit its annotation.

    Errors of qfx's stay as they are, and so do others where every argument fits: those of the caller's own code, and
    Python's of arguments that are missing or have other names.
    """

    @functools.wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return fn(*args, **kwargs)
        except QfxError:
            raise
        except Exception as error:
            wrong = misfit(fn, args, kwargs)
            if wrong is None:
                raise
            raise wrong from error

    return call


def checked(fn: Callable[P, R]) -> Callable[P, R]:
    """Decorator: as :func:`explained`, and looks where nothing fails too: for calls that keep arguments for later.

    It looks first; but a constructor's own errors come before, since they know more, and nobody gets what it made.
    """
    looks_first, run = fn.__name__ != "__init__", explained(fn)

    @functools.wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if looks_first:
            _require_fit(fn, args, kwargs)
        result = run(*args, **kwargs)
        if not looks_first:
            _require_fit(fn, args, kwargs)
        return result

    return call


def _require_fit(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    wrong = misfit(fn, args, kwargs)
    if wrong is not None:
        raise wrong


def misfit(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> InputError | None:
    """The error that names the first argument of ``fn`` that does not fit its annotation, or None."""
    try:
        bound = inspect.signature(fn).bind(*args, **kwargs).arguments
    except TypeError:
        return None
    hints = hints_of(fn)
    for name, value in bound.items():
        if name in hints and not fits(value, hints[name]):
            owner = fn.__qualname__.removesuffix(".__init__")
            return InputError(
                f"{owner} can't take {name}={shown(value)}.",
                why=f"It is of type {type(value).__name__}, and {name} is {described(hints[name])}.",
                remedy=f"Pass {described(hints[name])}.",
            )
    return None


@functools.cache
def hints_of(fn: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of ``fn`` by parameter, less those that only type checkers can read."""
    inner: Any = inspect.unwrap(vars(fn).get("__init__", fn) if isinstance(fn, type) else fn)
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(fn).parameters.items():
        hint = parameter.annotation
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) or hint is parameter.empty:
            continue
        with contextlib.suppress(Exception):
            found[name] = eval(hint, inner.__globals__) if isinstance(hint, str) else hint
    return found


def fits(value: Any, hint: Any) -> bool:
    """Whether ``value`` is what ``hint`` says; True where it says nothing that can be seen."""
    if hint is Any:
        return True
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, part) for part in get_args(hint))
    if origin is Literal:
        return any(type(value) is type(known) and value == known for known in get_args(hint))
    if hint is None or hint is type(None):
        return value is None
    if origin is type:
        return isinstance(value, type) and all(_is_subclass(value, part) for part in get_args(hint))
    if origin is abc.Callable or hint is abc.Callable:
        return callable(value)
    if isinstance(origin, type):
        return _is_collection(value, origin, get_args(hint))
    return not isinstance(hint, type) or _is_instance(value, hint)


def _is_subclass(value: type, hint: Any) -> bool:
    return hint is Any or not isinstance(hint, type) or issubclass(value, hint)


def _is_instance(value: Any, hint: type) -> bool:
    if hint is bool:
        return type(value).__name__ in ("bool", "bool_") or (type(value) is int and value in (0, 1))
    if hint is int:
        return _is_whole(value)
    if hint is float:
        return _is_real(value)
    if issubclass(hint, enum.Enum):
        return isinstance(value, hint) or any(type(value) is type(m.value) and value == m.value for m in hint)
    if getattr(hint, "_is_protocol", False):
        return True
    return isinstance(value, hint)


def _is_whole(value: Any) -> bool:
    """An integer of 64 bits, numpy's and tensors of one value too."""
    value = _only(value)
    return isinstance(value, int) and -(2**63) <= value < 2**63


def _is_real(value: Any) -> bool:
    value = _only(value)
    return isinstance(value, (int, float)) and (isinstance(value, float) or abs(value) < 2**1023)


def _only(value: Any) -> Any:
    """The number that an array or a tensor of one value holds; anything else as it is."""
    with contextlib.suppress(Exception):
        if hasattr(value, "item") and len(value.shape) <= 1 and math.prod(value.shape) == 1:
            return value.item()
    return value


def _is_collection(value: Any, origin: type, of: tuple[Any, ...]) -> bool:
    if not isinstance(value, (tuple, list) if origin in (tuple, list) else origin) or isinstance(value, (str, bytes)):
        return False
    if type(value).__module__.partition(".")[0] in ("torch", "numpy", "qfx"):
        return not of or fits(_first(value), of[0])
    inside = list(value) if isinstance(value, (list, tuple, set, frozenset)) else []
    return not of or all(fits(item, of[0]) for item in inside)


def _first(value: Any) -> Any:
    """The first item of an array, or what none of its items is."""
    try:
        return next(iter(value))
    except Exception:
        return ...


_NAMES = {
    bool: "True or False", int: "a whole number of 64 bits", float: "a real number", str: "a text",
    type(None): "None", type: "a class", abc.Callable: "a function", abc.Mapping: "a dict", dict: "a dict",
}  # fmt: skip


def described(hint: Any) -> str:
    """What ``hint`` asks for, in words."""
    origin, of = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(described(part) for part in of))
    if origin is Literal:
        return "one of " + ", ".join(map(repr, of))
    if origin is type and of:
        return f"a class of {getattr(of[0], '__name__', of[0])}"
    if origin in (abc.Sequence, abc.Iterable, abc.Collection, list, set):
        inner = f" of {described(of[0])}" if of else ""
        return f"a list{inner}"
    plain = _NAMES.get(hint if hint is not None else type(None)) or _NAMES.get(origin)
    return plain or f"of type {getattr(origin or hint, '__name__', hint)}"


@contextlib.contextmanager
def explaining(made: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[None]:
    """While active, a raw error is that of a call of torch's class ``made``: an InputError that says what it refused.

    Python's error of arguments that are missing or have other names stays.
    """
    _require_fit(made, args, kwargs)
    try:
        yield
    except QfxError:
        raise
    except Exception as error:
        try:
            inspect.signature(made).bind(*args, **kwargs)
        except TypeError:
            raise error from None
        name = made.__name__
        raise misfit(made, args, kwargs) or InputError(
            f"{name} can't be made of these arguments.",
            why=f"{type(error).__name__}: {error}",
            remedy=f"Pass what torch's {name} takes.",
        ) from error
