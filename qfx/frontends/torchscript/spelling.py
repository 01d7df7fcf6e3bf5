"""What the user wrote where TorchScript has operators: which function, and that it was one where they are several."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

_OPERATORS: dict[str, Callable[..., Any]] = {
    "add": operator.add, "sub": operator.sub, "rsub": operator.sub, "mul": operator.mul, "div": operator.truediv,
    "matmul": operator.matmul, "neg": operator.neg, "pow": operator.pow,
}  # fmt: skip
"""What a user wrote as a function of these names is taken for the operator: TorchScript does not tell them apart."""

_FUNCTIONAL = re.compile(r"\S*torch/nn/functional\.py\(\d+\): (\w+)\n")
_LAST_STEPS = {"softsign": "div", "tanhshrink": "sub"}


def spelling(overload: Any, origin: str) -> Any:
    """The function or method name to which an ``object_type`` entry for a call of ``overload`` refers.

    Args:
        overload: A ``torch.ops.aten`` overload.
        origin: The text that TorchScript has for the place of the call.
    """
    name = overload._opname.rstrip("_")
    traced = _FUNCTIONAL.match(origin)
    if traced is not None and hasattr(F, traced[1]):
        return getattr(F, traced[1])
    if name in _OPERATORS:
        return _OPERATORS[name]
    place = next((place for place in (torch, F) if hasattr(place, name)), None)
    return getattr(place, name) if place is not None else name if hasattr(Tensor, name) else overload


def written_in_one(overload: Any, args: tuple[Any, ...], origin: str) -> tuple[Any, tuple[Any, ...]] | None:
    """Function and arguments of the user's call of which ``overload(*args)`` is the last of several steps.

    Args:
        overload: A ``torch.ops.aten`` overload.
        args: Its arguments.
        origin: As for :func:`spelling`.
    """
    traced = _FUNCTIONAL.match(origin)
    if traced is not None and _LAST_STEPS.get(traced[1]) == overload._opname:
        return getattr(F, traced[1]), args[:1]
    scaled = overload._opname == "mul" and isinstance(args[1], (int, float)) and isinstance(args[0], fx.Node)
    if scaled and args[0].target is torch.ops.aten.reciprocal.default and args[0].meta.get(ORIGIN) == origin != "":
        return operator.truediv, (args[1], args[0].args[0])
    return None


ORIGIN = "torchscript_origin"
"""Key of a node's ``meta``: the text that TorchScript has for the place of the call."""
