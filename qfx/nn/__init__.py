"""Modules and functionals of quantized networks, by the names they have in torch.nn."""

from __future__ import annotations

import importlib
from typing import Any

from torch.nn import MaxPool2d

__all__ = ["MaxPool2d"]

_LATER = ("functional", "intrinsic", "qat", "quantized")


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
