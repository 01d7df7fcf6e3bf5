"""The state of an observer for all the data that several observers of its class saw."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from qfx.quantization.observer.base import Observer, resize_buffer


def united(observers: Sequence[Observer]) -> Observer | None:
    """An observer of what all of ``observers``, of one class, saw; None where nothing says how their states unite.

    Args:
        observers: Not changed; each has seen data.
    """
    first = observers[0]
    if len(observers) == 1:
        return first
    rule = vars(type(first)).get("united_state")  # not of a class that it has it from, which may keep less
    if rule is None or any(type(o) is not type(first) for o in observers):
        return None
    made = copy.deepcopy(first)
    for name, value in rule.__func__([dict(o.named_buffers(recurse=False)) for o in observers]).items():
        resize_buffer(made, name, value.shape).copy_(value)
    return made
