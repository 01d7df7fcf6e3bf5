"""What every fuzzer is: a function of a seed that raises where something is wrong, run for a time.

A fuzzer's module ends with ``FUZZER = Fuzzer("tests.fuzz.<name>", case)`` and, under ``if __name__ == "__main__":``,
with ``raise SystemExit(main(FUZZER))``. Then ``python -m tests.fuzz.<name> --seconds 60 --seed 0`` runs the cases 0, 1,
2, ...; ``--seconds 0 --seed N`` repeats case N, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

_WORKER = "--worker"
_SHOWN = 20
MOST_FAILURES = 50
"""After so many, what is wrong is plain enough."""


@dataclass(frozen=True)
class Fuzzer:
    """A fuzzer.

    Attributes:
        module: Where it is: what ``python -m`` takes.
        case: Builds and checks the case of a seed; raises where it fails. All that is random in it follows the seed.
        apart: Whether cases run in a process of their own, because one may end its process.
        limit: Seconds after which a case that runs apart counts as hanging.
    """

    module: str
    case: Callable[[int], None]
    apart: bool = False
    limit: float = 60.0


@dataclass(frozen=True)
class Failure:
    """A case that failed, and how."""

    seed: int
    text: str


@dataclass(frozen=True)
class Outcome:
    """How many cases ran, and those that failed."""

    cases: int
    failures: tuple[Failure, ...]


def fuzz(fuzzer: Fuzzer, seconds: float, seed: int, show: Callable[[Failure], None] = lambda _: None) -> Outcome:
    """Run the cases ``seed``, ``seed + 1``, ... until ``seconds`` are over: at least one.

    Args:
        fuzzer: What to run.
        seconds: When to begin no other case.
        seed: Of the first case.
        show: Takes each failure when it happens.
    """
    failures, count, end = [], 0, time.monotonic() + seconds
    with _Apart(fuzzer) if fuzzer.apart else _Here(fuzzer) as run:
        while count == 0 or (time.monotonic() < end and len(failures) < MOST_FAILURES):
            text = run(seed + count)
            if text is not None:
                failures.append(Failure(seed + count, text))
                show(failures[-1])
            count += 1
    return Outcome(count, tuple(failures))


def main(fuzzer: Fuzzer, arguments: Sequence[str] | None = None) -> int:
    """The command line of a fuzzer; the exit status is 1 when a case failed."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given == [_WORKER]:
        return _serve(fuzzer)
    parser = argparse.ArgumentParser(prog=f"python -m {fuzzer.module}")
    parser.add_argument("--seconds", type=float, default=60.0, help="begin cases for so long; 0: one case")
    parser.add_argument("--seed", type=int, default=0, help="of the first case; each next one counts up")
    options = parser.parse_args(given)

    def show(failure: Failure) -> None:
        lines = failure.text.strip().splitlines()
        shown = lines if options.seconds == 0 else lines[-_SHOWN:]
        print("\n".join([f"case {failure.seed} failed", *(f"    {line}" for line in shown)]), flush=True)
        print(f"    again: python -m {fuzzer.module} --seconds 0 --seed {failure.seed}", flush=True)

    outcome = fuzz(fuzzer, options.seconds, options.seed, show)
    print(f"{fuzzer.module}: {outcome.cases} cases, {len(outcome.failures)} failed")
    return 1 if outcome.failures else 0


def _attempt(fuzzer: Fuzzer, seed: int) -> str | None:
    """What went wrong with a case, or None."""
    try:
        fuzzer.case(seed)
    except Exception:
        return traceback.format_exc()
    return None


class _Here:
    """Runs cases in this process."""

    def __init__(self, fuzzer: Fuzzer) -> None:
        self.fuzzer = fuzzer

    def __enter__(self) -> Callable[[int], str | None]:
        return lambda seed: _attempt(self.fuzzer, seed)

    def __exit__(self, *_: object) -> None:
        pass


class _Apart:
    """Runs cases in a process that is started anew when one ends it."""

    def __init__(self, fuzzer: Fuzzer) -> None:
        self.fuzzer = fuzzer
        self.process: subprocess.Popen[bytes] | None = None
        self.errors: Any = None

    def __enter__(self) -> Callable[[int], str | None]:
        self.errors = tempfile.TemporaryFile()
        return self._run

    def __exit__(self, kind: type[BaseException] | None, *_: TracebackType | BaseException | None) -> None:
        self._stop()
        self.errors.close()

    def _run(self, seed: int) -> str | None:
        if self.process is None:
            self._start()
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{seed}\n".encode())
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], self.fuzzer.limit)
        answer = self.process.stdout.readline() if ready else b""
        if answer:
            text: str | None = json.loads(answer)
            return text
        how = self._end(hanging=not ready)
        return f"{how}\n{self._said()}"

    def _start(self) -> None:
        self.errors.seek(0)
        self.errors.truncate()
        command = [sys.executable, "-X", "faulthandler", "-m", self.fuzzer.module, _WORKER]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, bufsize=0
        )
        assert self.process.stdout is not None
        self.process.stdout.readline()  # it has imported what it needs

    def _stop(self) -> int | None:
        if self.process is None:
            return None
        process, self.process = self.process, None
        process.kill()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
        return process.wait()

    def _end(self, *, hanging: bool) -> str:
        """How the process ended."""
        assert self.process is not None
        if hanging:
            self._stop()
            return f"no answer within {self.fuzzer.limit:g} s"
        code = self.process.wait()
        self._stop()
        return f"the process ended with {signal.Signals(-code).name if code < 0 else f'status {code}'}"

    def _said(self) -> str:
        self.errors.seek(0)
        text: str = self.errors.read().decode(errors="replace")
        return text


def _serve(fuzzer: Fuzzer) -> int:
    """Run the seeds that standard input names, and answer each with what went wrong, as a line of JSON."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    print("ready", file=answers)
    for line in _lines():
        print(json.dumps(_attempt(fuzzer, int(line))), file=answers)
    return 0


def _lines() -> Iterator[str]:
    yield from iter(sys.stdin.readline, "")
