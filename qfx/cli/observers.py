"""Observers by name, with arguments, as configuration files spell them."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

import torch

import qfx
from qfx.errors import QConfigError
from qfx.ir.types import QDType, QScheme
from qfx.quantization import factory
from qfx.quantization.observer import Observer

_ENUMS: dict[str, Any] = {"dtype": QDType, "qscheme": QScheme}
"""Arguments whose values are names of members."""


def observer_factory(value: Any) -> Any:
    """The factory that ``"HistogramObserver"`` or ``{"observer": "HistogramObserver", "reduce_range": true}`` spells.

    Raises:
        QConfigError: No such observer, or it takes no such argument.
    """
    table = {"observer": value} if isinstance(value, str) else value
    if not isinstance(table, Mapping) or not isinstance(table.get("observer"), str):
        raise QConfigError(
            f"{value!r} is no observer.",
            remedy='Write its name, or a table {"observer": name, argument: value}.',
        )
    made = _named(table["observer"])
    arguments = {k: v for k, v in table.items() if k != "observer"}
    return made.with_args(**_checked(made, table["observer"], arguments)) if arguments else made


def _named(name: str) -> Any:
    found = getattr(qfx, name, None) if name.isidentifier() else None
    if found is not None and _is_observer(found):
        return found
    known = [n for n in dir(qfx) if _is_observer(getattr(qfx, n))]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    raise QConfigError(f"There is no observer {name!r}.", remedy=f"Nearest: {', '.join(near or known[:5])}.")


def _is_observer(value: object) -> bool:
    built = factory.built_class(value)
    return built is not None and issubclass(built, Observer) and hasattr(value, "with_args")


def _checked(made: Any, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    known = _parameters(factory.built_class(made))
    for key in arguments:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise QConfigError(
                f"{name} takes no {key!r}.",
                why=f"Did you mean {near[0]!r}?" if near else None,
                remedy=f"It takes {', '.join(known)}.",
            )
    return {key: _value(key, value) for key, value in arguments.items()}


def _parameters(kind: type | None) -> list[str]:
    """Keyword arguments of a class, those that it passes on to its bases among them."""
    found: dict[str, None] = {}
    for cls in kind.__mro__ if kind is not None else ():
        init = vars(cls).get("__init__")
        parameters = inspect.signature(init).parameters.values() if init is not None else ()
        plain = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self"]
        found.update(dict.fromkeys(plain))
        if init is not None and not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return list(found)


def _value(key: str, value: Any) -> Any:
    enum = _ENUMS.get(key)
    if enum is None or not isinstance(value, str):
        return value
    name = value.rpartition(".")[2]
    if name in enum.__members__:
        return enum[name]
    if key == "dtype" and isinstance(getattr(torch, name, None), torch.dtype):
        return getattr(torch, name)
    raise QConfigError(f"{value!r} is no {key}.", remedy=f"Write one of {', '.join(enum.__members__)}.")
