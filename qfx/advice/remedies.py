"""What may help a node that rounding hurts: rows of a table, each with what was found and the qconfig to try."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qfx.ir.types import QDType, QScheme
from qfx.ops import arithmetic
from qfx.quantization.observer import (
    FixedQParamsObserver,
    HistogramObserver,
    MinMaxObserver,
    default_per_channel_weight_observer,
)
from qfx.quantization.qconfig import QConfig

_WITHIN = 0.999
_SAMPLE = 1 << 20
_FAR = 0.5
"""Values beyond twice the usual range are outliers."""


@dataclass(frozen=True)
class Findings:
    """What is known of a node that is to be helped.

    Attributes:
        qconfig: What its weights and its value are quantized by.
        weight: Its float weight ``[O, ...]``, or None.
        value: Its value in float on some of the data, or None where it is not rounded.
        owned: Whether the qconfig is that of an op which makes the value, and no other value's.
        weights_loss: Share of the int8 model's noise that its weights alone make, 0 for none.
        value_loss: The same of its value.
    """

    qconfig: QConfig
    weight: Tensor | None
    value: Tensor | None
    owned: bool
    weights_loss: float
    value_loss: float


@dataclass(frozen=True)
class Remedy:
    """One row.

    Attributes:
        name: What is tried, with its verb, as in ``"per-channel weights recover 9 dB"``.
        cures: Whether it is about ``"weights"`` or ``"value"``.
        found: What speaks for it in a node's findings, in words; None where it does not apply.
        qconfig: The qconfig to try.
        of_one: Whether that is for this value alone, not for others of its kind.
    """

    name: str
    cures: str
    found: Callable[[Findings], str | None]
    qconfig: Callable[[Findings], QConfig]
    of_one: bool = False


def channel_spread(weight: Tensor) -> float:
    """dB between the largest and the smallest of the channels' greatest weights; zero channels are left out."""
    peaks = weight.detach().flatten(1).abs().amax(1)
    peaks = peaks[peaks > 0]
    return float(20 * torch.log10(peaks.max() / peaks.min())) if peaks.numel() else 0.0


def range_in_use(value: Tensor) -> float:
    """The share of the range of all values, zero included, that holds 99.9 % of them."""
    low, high = min(float(value.min()), 0.0), max(float(value.max()), 0.0)
    inner_low, inner_high = usual_range(value)
    return (inner_high - inner_low) / (high - low) if high > low else 1.0


def usual_range(value: Tensor) -> tuple[float, float]:
    """The range of the 99.9 % of the values that are nearest to zero; of an even sample of a million."""
    flat = value.detach().flatten().float()
    flat = flat[:: max(1, math.ceil(flat.numel() / _SAMPLE))]
    reach = float(torch.quantile(flat.abs(), _WITHIN))
    return max(min(float(value.min()), 0.0), -reach), min(max(float(value.max()), 0.0), reach)


def _one_scale(f: Findings) -> str | None:
    if f.weight is None or f.weight.dim() < 2 or getattr(f.qconfig.weight(), "ch_axis", None) is not None:
        return None
    return f"{channel_spread(f.weight):.0f} dB between channels that share one scale"


def _outermost(f: Findings) -> str | None:
    observer = f.qconfig.activation()
    if f.value is None or not isinstance(observer, MinMaxObserver) or isinstance(observer, HistogramObserver):
        return None
    return f"99.9 % of its values lie in {100 * range_in_use(f.value):.0f} % of the range of all"


def _outliers(f: Findings) -> str | None:
    if f.value is None or not f.owned or range_in_use(f.value) > _FAR:
        return None
    return f"99.9 % of its values lie in {100 * range_in_use(f.value):.1f} % of the range of all"


def _half_range(f: Findings) -> str | None:
    if f.value is None or not getattr(f.qconfig.activation(), "reduce_range", False):
        return None
    return "reduce_range maps its range to half of the integers, which no kernel of qfx needs"


def _wasted_sign(f: Findings) -> str | None:
    scheme = getattr(f.qconfig.activation(), "qscheme", None)
    if f.value is None or not isinstance(scheme, QScheme) or not scheme.symmetric or float(f.value.min()) < 0:
        return None
    return "its values are never negative, and a symmetric range keeps half of the integers for those that are"


def _per_channel(f: Findings) -> QConfig:
    eps = getattr(f.qconfig.weight(), "eps", None)
    own = default_per_channel_weight_observer
    return QConfig(f.qconfig.activation, own if eps is None else own.with_args(eps=eps))


def _histogram(f: Findings) -> QConfig:
    given: Any = f.qconfig.activation()
    kept: dict[str, Any] = {"dtype": given.dtype, "qscheme": given.qscheme, "eps": given.eps}
    if given.custom_range:
        kept |= {"quant_min": given.saturation[0], "quant_max": given.saturation[1]}
    return QConfig(HistogramObserver.with_args(**kept, reduce_range=given.reduce_range), f.qconfig.weight)


def _clipped(f: Findings) -> QConfig:
    assert f.value is not None
    scale, zero_point = arithmetic.affine_qparams(*usual_range(f.value), QDType.quint8.qmin, QDType.quint8.qmax)
    fixed = FixedQParamsObserver.with_args(scale=scale, zero_point=zero_point, dtype=QDType.quint8)
    return QConfig(fixed, f.qconfig.weight)


def _with(**arguments: Any) -> Callable[[Findings], QConfig]:
    """A qconfig whose activation observer gets other arguments."""

    def changed(f: Findings) -> QConfig:
        activation: Any = f.qconfig.activation
        return QConfig(activation.with_args(**arguments), f.qconfig.weight)

    return changed


REMEDIES = (
    Remedy("per-channel weights recover", "weights", _one_scale, _per_channel),
    Remedy("a histogram observer recovers", "value", _outermost, _histogram),
    Remedy("clipping the others recovers", "value", _outliers, _clipped, of_one=True),
    Remedy("the whole range recovers", "value", _half_range, _with(reduce_range=False)),
    Remedy(
        "an affine quint8 range recovers",
        "value",
        _wasted_sign,
        _with(dtype=QDType.quint8, qscheme=QScheme.per_tensor_affine),
    ),
)


def applicable(findings: Findings, least: float) -> Iterator[tuple[Remedy, str]]:
    """The remedies for a node, with what speaks for each, where the part they cure makes ``least`` of the noise."""
    losses = {"weights": findings.weights_loss, "value": findings.value_loss}
    for remedy in REMEDIES:
        if losses[remedy.cures] < least or not _is_adjustable(findings.qconfig, remedy):
            continue
        found = remedy.found(findings)
        if found is not None:
            yield remedy, found


def _is_adjustable(qconfig: QConfig, remedy: Remedy) -> bool:
    """Whether the qconfig's activation factory can be given other arguments, where the remedy does that."""
    return remedy.cures == "weights" or hasattr(qconfig.activation, "with_args")
