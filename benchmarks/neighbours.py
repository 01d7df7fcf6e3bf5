"""Two runtimes in one process: the latency of one right after a parallel operation of the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

# More than one grain of torch's parallel loops, of a function with much arithmetic for each element, which all come
# from one kilobyte: what the caches lose to the other operation weighs little.
ROWS, COLUMNS = 160, 256


def alternate(ours: Callable[[], object], seconds: float) -> dict[str, Any]:
    """Milliseconds of each operation after itself, and after the other one.

    Args:
        ours: One forward.
        seconds: For each of the three orders: ours alone, torch's alone, the two in turn.
    """
    values, results = torch.linspace(1.0, 9.0, COLUMNS).expand(ROWS, COLUMNS), torch.empty(ROWS, COLUMNS)

    def theirs() -> object:
        return torch.digamma(values, out=results)

    times: dict[str, list[float]] = {"ours": [], "torch": [], "ours after torch": [], "torch after ours": []}
    for order in (("ours",), ("torch",), ("ours after torch", "torch after ours")):
        end = time.perf_counter() + seconds
        first = True
        while first or time.perf_counter() < end:
            for what in order:
                spent = _milliseconds(ours if what.startswith("ours") else theirs)
                if not first:
                    times[what].append(spent)
            first = False
    return times


def _milliseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)
