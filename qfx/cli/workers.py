"""Processes that do one task at a time; when one dies, the task it had fails and no other."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable
from typing import Any

from qfx.cli.interrupts import Terminated, terminable

_DONE = None
_GRACE = 10.0
"""Seconds that a process has to take away what it has half written."""


class WorkerDied(Exception):
    """The process that did a task is gone: killed, out of memory, or crashed."""


class Workers(concurrent.futures.Executor):
    """An executor with a fresh interpreter a process (spawn).

    Unlike ``ProcessPoolExecutor``, a process that dies takes only its own task with it: that future raises
    :class:`WorkerDied`, and another process takes its place.
    """

    def __init__(self, count: int) -> None:
        self._tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._processes: dict[int, Any] = {}
        self._stopping = False
        self._slots = [threading.Thread(target=self._slot, args=(i,), daemon=True) for i in range(count)]
        for slot in self._slots:
            slot.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        """As ``Executor.submit``."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._tasks.put((future, fn, args, kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As ``Executor.shutdown``; with ``cancel_futures`` what runs is stopped as well."""
        self._stopping = cancel_futures
        for _ in self._slots:
            self._tasks.put(_DONE)
        if cancel_futures:
            for process in list(self._processes.values()):
                process.terminate()
        if wait:
            for slot in self._slots:
                slot.join(None if not cancel_futures else 2 * _GRACE)

    def _slot(self, index: int) -> None:
        """One thread a process: hands it tasks and takes its results."""
        pipe = None
        while (task := self._tasks.get()) is not _DONE:
            future, *call = task
            if self._stopping or not future.set_running_or_notify_cancel():
                future.cancel()
                continue
            pipe = pipe or self._start(index)
            try:
                pipe.send(call)
                ok, value = pipe.recv()
            except (EOFError, OSError):
                future.set_exception(WorkerDied(f"its process ended ({_ending(self._stop(index))})"))
                pipe = None
            except Exception as error:  # the task can't be pickled
                future.set_exception(error)
            else:
                (future.set_result if ok else future.set_exception)(value)
        if pipe is not None:
            pipe.close()
            self._stop(index)

    def _start(self, index: int) -> Any:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs,))  # no daemon, which could not start data loaders
        process.start()
        theirs.close()
        self._processes[index] = process
        return ours

    def _stop(self, index: int) -> int | None:
        """The exit code of the process, which is made to end."""
        process = self._processes.pop(index)
        process.join(_GRACE)
        if process.exitcode is None:
            process.kill()
            process.join()
        code: int | None = process.exitcode
        return code


def _ending(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"{name}, perhaps out of memory" if name == "SIGKILL" else name


def _work(pipe: Any) -> None:
    """What a process does: calls as they come, until the pipe is closed. Ctrl-C is for the parent to answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("TQDM_DISABLE", "1")
    with contextlib.suppress(Terminated, EOFError, BrokenPipeError), terminable():
        while True:
            fn, args, kwargs = pipe.recv()
            try:
                answer = True, fn(*args, **kwargs)
            except Exception as error:
                answer = False, error
            pipe.send(answer)
