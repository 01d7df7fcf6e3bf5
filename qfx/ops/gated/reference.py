"""Float reference of gated products."""

from __future__ import annotations

from torch import Tensor

from qfx.errors import InputError
from qfx.ops.pointwise import reference as pointwise

FUNCTIONS = {fn.__name__: fn for fn in (pointwise.silu, pointwise.gelu, pointwise.sigmoid)}
"""What a gate may be: its row's name, and its function."""


def gated(x: Tensor, y: Tensor, *, function: str, approximate: str = "none") -> Tensor:
    """``function(x) * y``.

    Args:
        x, y: Of one shape.
        function: Of :data:`FUNCTIONS`.
        approximate: GELU's argument; others have none.

    Raises:
        InputError: Shapes differ, or no gate is called so.
    """
    if x.shape != y.shape or function not in FUNCTIONS:
        raise InputError(
            f"gated can't multiply {function} of {tuple(x.shape)} by {tuple(y.shape)}.",
            remedy=f"Give two tensors of one shape, and one of {', '.join(FUNCTIONS)}.",
        )
    return FUNCTIONS[function](x, **gate_arguments(function, approximate)) * y


def gate_arguments(function: str, approximate: str) -> dict[str, str]:
    """The keyword arguments of the gate's own row."""
    return {"approximate": approximate} if function == "gelu" else {}
