"""Two runtimes in one process: the latency of one right after a parallel operation of the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

# More than one grain of torch's parallel loops, of a function with much arithmetic for each element, which all come
# from one kilobyte: what the caches lose to the other operation weighs little.
ROWS, COLUMNS = 160, 256

# Rows and columns of a matrix product of torch's own that takes as long as a network: what a long parallel operation
# costs the next one when no other runtime is there.
PRODUCT = 1024


def alternate(ours: Callable[[], object], seconds: float) -> dict[str, Any]:
    """Milliseconds of each operation after itself, and after the other one; torch's after a product of its own, too.

    Args:
        ours: One forward.
        seconds: For each of the orders: ours, torch's, the two in turn, a matrix product and torch's in turn.
    """
    values, results = torch.linspace(1.0, 9.0, COLUMNS).expand(ROWS, COLUMNS), torch.empty(ROWS, COLUMNS)

    def theirs() -> object:
        return torch.digamma(values, out=results)

    left, right, product = torch.ones(3, PRODUCT, PRODUCT)

    def multiply() -> object:
        return torch.mm(left, right, out=product)

    calls = {"ours": ours, "torch": theirs, "product": multiply}
    orders = (("ours",), ("torch",), ("ours after torch", "torch after ours"), ("product", "torch after product"))
    times: dict[str, list[float]] = {what: [] for order in orders for what in order}
    for order in orders:
        end = time.perf_counter() + seconds
        first = True
        while first or time.perf_counter() < end:
            for what in order:
                spent = _milliseconds(calls[what.partition(" ")[0]])
                if not first:
                    times[what].append(spent)
            first = False
    return times


def _milliseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)
