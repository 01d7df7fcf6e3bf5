"""Interleaved timing: contenders take turns within one process, so that clock drift meets all of them alike."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

Call = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Contender:
    """Runs a network: ``call`` maps a float NCHW batch to logits, ``prepare`` sets the threads and the engine."""

    call: Call
    prepare: Callable[[int], None] = torch.set_num_threads


@dataclass(frozen=True)
class Sample:
    """Times of one contender in one cell, in milliseconds."""

    median: float
    p10: float
    p90: float
    runs: int


@dataclass(frozen=True)
class Cell:
    """One (batch, threads) cell: a sample a contender, and the share of all cores that other processes took."""

    samples: Mapping[str, Sample]
    foreign: float


def interleaved(
    contenders: Mapping[str, Contender], batch: torch.Tensor, threads: int, *, seconds: float = 1.5, rounds: int = 6
) -> Cell:
    """Times every contender on ``batch``, in ``rounds`` turns each of which may take ``seconds / rounds``."""
    with torch.inference_mode():
        costs = {name: _cost_of_a_call(contender, batch, threads) for name, contender in contenders.items()}
        times: dict[str, list[float]] = {name: [] for name in contenders}
        clock = _Foreign()
        for _ in range(rounds):
            for name, contender in contenders.items():
                _settle(contender, threads)
                contender.call(batch)
                for _ in range(max(1, min(100, int(seconds / rounds / costs[name])))):
                    start = time.perf_counter()
                    contender.call(batch)
                    times[name].append(time.perf_counter() - start)
        return Cell({name: _sample(runs) for name, runs in times.items()}, clock.share())


def _cost_of_a_call(contender: Contender, batch: torch.Tensor, threads: int) -> float:
    _settle(contender, threads)
    contender.call(batch)
    contender.call(batch)
    start = time.perf_counter()
    contender.call(batch)
    return time.perf_counter() - start


def _settle(contender: Contender, threads: int) -> None:
    """Hands the cores over: the last contender's idle workers spin for some milliseconds."""
    contender.prepare(threads)
    time.sleep(0.01)


def _sample(seconds: list[float]) -> Sample:
    ms = sorted(1e3 * s for s in seconds)
    return Sample(statistics.median(ms), ms[len(ms) // 10], ms[(len(ms) * 9) // 10], len(ms))


class _Foreign:
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
