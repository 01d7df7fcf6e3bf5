"""Two processes with a gloo group between them, which run functions of the tests for as long as the tests last."""

from __future__ import annotations

import datetime
import multiprocessing
import os
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

TIMEOUT = 60
"""Seconds that an exchange, or a function, may take."""


class Ranks:
    """A process a rank. ``run(function, *args)`` calls ``function(rank, *args)`` in each and returns the results.

    ``function`` must be importable. An error in a rank is raised here with that rank's traceback, after all ended.
    """

    def __init__(self, count: int, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        pipes = [context.Pipe() for _ in range(count)]
        self.ends = [ours for ours, _ in pipes]
        store = f"file://{folder / 'store'}"
        self.processes = [
            context.Process(target=_serve, args=(rank, count, store, theirs), daemon=True)
            for rank, (_, theirs) in enumerate(pipes)
        ]
        for process in self.processes:
            process.start()

    def run(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        for end in self.ends:
            end.send((function, args))
        answers = [end.recv() if end.poll(2 * TIMEOUT) else (None, "no answer") for end in self.ends]
        for rank, (_, problem) in enumerate(answers):
            assert problem is None, f"rank {rank}: {problem}"
        return [result for result, _ in answers]

    def close(self) -> None:
        for end, process in zip(self.ends, self.processes, strict=True):
            end.close()
            process.join(10)
            process.kill()


def _serve(rank: int, count: int, store: str, end: Connection) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=store, rank=rank, world_size=count, timeout=datetime.timedelta(seconds=TIMEOUT)
    )
    while True:
        try:
            function, args = end.recv()
        except EOFError:
            return
        try:
            torch.manual_seed(0)
            end.send((function(rank, *args), None))
        except Exception:
            end.send((None, traceback.format_exc()))
