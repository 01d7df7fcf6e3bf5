"""Factories of observers and fake-quantize modules: what a QConfig holds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from qfx.arguments import checked


class Factory:
    """A callable with arguments bound by name; each call builds a new module.

    Factories compare and hash by value and pickle as long as their callable does. Arguments given later win:
    ``A.with_args(a=1).with_args(a=2)()`` is ``A(a=2)``.
    """

    __slots__ = ("_kwargs", "_target")

    @checked
    def __init__(self, target: Callable[..., Any], kwargs: dict[str, Any] | None = None) -> None:
        self._target = target
        self._kwargs = dict(kwargs or {})

    @property
    def target(self) -> Callable[..., Any]:
        """The class (or function) that is called."""
        return self._target

    @property
    def kwargs(self) -> dict[str, Any]:
        """A copy of the bound arguments."""
        return dict(self._kwargs)

    def with_args(self, **kwargs: Any) -> Factory:
        """A factory with these arguments bound on top of those already bound."""
        return Factory(self._target, {**self._kwargs, **kwargs})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._target(*args, **{**self._kwargs, **kwargs})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Factory):
            return NotImplemented
        return self._target == other._target and self._kwargs == other._kwargs

    def __hash__(self) -> int:
        return hash((self._target, frozenset(self._kwargs)))

    def __reduce__(self) -> tuple[object, ...]:
        return Factory, (self._target, self._kwargs)

    def __repr__(self) -> str:
        name = getattr(self._target, "__name__", repr(self._target))
        return f"{name}.with_args({', '.join(f'{k}={_name(v)}' for k, v in self._kwargs.items())})"


def _name(value: object) -> str:
    return value.__name__ if isinstance(value, type) else repr(value)


class WithArgs:
    """Mixin: ``cls.with_args(...)`` is a chainable, comparable, picklable factory of ``cls``."""

    @classmethod
    def with_args(cls, **kwargs: Any) -> Factory:
        """A factory that calls this class with ``kwargs``; chainable."""
        return Factory(cls, kwargs)


def bound_arguments(factory: object) -> dict[str, Any]:
    """The arguments bound in ``factory``; empty for a plain class or function."""
    if isinstance(factory, partial):
        return dict(factory.keywords)
    return factory.kwargs if isinstance(factory, Factory) else {}


def built_class(factory: object) -> type | None:
    """The class whose instances ``factory`` builds, as far as that shows without a call."""
    # torch.ao's with_args keeps a functools.partial in ``p``.
    wrapped = getattr(factory, "p", None)
    factory = wrapped if isinstance(wrapped, partial) else factory
    while isinstance(factory, (Factory, partial)):
        factory = factory.target if isinstance(factory, Factory) else factory.func
    return factory if isinstance(factory, type) else None
