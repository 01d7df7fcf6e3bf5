"""The library of C, built once and installed into build/library/install; and programs that are run to their end."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "cpp-tests"
OPTIONS = ("-DQFX_BINDINGS=OFF", "-DQFX_TESTS=ON", "-DQFX_LIBRARY=ON", "-DCMAKE_BUILD_TYPE=Release")
"""As the Makefile has them: the C++ tests are of the same objects."""
PREFIX = ROOT / "build" / "library" / "install"


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program to its end, whatever that is."""
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def run_tool(*command: str | Path, **environment: str) -> str:
    """What a program prints that succeeds."""
    done = run(*command, **environment)
    assert done.returncode == 0, f"{' '.join(map(str, command))} failed\n{done.stdout}{done.stderr}"
    return done.stdout


def build() -> Path:
    """The folder that the library is installed in, up to date with its sources; one process builds at a time."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run_tool("cmake", "-S", ROOT, "-B", BUILD, *OPTIONS)
        run_tool("cmake", "--build", BUILD, "--target", "qfx", "qfx_run", f"-j{os.cpu_count() or 1}")
        run_tool("cmake", "--install", BUILD, "--component", "library", "--strip", "--prefix", PREFIX)
    return PREFIX


def library() -> Path:
    """The library itself."""
    (found,) = PREFIX.glob("lib*/libqfx.so")
    return found
