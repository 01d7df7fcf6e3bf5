"""What may be folded in a graph that will be trained: a batch norm still has to see the result it normalizes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, fx

from qfx.ir.derivation import Derived, Source, derivation_of, is_trainable
from qfx.ops.compute.spellings import affine_scale


@dataclass(frozen=True)
class NormScale:
    """The factor ``gamma / sqrt(running_var + eps)`` of a batch norm, as a derivation.

    Attributes:
        weight: ``gamma``; None: it has none.
        variance: ``running_var``.
        eps: Of the batch norm.
        times: Consecutive channels that share each factor.
    """

    weight: Source | None
    variance: Source
    eps: float
    times: int = 1


def norm_scale(derivation: Any) -> NormScale | None:
    """``derivation`` as the factor of a batch norm of the model; None when it is anything else."""
    if not isinstance(derivation, Derived):
        return None
    if derivation.compute is affine_scale:
        weight, variance, eps = derivation.operands
        return NormScale(weight, variance, eps) if _are_sources(weight, variance) else None
    if isinstance(derivation.compute, partial) and derivation.compute.func is repeated:
        inner = norm_scale(derivation.operands[0])
        times = int(derivation.compute.keywords["times"])
        return inner and NormScale(inner.weight, inner.variance, inner.eps, inner.times * times)
    return None


def repeated(values: Tensor, times: int) -> Tensor:
    """A factor a channel, for the ``times`` channels that a pixel shuffle makes one of."""
    return values.repeat_interleave(times)


def _are_sources(weight: Any, variance: Any) -> bool:
    return isinstance(variance, Source) and (weight is None or isinstance(weight, Source))


def trains_batch_norm(factor: fx.Node | None) -> bool:
    """Whether ``factor`` is that of a batch norm, in a graph that will be trained."""
    if factor is None or factor.op != "get_attr" or not is_trainable(factor):
        return False
    return norm_scale(derivation_of(factor)) is not None
