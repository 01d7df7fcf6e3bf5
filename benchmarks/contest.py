"""Contenders measured in turn, each in a process of its own.

A runtime keeps worker threads, and those of some spin for milliseconds after a call, waiting for the next: in one
process with others it would take the cores from whoever comes next, and share their allocator and OpenMP. So every
contender is a process that owns the machine during its turn, as in production; the others block on a pipe. Turns are
short and their order rotates from round to round, so that a drift of the clock meets everyone alike, and each begins
with untimed calls after a rest, in which the last one's threads go to sleep. A turn also tells how much of the
processor anything else took.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from benchmarks import contenders
from benchmarks.artefacts import CACHE
from benchmarks.timing import Sample, Turn, summary

REST_SECONDS = 0.02
PATIENCE = 900  # seconds for one request: quantizing and compiling are the longest


class ContenderError(Exception):
    """A contender can't do what it was asked for; the message is the reason, in a line."""


class Process:
    """One contender's process: ``ask`` sends a request of ``benchmarks.worker`` and waits for the reply."""

    def __init__(self, contender: str, environment: Mapping[str, str] | None = None) -> None:
        lacking = contenders.missing(contender)
        if lacking:
            raise ContenderError(f"{', '.join(lacking)} not installed")
        self.log = CACHE / "logs" / f"{contender.replace(' ', '-')}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.worker", contender],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **(environment or {})},
            )

    def ask(self, do: str, **arguments: object) -> dict[str, Any]:
        """The reply.

        Raises:
            ContenderError: The contender failed, or its process ended.
        """
        with contextlib.suppress(BrokenPipeError):
            _pipe(self.process.stdin).write(json.dumps({"do": do, **arguments}) + "\n")
            _pipe(self.process.stdin).flush()
        if not select.select([self.process.stdout], [], [], PATIENCE)[0]:
            self.process.kill()
            raise ContenderError(f"no answer to {do!r} after {PATIENCE} s")
        line = _pipe(self.process.stdout).readline()
        if not line:
            raise ContenderError(f"its process ended with {self.process.wait()}; see {self.log}")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise ContenderError(reply["error"])
        return reply

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(BrokenPipeError):
            _pipe(self.process.stdin).close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        _pipe(self.process.stdout).close()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


@dataclass(frozen=True)
class Entrant:
    """Who takes part: a contender, what its process finds in its environment, and with how many threads it runs."""

    contender: str
    environment: Mapping[str, str] = field(default_factory=dict)
    threads: int | None = None


@dataclass(frozen=True)
class Cell:
    """What one network, batch size and number of threads gave.

    Attributes:
        samples: By the entrants' labels.
        absent: Why those that are not in ``samples`` are not, in a line.
        outputs: Of the first sample.
        asides: What ``aside`` returned, one a round.
    """

    samples: dict[str, Sample]
    absent: dict[str, str]
    outputs: dict[str, list[float]]
    asides: list[Any]


class Contest:
    """The processes of some entrants, by their labels; a context manager, which ends them."""

    def __init__(self, entrants: Mapping[str, Entrant]) -> None:
        self.entrants = entrants
        self.processes: dict[str, Process] = {}
        self.absent: dict[str, str] = {}

    def __enter__(self) -> Contest:
        for label in self.entrants:
            self._start(label)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.close()

    def _start(self, label: str) -> None:
        entrant = self.entrants[label]
        if label in self.processes:
            self.processes.pop(label).close()
        try:
            self.processes[label] = Process(entrant.contender, entrant.environment)
        except ContenderError as error:
            self.absent[label] = str(error)

    def cell(
        self,
        network: str,
        batch: int,
        threads: int,
        *,
        seconds: float,
        rounds: int,
        aside: Callable[[Mapping[str, Process]], Any] | None = None,
    ) -> Cell:
        """Time every entrant, ``rounds`` turns of ``seconds`` each.

        Args:
            network: Of ``workloads``.
            batch: How many samples in a call.
            threads: For entrants that name no number of their own.
            seconds: Of a turn, untimed calls not counted.
            rounds: How many turns each entrant has.
            aside: Called after each round with the processes.
        """
        absent, outputs = dict(self.absent), {}
        for label in list(self.processes):
            try:
                outputs[label] = self._load(label, network, batch, self.entrants[label].threads or threads)
            except ContenderError as error:
                absent[label] = str(error)
                self._start(label)
        turns: dict[str, list[Turn]] = {label: [] for label in outputs}
        asides = []
        for number in range(rounds):
            for label in _rotated([label for label in outputs if label not in absent], number):
                try:
                    time.sleep(REST_SECONDS)
                    turns[label].append(Turn(**self.processes[label].ask("turn", seconds=seconds)))
                except ContenderError as error:
                    absent[label] = str(error)
                    self._start(label)
            if aside is not None:
                asides.append(aside(self.processes))
        samples = {label: summary(taken) for label, taken in turns.items() if label not in absent}
        return Cell(samples, absent, outputs, asides)

    def _load(self, label: str, network: str, batch: int, threads: int) -> list[float]:
        """The outputs for one sample. A process that had to quantize first is replaced: it has more in memory."""
        request = {"network": network, "batch": batch, "threads": threads}
        reply = self.processes[label].ask("load", **request)
        if reply["built"]:
            self._start(label)
            reply = self.processes[label].ask("load", **request)
        outputs: list[float] = reply["outputs"]
        return outputs


def _rotated(labels: Sequence[str], by: int) -> list[str]:
    by %= max(1, len(labels))
    return [*labels[by:], *labels[:by]]
