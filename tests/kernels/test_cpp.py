"""Builds the C++ tests once a session and runs each of their cases as a test of its own."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
from pathlib import Path

import pytest

from docs.instruction_sets import levels
from qfx.runtime import isa_names

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
        run_tool("cmake", "-S", str(ROOT), "-B", str(BUILD), "-DQFX_BINDINGS=OFF", "-DQFX_TESTS=ON", "-DQFX_LIBRARY=ON")
        run_tool("cmake", "--build", str(BUILD), "--target", "qfx_tests", f"-j{os.cpu_count() or 1}")
    return BUILD / "qfx_tests"


def run(binary: Path, case: str) -> None:
    """Runs a case, and puts into ``ledgers`` what it ran: whole, as another process may read it."""
    folder = BUILD / "ledgers"
    folder.mkdir(exist_ok=True)
    written = folder / f"{case}.{os.getpid()}"
    command = [str(binary), "--run", case, "--ledger", str(written)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}{done.stderr}"
    written.replace(folder / f"{case}.tsv")


def ledger(binary: Path, case: str) -> list[tuple[str, str, str]]:
    """Kernel, level and what it ran on, for every kernel; the case is run unless this build's has been."""
    path = BUILD / "ledgers" / f"{case}.tsv"
    if not path.exists() or path.stat().st_mtime < binary.stat().st_mtime:
        run(binary, case)
    lines = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines())
    return [(kernel, level, place) for kernel, level, place in lines]


@pytest.mark.parametrize("case", CASES)
def test_cpp(binary: Path, case: str) -> None:
    run(binary, case)


def test_every_case_is_run(binary: Path) -> None:
    listed = subprocess.run([str(binary), "--list"], capture_output=True, text=True, check=True)
    assert listed.stdout.split() == CASES


@pytest.mark.slow
def test_every_kernel_that_this_machine_can_run_was_run(binary: Path) -> None:
    """As ``make emulate`` has it of the whole program in one go."""
    lines = {line for case in CASES for line in ledger(binary, case)}
    ran = {kernel for kernel, _, place in lines if place != "nowhere"}
    here = set(isa_names())
    assert not {kernel for kernel, level, _ in lines if level in here} - ran
    assert {place for _, level, place in lines if level == "scalar"} == {"hardware", "nowhere"}
    assert {level for _, level, _ in lines} == {level.name for level in levels()}


def test_a_kernel_that_nobody_ran_is_found(binary: Path) -> None:
    lines, here = ledger(binary, "ledger_counts_kernels_and_no_words"), isa_names()
    assert any(level in here and place == "nowhere" for _, level, place in lines)


def test_an_unknown_case_is_refused(binary: Path) -> None:
    done = subprocess.run([str(binary), "--run", "no_such_case"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no_such_case" in done.stderr
