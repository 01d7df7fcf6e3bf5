"""What a Normal graph says about the dtypes of its values without inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from qfx.ops.table import op_of


def known_dtype(value: Any) -> torch.dtype | None:
    """The dtype of a tensor, as it was seen or as its op says; None where neither tells."""
    if not isinstance(value, fx.Node):
        return None
    op = op_of(value)
    told = value.kwargs.get("dtype") if op is None or op.dtype is None else op.dtype
    found: torch.dtype | None = value.meta.get("dtype", told if op is not None else None)
    return found


def is_integral(value: Any) -> bool:
    """Whether a tensor certainly holds integers that programs have, and not truth values."""
    return known_dtype(value) in (torch.int64, torch.int32)


def is_floating(value: Any) -> bool:
    """Whether a tensor is certainly of a floating dtype."""
    return _is_floating(value, set())


def _is_floating(value: Any, seen: set[fx.Node]) -> bool:
    if not isinstance(value, fx.Node) or value in seen:
        return False
    seen.add(value)
    op, dtype = op_of(value), known_dtype(value)
    if dtype is not None:
        return dtype.is_floating_point
    if op is None:
        return False
    if op.keeps_dtype or op.qparams == "share":
        operands = value.args[0] if isinstance(value.args[0], (tuple, list)) else value.args[: len(op.tensors)]
        return any(_is_floating(operand, seen) for operand in operands)
    return op.gives_tensor


def is_boolean(value: Any) -> bool:
    """Whether a tensor certainly holds truth values."""
    dtype, op = known_dtype(value), op_of(value)
    if dtype is not None:
        return dtype is torch.bool
    return op is not None and op.qparams == "share" and is_boolean(value.args[0])
