"""A contender's turn at the clock, and what its times come to."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

WARM_SECONDS = 0.03
FEWEST_CALLS = 3


@dataclass(frozen=True)
class Turn:
    """One turn: the milliseconds of each call, and the share of all cores that other processes took meanwhile."""

    ms: list[float]
    foreign: float


@dataclass(frozen=True)
class Sample:
    """Milliseconds of one contender in one cell, over all its turns.

    Attributes:
        median: Over all calls, as are the percentiles.
        turns: The median of each turn: how much the machine drifted.
        foreign: The largest share of all cores that other processes took during a turn.
    """

    median: float
    p10: float
    p90: float
    runs: int
    turns: tuple[float, ...]
    foreign: float


def take_turn(call: Callable[[], object], seconds: float) -> Turn:
    """Call for ``seconds``, after untimed calls that bring the caches back and let others' spinning threads park."""
    begin = time.perf_counter()
    call()
    while time.perf_counter() - begin < WARM_SECONDS:
        call()
    ms: list[float] = []
    clock, end = ForeignTime(), time.perf_counter() + seconds
    while len(ms) < FEWEST_CALLS or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        ms.append(1e3 * (time.perf_counter() - start))
    return Turn(ms, clock.share())


def summary(turns: Sequence[Turn]) -> Sample:
    """What a contender's turns come to."""
    ms = sorted(t for turn in turns for t in turn.ms)
    p10, p90 = ms[len(ms) // 10], ms[len(ms) * 9 // 10]
    medians = tuple(statistics.median(turn.ms) for turn in turns)
    return Sample(statistics.median(ms), p10, p90, len(ms), medians, max(turn.foreign for turn in turns))


class ForeignTime:
    """Processor time that other processes took since construction."""

    def __init__(self) -> None:
        self.start, self.busy, self.own = time.perf_counter(), _busy(), _own()

    def share(self) -> float:
        wall = time.perf_counter() - self.start
        foreign = (_busy() - self.busy) - (_own() - self.own)
        return max(0.0, foreign) / (wall * (os.cpu_count() or 1))


def _busy() -> float:
    user, nice, system, _idle, _iowait, *rest = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def _own() -> float:
    spent = os.times()
    return spent.user + spent.system
