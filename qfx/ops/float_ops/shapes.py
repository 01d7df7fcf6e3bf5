"""Shapes of the results of float ops that say a length themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qfx.ops.dims import Lengths


def layer_norm(x: Lengths, *operands: Any, normalized_shape: Sequence[int], **attributes: Any) -> Lengths:
    if len(normalized_shape) > len(x):
        raise ValueError(f"a norm over {len(normalized_shape)} dims of a value of rank {len(x)}")
    return (*x[: len(x) - len(normalized_shape)], *normalized_shape)
