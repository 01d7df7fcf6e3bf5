"""What minimum and maximum observers do, without their overhead: as arguments of the kernels, or without a sync."""

from __future__ import annotations

import torch
from torch import Tensor

from qfx.memory import plain_address
from qfx.quantization.fake_quantize.formula import OPEN, Gate
from qfx.quantization.fake_quantize.kernel import StatisticsFields
from qfx.quantization.observer import (
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    PerChannelMinMaxObserver,
)
from qfx.quantization.observer.base import Observer, resize_buffer
from qfx.quantization.observer.minmax import storage_order

_AVERAGING = (MovingAverageMinMaxObserver, MovingAveragePerChannelMinMaxObserver)
_KNOWN = (*_AVERAGING, MinMaxObserver, PerChannelMinMaxObserver)


def known(observer: Observer) -> MinMaxObserver | None:
    """``observer`` if its class is one whose work is repeated here; a subclass may do anything."""
    return observer if type(observer) in _KNOWN and isinstance(observer, MinMaxObserver) else None


def axis_of(observer: MinMaxObserver, x: Tensor) -> int | None:
    """The channel dimension of ``x``, not negative; None when per tensor, or when ``x`` does not have it."""
    axis = getattr(observer, "ch_axis", None)
    return None if axis is None or not -x.dim() <= axis < x.dim() else int(axis) % x.dim()


def fits(observer: MinMaxObserver, x: Tensor) -> bool:
    """Whether ``x`` has the channel dimension, and as many channels as were seen before."""
    if not observer.per_channel:
        return observer.min_val.dim() == 0
    axis = axis_of(observer, x)
    return axis is not None and observer.min_val.numel() in (0, x.shape[axis])


def make_room(observer: MinMaxObserver, channels: int) -> None:
    """Give a per-channel observer that has seen nothing a place for each channel."""
    if observer.per_channel and observer.min_val.numel() != channels:
        resize_buffer(observer, "min_val", (channels,)).fill_(torch.inf)
        resize_buffer(observer, "max_val", (channels,)).fill_(-torch.inf)


def fields_of(observer: MinMaxObserver, extremes: Tensor | None = None) -> StatisticsFields:
    """The observer as the kernels take it; ``extremes`` ``[2, channels]``: minima and maxima, if known already."""
    return (
        plain_address(observer.min_val),
        plain_address(observer.max_val),
        type(observer) in _AVERAGING,
        float(getattr(observer, "averaging_constant", 0.0)),
        observer.qscheme.symmetric,
        observer._middle() if observer.qscheme.symmetric else 0,
        observer.eps,
        0 if extremes is None else plain_address(extremes),
    )


def batch_extremes(observer: MinMaxObserver, x: Tensor, gate: Gate = OPEN) -> tuple[Tensor, Tensor]:
    """Minimum and maximum of ``x``, float32, 0-d or a channel each, in torch operations."""
    axis = axis_of(observer, x)
    x = gate.apply(x.detach())
    if axis is None:
        low, high = torch.aminmax(x if torch.compiler.is_compiling() else storage_order(x))
    else:
        low, high = torch.aminmax(x.movedim(axis, 0).flatten(1) if x.dim() > 1 else x[:, None], dim=1)
    return low.float(), high.float()


def observe(observer: MinMaxObserver, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Take one batch's extremes in, in torch operations and without a sync, and return ``(scale, zero_point)``.

    Extremes that are not finite change nothing: nobody can be told without waiting for the device.
    """
    make_room(observer, low.numel())
    before = observer.min_val, observer.max_val
    unseen, finite = before[0] > before[1], (low.isfinite() & high.isfinite()).all()
    for buffer, first, merged in zip(before, (low, high), observer._merged(low, high), strict=True):
        buffer.copy_(torch.where(finite, torch.where(unseen, first, merged), buffer))
    scale, zero_point = observer.affine(observer.min_val.reshape(-1), observer.max_val.reshape(-1))
    seen = observer.min_val.reshape(-1) <= observer.max_val.reshape(-1)
    return torch.where(seen, scale, 1.0), torch.where(seen, zero_point, observer.quant_min)
