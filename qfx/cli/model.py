"""What ``module:name`` names, and the models among it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from torch import nn

from qfx.errors import InputError


def load_model(spec: str) -> nn.Module:
    """The float model that ``module:factory`` makes, or ``module:model`` is.

    Raises:
        InputError: There is no such thing, calling it fails, or it makes no model.
    """
    made = named_object(spec, "MODEL")
    model = made if isinstance(made, nn.Module) else called(made, spec) if callable(made) else made
    if not isinstance(model, nn.Module):
        raise InputError(
            f"MODEL {spec!r} gives {type(model).__name__}, not an nn.Module.",
            remedy="Name a function without arguments that returns the model.",
        )
    return model


def named_object(spec: str, what: str) -> Any:
    """The object that ``module:name`` names; modules of the current folder count.

    Raises:
        InputError: It can't be imported, or is not there.
    """
    module_name, _, attribute = spec.partition(":")
    if not module_name or not attribute:
        raise InputError(f"{what} is {spec!r}.", remedy="Write module:name, such as my_package.models:make.")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise InputError(
            f"{what} {spec!r}: {module_name} can't be imported.",
            why=f"{type(error).__name__}: {error}.",
            remedy="Run from the folder that holds it, or install its package.",
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise InputError(f"{what} {spec!r}: {module_name} has no {attribute!r}.", remedy=_similar(found, part))
        found = getattr(found, part)
    return found


def _similar(owner: Any, name: str) -> str:
    if not isinstance(owner, ModuleType):
        return "Check the name."
    names = [n for n, v in vars(owner).items() if callable(v) and not n.startswith("_")]
    return f"Instead of {name}, it has {', '.join(names[:8]) or 'no functions'}."


def called(made: Callable[[], Any], spec: str) -> Any:
    """What the function that ``spec`` names returns.

    Raises:
        InputError: It raises.
    """
    try:
        return made()
    except Exception as error:
        raise InputError(
            f"{spec!r} raises {type(error).__name__}: {error}.", remedy="Name a function that runs without arguments."
        ) from error
