"""One observer's state out of the states that several processes have for it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from qfx.errors import CalibrationError, UnsupportedError
from qfx.quantization.observer.base import State


def merged(observer: nn.Module, states: Sequence[State]) -> State:
    """The state of ``observer`` for the data behind all of ``states``, which are in order of rank.

    Minimum and maximum, per tensor or per channel, and histograms are those of one process that saw all the data, bit
    for bit. Sums of input statistics are added in order of rank. Moving averages depend on the order of batches, of
    which nothing is left: theirs is the mean over the ranks that saw data. An observer answers itself, with a method
    ``merged_state(states)``.

    Args:
        observer: Of the class that all states are of; it is not changed.
        states: One a rank, on the CPU.

    Raises:
        CalibrationError: Ranks met different numbers of channels.
        UnsupportedError: Nothing says how states of this class are merged.
    """
    rule = getattr(observer, "merged_state", None)
    if rule is None:
        raise _unmergeable(observer)
    seen = [s for s in states if _has_seen(s)]
    if not seen or (len(states) == 1):
        return states[0]
    for name, value in seen[0].items():
        if any(s[name].shape != value.shape for s in seen):
            raise CalibrationError(
                f"{type(observer).__name__} met different shapes on different ranks: {name} is "
                f"{', '.join(str(tuple(s[name].shape)) for s in seen)}.",
                where=getattr(observer, "label", None),
                source=getattr(observer, "source", None),
                remedy="Give every rank batches for which this value has one number of channels.",
            )
    result: State = rule(seen)
    return result


def _has_seen(state: State) -> bool:
    """Whether a rank's observer saw any data, as its buffers tell."""
    if "min_val" in state:
        return state["min_val"].numel() > 0 and not bool((state["min_val"] > state["max_val"]).any())
    return "total" not in state or state["total"].numel() > 0


def _unmergeable(observer: nn.Module) -> UnsupportedError:
    return UnsupportedError(
        f"Nothing says how the states of {type(observer).__name__} on several ranks become one.",
        where=getattr(observer, "label", None),
        source=getattr(observer, "source", None),
        remedy="Give the class a method merged_state(states) that takes the ranks' buffers by name, as a list of "
        "dicts, and returns the buffers of the whole.",
    )
