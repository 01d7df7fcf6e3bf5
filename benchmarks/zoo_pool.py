"""Functions run one a process: a crash, a hang or a lack of memory is a result, and the next one goes on."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import resource
import signal
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """What became of one job.

    Attributes:
        job: Its name.
        value: What the function returned; None if it failed.
        error: Why it failed, in a line; None if it did not.
        trace: The traceback of the exception, if it was one.
        seconds: From its start to its end.
    """

    job: str
    value: Any
    error: str | None
    trace: str | None
    seconds: float


@dataclass(frozen=True)
class Limits:
    """What one job may take: wall seconds, and bytes of memory of its own."""

    seconds: float = 300.0
    memory: int = 12 << 30


def run_each(
    function: str, jobs: Iterable[str], *, processes: int = 1, limits: Limits | None = None, preload: Sequence[str] = ()
) -> Iterator[Outcome]:
    """``function(job)`` for every job, each in a process forked from one that has imported ``preload`` only.

    Args:
        function: ``module:name`` of a function of a string; its result is pickled.
        jobs: What to call it with.
        processes: How many at a time.
        limits: Of each.
        preload: Modules to import once.

    Yields:
        Outcomes in the order in which the jobs end.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*preload, __name__])
    limits, waiting = limits or Limits(), list(jobs)
    running: list[_Job] = []
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                running.append(_Job(context, function, waiting.pop(0), limits))
            wait([handle for job in running for handle in job.handles()], timeout=0.5)
            ended = [(job, outcome) for job in running if (outcome := job.outcome()) is not None]
            running = [job for job in running if all(job is not other for other, _ in ended)]
            yield from (outcome for _, outcome in ended)
    finally:
        for job in running:
            job.kill()


class _Job:
    def __init__(self, context: Any, function: str, name: str, limits: Limits) -> None:
        self.name, self.limits, self.began = name, limits, time.perf_counter()
        self.results: Connection
        self.results, sender = context.Pipe(duplex=False)
        self.process: BaseProcess = context.Process(
            target=_run, args=(sender, function, name, limits.memory), daemon=True
        )
        self.process.start()
        sender.close()

    def handles(self) -> list[Any]:
        return [self.results, self.process.sentinel]

    def outcome(self) -> Outcome | None:
        """The outcome, or None while the job runs."""
        seconds = time.perf_counter() - self.began
        if self.results.poll():
            try:
                value, error, trace = self.results.recv()
            except EOFError:  # the process ended without a word
                self.process.join()
                value, error, trace = None, f"its process ended with {_status(self.process.exitcode)}", None
        elif seconds > self.limits.seconds:
            value, error, trace = None, f"no result after {self.limits.seconds:g} s", None
        else:
            return None
        self.kill()
        return Outcome(self.name, value, error, trace, seconds)

    def kill(self) -> None:
        """End the process, if it has not ended."""
        self.process.kill()
        self.process.join()
        self.results.close()


def _status(code: int | None) -> str:
    return signal.Signals(-code).name if code is not None and code < 0 else f"status {code}"


def _run(results: Connection, function: str, name: str, memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    warnings.simplefilter("ignore")
    module, _, attribute = function.partition(":")
    try:
        result = (getattr(importlib.import_module(module), attribute)(name), None, None)
    except Exception as error:  # whatever a job raises is its result
        lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
        result = (None, f"{type(error).__name__}: {' '.join(lines[:3])[:300]}", traceback.format_exc())
    results.send(result)
