"""The command line as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """``qfx`` with these arguments, in this folder; Ctrl-C reaches it even where the tests themselves ignore it."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.getcwd()}"}
    command = [sys.executable, "-m", "qfx", *arguments]
    options = {"env": environment, "stderr": subprocess.PIPE, "text": True, "preexec_fn": _hear_ctrl_c, **options}
    return subprocess.Popen(command, **options)


def _hear_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_until_started(seconds: float = 60.0) -> None:
    """Until the model of the tests that waits says so."""
    end = time.monotonic() + seconds
    while not Path("started").exists() and time.monotonic() < end:
        time.sleep(0.02)


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Status and what went to stderr."""
    with process:
        try:
            _, told = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, told
