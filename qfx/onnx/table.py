"""What each row of the op table is in ONNX: ``FORMS``, and the decorator that fills it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from qfx.onnx.graph import Call

Form: TypeAlias = Callable[[Call], str]
"""Writes the nodes of a call, and returns the name of its result."""

FORMS: dict[str, Form] = {}
"""By the row's name."""


def form(*names: str) -> Callable[[Form], Form]:
    """Decorator: the function is the form of these rows."""

    def enter(function: Form) -> Form:
        for name in names:
            assert name not in FORMS, f"{name} has two forms"
            FORMS[name] = function
        return function

    return enter
