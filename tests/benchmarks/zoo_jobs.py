"""Jobs that end in every way a job can."""

from __future__ import annotations

import os
import signal
import time


def run(name: str) -> object:
    """The job with this name."""
    return globals()[name]()


def succeeds() -> int:
    return 7


def raises() -> None:
    raise ValueError("the first line\n\nthe second line")


def hangs() -> None:
    time.sleep(60)


def crashes() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def leaves() -> None:
    os._exit(3)


def exhausts() -> None:
    bytearray(3 << 30)
