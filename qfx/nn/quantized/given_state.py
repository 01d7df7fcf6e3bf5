"""State of PyTorch's own quantized modules, as the modules here have it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from qfx.tensor import from_torch

_PACKED = "_packed_params._packed_params"
"""Where linear layers keep their weight, of a quantized dtype, and their bias."""


def unpack_state(state: dict[str, Any], prefix: str) -> None:
    """Write the entries of one module with the names and plain tensors that it has here.

    Args:
        state: A state_dict, changed in place.
        prefix: The module's path in it, with a dot behind.

    Raises:
        QuantizationError: A weight with zero points that are no integers.
    """
    packed = state.get(prefix + _PACKED)
    if isinstance(packed, tuple) and len(packed) == 2:
        home = f"{prefix}_packed_params."
        for key in [key for key in state if key.startswith(home)]:
            del state[key]
        state[f"{prefix}weight"], bias = packed
        if bias is not None:
            state[f"{prefix}bias"] = bias
    weight = state.get(f"{prefix}weight")
    if isinstance(weight, Tensor) and weight.is_quantized:
        array = from_torch(weight).array
        state[f"{prefix}weight"] = array.values
        state[f"{prefix}weight_scale"], state[f"{prefix}weight_zero_point"] = array.scale, array.zero_point
