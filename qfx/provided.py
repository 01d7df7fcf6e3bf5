"""What a lower layer asks of a higher one, which it may not import: named here, and the package's root says where."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from enum import Enum
from typing import Any


class Part(Enum):
    """What is asked for; the value says what it does."""

    views = "shows an object as HTML for a notebook"
    numeric_rules = "the rule of a function of torch that computes new values from QTensors, None where there is none"
    layers = "the classes of qfx.nn that take the place of others"
    prepare = "qfx.prepare_fx"
    convert = "qfx.convert_fx"
    to_qdq = "the QDQ graph of an Observed one"


_PLACES: dict[Part, tuple[str, str]] = {}


def provide(places: Mapping[Part, tuple[str, str]]) -> None:
    """Say where parts are, module and name; nothing is imported yet."""
    _PLACES.update(places)


def provided(part: Part) -> Any:
    """What ``part`` is, imported now if it has not been."""
    module, name = _PLACES[part]
    return getattr(importlib.import_module(module), name)
