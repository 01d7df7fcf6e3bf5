"""Builds the C++ tests once a session and runs each of their cases as a test of its own."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
from pathlib import Path

import pytest

from docs.instruction_sets import levels

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "cpp-tests"
CASES = sorted(
    name
    for source in (ROOT / "tests" / "cpp").glob("*.cc")
    for name in re.findall(r"^TEST\((\w+)\)", source.read_text(encoding="utf-8"), re.MULTILINE)
)


def run_tool(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)} failed\n{done.stdout}{done.stderr}"


@pytest.fixture(scope="session")
def binary() -> Path:
    """The test program, up to date with its sources. Concurrent test processes build one after the other."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run_tool("cmake", "-S", str(ROOT), "-B", str(BUILD), "-DQFX_BINDINGS=OFF", "-DQFX_TESTS=ON")
        run_tool("cmake", "--build", str(BUILD), "--target", "qfx_tests", f"-j{os.cpu_count() or 1}")
    return BUILD / "qfx_tests"


@pytest.mark.parametrize("case", CASES)
def test_cpp(binary: Path, case: str) -> None:
    done = subprocess.run([str(binary), "--run", case], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}{done.stderr}"


def test_every_case_is_run(binary: Path) -> None:
    listed = subprocess.run([str(binary), "--list"], capture_output=True, text=True, check=True)
    assert listed.stdout.split() == CASES


@pytest.mark.slow
def test_every_kernel_that_this_machine_can_run_was_run(binary: Path, tmp_path: Path) -> None:
    """The whole program in one go fails if a kernel of a level that is here was part of no test."""
    ledger = tmp_path / "ledger.tsv"
    done = subprocess.run([str(binary), "--ledger", str(ledger)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    lines = [line.split("\t") for line in ledger.read_text(encoding="utf-8").splitlines()]
    assert {ran for _, level, ran in lines if level == "scalar"} == {"hardware"}
    assert {level for _, level, _ in lines} == {level.name for level in levels()}


def test_an_unknown_case_is_refused(binary: Path) -> None:
    done = subprocess.run([str(binary), "--run", "no_such_case"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no_such_case" in done.stderr
