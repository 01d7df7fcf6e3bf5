"""SIGTERM as an exception, so that what is half written is taken away as for Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Terminated(BaseException):
    """The process got SIGTERM."""


@contextmanager
def terminable() -> Iterator[None]:
    """While active, SIGTERM raises :class:`Terminated` in the main thread. Ranks of torchrun keep what it set up."""
    if threading.current_thread() is not threading.main_thread() or "RANK" in os.environ:
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(*_: object) -> None:
    raise Terminated
