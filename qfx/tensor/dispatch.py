"""What a function of torch does on a QTensor: one table from functions to rules.

Views and moves run on the integers, comparisons on the exact values, and anything that computes new values goes to
:mod:`qfx.eager`. What no rule covers raises and names the function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from qfx.errors import UnsupportedError
from qfx.provided import Part, provided
from qfx.tensor.functions import RULES, Rule


def dispatch(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``func(*args, **kwargs)`` with at least one QTensor among the arguments.

    Raises:
        UnsupportedError: No rule covers the function, or the rule not these arguments.
    """
    rule = RULES.get(func) or _NUMERIC.get(func) or _numeric(func)
    if rule is None:
        raise UnsupportedError(
            f"{name_of(func)} is not defined on a QTensor.",
            remedy="Call it on x.dequantize(), and quantize the result where integers are needed again.",
        )
    if not args and "input" in kwargs:
        args, kwargs = (kwargs["input"],), {k: v for k, v in kwargs.items() if k != "input"}
    return rule(func, args, kwargs)


_NUMERIC: dict[Callable[..., Any], Rule] = {}
"""Rules found so far; not that there is none, for one may be registered."""


def _numeric(func: Callable[..., Any]) -> Rule | None:
    """The rule of a function that computes new values: those rules live above this package, and load on first use."""
    found: Rule | None = provided(Part.numeric_rules)(func)
    if found is not None:
        _NUMERIC[func] = found
    return found


def name_of(func: Callable[..., Any]) -> str:
    """``torch.nn.functional.conv2d``, ``torch.Tensor.add``."""
    known = torch.overrides.resolve_name(func)
    return str(known or getattr(func, "__qualname__", None) or f"A {type(func).__name__}")
