"""A part of a qconfig_dict as the Python that makes it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch

from qfx import quantization
from qfx.ir.types import QDType, QScheme
from qfx.quantization import observer, qconfig
from qfx.quantization.factory import Factory
from qfx.quantization.qconfig import QConfig


def code_of(value: Any) -> str:
    """Python that gives ``value`` again where qfx, torch and operator are imported.

    Args:
        value: What a qconfig_dict may hold.
    """
    if isinstance(value, QConfig):
        names = _named()
        known = next((name for name, other in names.items() if other == value), None)
        return f"qfx.{known}" if known else _call(f"qfx.{type(value).__name__}", value._asdict())
    if isinstance(value, Factory):
        known = next((name for name, other in _factories().items() if other == value), None)
        return f"qfx.{known}" if known else _call(f"{code_of(value.target)}.with_args", value.kwargs)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{code_of(k)}: {code_of(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        inner = ", ".join(map(code_of, value))
        return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' if len(value) == 1 else ''})"
    if isinstance(value, (QDType, QScheme)):
        return f"qfx.{value.name}"
    return _object(value) if callable(value) else repr(value)


def _call(name: str, arguments: Mapping[str, Any]) -> str:
    return f"{name}({', '.join(f'{k}={code_of(v)}' for k, v in arguments.items())})"


def _object(value: Any) -> str:
    """A class or function by the module that has it."""
    name = getattr(value, "__name__", repr(value))
    for module, shown in ((quantization, "qfx"), (torch, "torch"), (torch.nn.functional, "torch.nn.functional")):
        if getattr(module, name, None) is value and (module is not quantization or name in quantization.__all__):
            return f"{shown}.{name}"
    home = str(getattr(value, "__module__", None) or "torch").removeprefix("_")
    home = "torch.nn" if home.startswith("torch.nn.modules") else home
    return f"{home}.{getattr(value, '__qualname__', name)}"


@functools.cache
def _named() -> dict[str, QConfig]:
    return {k: v for k, v in vars(qconfig).items() if isinstance(v, QConfig) and k in quantization.__all__}


@functools.cache
def _factories() -> dict[str, Factory]:
    return {k: v for k, v in vars(observer).items() if isinstance(v, Factory) and k in quantization.__all__}
