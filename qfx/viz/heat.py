"""What a picture can be coloured by: SQNR, time, or any number a node."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from qfx.comparison import Comparison
from qfx.errors import InputError
from qfx.lowering.explain import ModelExplanation
from qfx.runtime import Explanation
from qfx.viz.scene import Heat


def heat_of(given: Any) -> Heat | None:
    """``given`` as a number a node: a Comparison, a profile, or a mapping of names to numbers.

    Raises:
        InputError: It is something else, or a plan without times.
    """
    if given is None or isinstance(given, Heat):
        return given
    if isinstance(given, Comparison):
        return Heat("SQNR to the float model, dB", sqnr_by_name(given), hot_is_low=True)
    if isinstance(given, ModelExplanation):
        return Heat("time, % of all", {name: 100 * share for name, share in time_shares(given).items()})
    if isinstance(given, Mapping) and all(isinstance(v, (int, float)) for v in given.values()):
        return Heat("value", {str(name): float(value) for name, value in given.items()})
    raise InputError(
        f"heat can't be {type(given).__name__}.",
        remedy="Pass qfx.compare(...), qmodel.profile(x), or a dict of node names and numbers.",
    )


def sqnr_by_name(comparison: Comparison) -> dict[str, float]:
    """SQNR of the runtime's values against the float model's, in dB, of the nodes that it has."""
    found = {r.name: r.total.sqnr for r in comparison if r.total is not None}
    return {name: value for name, value in found.items() if not math.isnan(value)}


def time_shares(profile: ModelExplanation) -> dict[str, float]:
    """The share of all measured time that each step takes, by its name; they sum to 1.

    Raises:
        InputError: Nothing was measured.
    """
    spent: dict[str, float] = {}
    for part in profile.parts:
        for step in part.steps if isinstance(part, Explanation) else ():
            if step.microseconds is not None:
                spent[step.name] = spent.get(step.name, 0.0) + step.microseconds
    total = sum(spent.values())
    if not total:
        raise InputError("These are plans without times.", remedy="Pass what qmodel.profile(x) returned.")
    return {name: time / total for name, time in spent.items()}
