"""The numbers of quantized state, checked before any of them is narrowed: the one place for every kind of state.

A scale is a positive, finite float32; a zero point and the integers of a weight or bias are whole numbers in the range
of their dtype; statistics are numbers that their dtype holds. A value that is stored wider is looked at as it is
stored: 2**32 + 3 is no zero point, although its lower 32 bits are one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from qfx.errors import QuantizationError

REMEDY = "Save the state of the quantized model again, or quantize the float model again."


@dataclass(frozen=True)
class Role:
    """What a tensor of quantized state is.

    Attributes:
        kind: What its numbers are. A ``"parameter"`` is a float of the user's, which may be NaN or infinite; a finite
            one stays finite. ``"statistics"`` are numbers that are not NaN either.
        low: The least of its integers.
        high: The greatest of its integers.
        dtype: Of statistics and parameters: what they are kept in.
        counts: How many numbers it may have; None where any number will do.
    """

    kind: Literal["scale", "zero point", "integers", "statistics", "parameter"]
    low: int = 0
    high: int = 0
    dtype: torch.dtype = torch.float32
    counts: tuple[int, ...] | None = None


def problem(value: Tensor, role: Role) -> str | None:
    """What is wrong with ``value``, in words, or None."""
    if value.layout is not torch.strided or value.is_complex() or value.is_meta:
        return f"is {value.dtype} of layout {value.layout} on {value.device}"
    if role.counts is not None and value.numel() not in role.counts:
        return f"has {value.numel()} numbers where {' or '.join(map(str, role.counts))} belong"
    value = value.detach()
    if role.kind == "scale":
        rounded = value.to(torch.float32)
        return _where(value, (rounded > 0) & rounded.isfinite(), "no positive, finite float32")
    if role.kind == "parameter":
        return _where(value, value.to(role.dtype).isfinite() | ~value.isfinite(), f"beyond {role.dtype}")
    if role.kind == "statistics":
        return _where(value, _fits(value, role.dtype), f"no {role.dtype}")
    if value.is_floating_point():
        whole = value == value.round()
        wrong = _where(value, whole, "no whole number")
        if wrong:
            return wrong
    elif value.dtype is torch.uint64:
        return f"is {value.dtype}"
    elif _all_fit(value.dtype, role):
        return None
    else:
        value = value.to(torch.int64)  # bounds would wrap in a narrower dtype
    return _where(value, (value >= role.low) & (value <= role.high), f"not in {role.low}..{role.high}")


def _all_fit(dtype: torch.dtype, role: Role) -> bool:
    """Whether every integer of a dtype is in the range of a role."""
    if dtype is torch.bool:
        return False
    bounds = torch.iinfo(dtype)
    return role.low <= bounds.min and bounds.max <= role.high


def _fits(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Whether each number is one, and finite in ``dtype`` if it is finite."""
    if not dtype.is_floating_point:
        bounds = torch.iinfo(dtype)
        return ~value.isnan() & (value >= bounds.min) & (value <= bounds.max)
    return ~value.isnan() & (value.to(dtype).isfinite() | value.isinf())


def _where(value: Tensor, fine: Tensor, what: str) -> str | None:
    if bool(fine.all()):
        return None
    return f"holds {value[~fine].reshape(-1)[0].item()}, which is {what}"


def require(name: str, value: Tensor, role: Role, *, where: str | None = None, source: str | None = None) -> None:
    """Raise unless ``value`` can be what ``role`` says.

    Args:
        name: Its name in the state.
        where: The module that it is for.
        source: The user's line that the module computes.

    Raises:
        QuantizationError: With the first number that can't be.
    """
    wrong = problem(value, role)
    if wrong is not None:
        raise QuantizationError(
            f"{name} {wrong}.",
            where=where or name.rpartition(".")[0] or None,
            source=source,
            why=f"It is loaded as {_WORDS[role.kind]}.",
            remedy=REMEDY,
        )


_WORDS = {
    "scale": "a scale",
    "zero point": "a zero point",
    "integers": "the integers of a weight or bias",
    "statistics": "what an observer saw, or a bias",
    "parameter": "a float parameter",
}


# ---------------------------------------------------------------- of modules


def require_entries(state: Mapping[str, Any], prefix: str, roles: Mapping[str, Role]) -> None:
    """Check the entries of a state_dict that a module is about to load.

    Args:
        state: The state_dict of the whole.
        prefix: The module's path in it, with a dot behind.
        roles: What its entries are, by name.

    Raises:
        QuantizationError: One of them can't be that.
    """
    for name, role in roles.items():
        value = state.get(prefix + name)
        if isinstance(value, Tensor):
            require(prefix + name, value, role, where=prefix.rstrip(".") or None)


def require_parameters(state: Mapping[str, Any], prefix: str, module: nn.Module) -> None:
    """Check the float tensors of a state_dict that ``module`` and its children are about to load.

    Raises:
        QuantizationError: A finite number is none in the dtype of the tensor that takes it, or statistics are of
            another number of channels than the model has.
    """
    held = dict((*module.named_parameters(), *module.named_buffers()))
    roles = {
        name: Role("parameter", dtype=tensor.dtype)
        for name, tensor in held.items()
        if tensor.is_floating_point() and _is_wider(state.get(prefix + name), tensor.dtype)
    }
    require_entries(state, prefix, roles)
    for name, tensor in held.items():
        if name.rpartition(".")[2] in _A_CHANNEL and tensor.numel() > 1:
            counts = Role("parameter", dtype=tensor.dtype, counts=(0, 1, tensor.numel()))
            require_entries(state, prefix, {name: counts})


_A_CHANNEL = frozenset({"min_val", "max_val", "scale", "zero_point", "total", "first", "second"})
"""Statistics that a module takes in any length."""


def _is_wider(value: Any, dtype: torch.dtype) -> bool:
    floats = isinstance(value, Tensor) and value.is_floating_point()
    return floats and torch.finfo(value.dtype).max > torch.finfo(dtype).max


def require_range(state: Mapping[str, Any], prefix: str) -> None:
    """Check the least and the greatest value of an observer that is about to be loaded.

    Raises:
        QuantizationError: They are not finite and in order, nor those of an observer that saw nothing.
    """
    low, high = (state.get(f"{prefix}{name}") for name in ("min_val", "max_val"))
    if not isinstance(low, Tensor) or not isinstance(high, Tensor) or low.shape != high.shape:
        return
    low, high = low.detach().to(torch.float32), high.detach().to(torch.float32)
    unset = (low == torch.inf) & (high == -torch.inf)
    if not bool((unset | (low.isfinite() & high.isfinite() & (low <= high))).all()):
        raise QuantizationError(
            f"{prefix}min_val and {prefix}max_val are no range.",
            where=prefix.rstrip(".") or None,
            why="An observer holds the least and the greatest value that it saw, both finite.",
            remedy="Save the state of the prepared model again, or calibrate it again.",
        )


def counts_of(per_channel: bool) -> tuple[int, ...] | None:
    """How many numbers a range or a scale that is observed may have: one, none before data, or one a channel."""
    return None if per_channel else (0, 1)
