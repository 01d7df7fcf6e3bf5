"""One contender in a process of its own: ``python -m benchmarks.worker NAME``, told what to do over pipes.

Requests are lines of JSON on standard input, ``{"do": a method of Worker, ...its arguments}``; so are the replies, on
what was standard output: what runtimes print goes to standard error. Between two requests nothing runs.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks import contenders, neighbours, workloads
from benchmarks.artefacts import CACHE
from benchmarks.peers import Call
from benchmarks.timing import take_turn
from benchmarks.work import multiply_accumulates

SHOWN = 1000  # outputs of the first sample that a reply holds


class Worker:
    """Holds one loaded network at a time."""

    def __init__(self, contender: str) -> None:
        self.contender = contender
        self.call: Call | None = None
        self.given: workloads.Tensors = ()

    def load(self, network: str, batch: int, threads: int) -> dict[str, Any]:
        """Make the network ready, quantizing it if nobody has, and check that it computes something."""
        given = workloads.workload(network)
        self.call, self.given = None, given.inputs(batch)
        before = _artefacts()
        self.call = contenders.TABLE[self.contender].load(given, batch, threads)
        output = self._run()
        assert len(output) == batch, f"{batch} inputs give {len(output)} outputs"
        assert bool(torch.isfinite(output).all()), "not every output is finite"
        return {"outputs": output[0].flatten()[:SHOWN].double().tolist(), "built": _artefacts() != before}

    def turn(self, seconds: float) -> dict[str, Any]:
        """Time calls for ``seconds``."""
        return asdict(take_turn(self._run, seconds))

    def macs(self, network: str) -> dict[str, Any]:
        """Multiply-accumulates for one sample."""
        given = workloads.workload(network)
        return {"macs": multiply_accumulates(given.load(), given.inputs(1))}

    def peaks(self, threads: int, read_bytes: int) -> dict[str, Any]:
        """What the machine can do right now."""
        from qfx.runtime import peaks

        return asdict(peaks(threads=threads, read_bytes=read_bytes))

    def beside_torch(self, seconds: float) -> dict[str, Any]:
        """See ``neighbours``."""
        return neighbours.alternate(self._run, seconds)

    def _run(self) -> torch.Tensor:
        assert self.call is not None, "nothing is loaded"
        return self.call(*self.given)


def _artefacts() -> set[Path]:
    return set(CACHE.iterdir()) if CACHE.exists() else set()


def main() -> None:
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    worker = Worker(sys.argv[1])
    with torch.inference_mode():
        for line in sys.stdin:
            request = json.loads(line)
            try:
                reply = getattr(worker, request.pop("do"))(**request)
            except Exception as error:  # whatever a contender raises is its result
                traceback.print_exc()
                reply = {"error": f"{type(error).__name__}: {str(error).strip() or 'no message'}".split("\n")[0][:200]}
            replies.write(json.dumps(reply) + "\n")


if __name__ == "__main__":
    main()
