"""What a Normal graph says about the dtypes of its values without inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from qfx.ops.table import op_of


def is_floating(value: Any) -> bool:
    """Whether a tensor is certainly of a floating dtype."""
    return _is_floating(value, set())


def _is_floating(value: Any, seen: set[fx.Node]) -> bool:
    if not isinstance(value, fx.Node) or value in seen:
        return False
    seen.add(value)
    if "dtype" in value.meta:
        return bool(value.meta["dtype"].is_floating_point)
    op = op_of(value)
    if op is None:
        return False
    if op.keeps_dtype or op.qparams == "share":
        operands = value.args[0] if isinstance(value.args[0], (tuple, list)) else value.args[: len(op.tensors)]
        return any(_is_floating(operand, seen) for operand in operands)
    return op.gives_tensor


def is_boolean(value: Any) -> bool:
    """Whether a tensor certainly holds truth values."""
    if not isinstance(value, fx.Node):
        return False
    if "dtype" in value.meta:
        return bool(value.meta["dtype"] is torch.bool)
    op = op_of(value)
    return op is not None and op.qparams == "share" and is_boolean(value.args[0])
