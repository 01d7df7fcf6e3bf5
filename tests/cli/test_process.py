"""What needs a process of its own: signals, pipes, full disks, and what is imported."""

from __future__ import annotations

import fcntl
import os
import pty
import resource
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from qfx.cli import main
from qfx.cli.main import COMMANDS
from tests.cli.processes import ROOT, finished, start, wait_until_started


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_one_line_and_no_file(folder: Path, signum: int, status: int) -> None:
    before = {p.name for p in folder.iterdir()}
    process = start("quantize", "cli_models:waits", "--calibration", "data.npz", "-o", "out.qfx")
    wait_until_started()
    process.send_signal(signum)
    code, told = finished(process)
    assert code == status, told
    assert told.count("\n") == 1
    assert told.endswith("no file was left half written\n")
    assert {p.name for p in folder.iterdir()} - before <= {"__pycache__", "started"}


def test_help_needs_no_torch() -> None:
    code = """
import sys
from qfx.cli import main
from qfx.cli.main import COMMANDS
for arguments in (["--help"], ["--version"], ["quantise"], *([c, "--help"] for c in COMMANDS)):
    main(arguments)
print(sorted({"torch", "numpy", "tqdm"} & set(sys.modules)), file=sys.stderr)
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stderr.splitlines()[-1] == "[]"
    assert all(f"usage: qfx {command}" in run.stdout for command in COMMANDS)


def test_a_reader_that_goes_away_is_no_error(quantized: Path) -> None:
    for arguments in (("inspect", "net.qfx"), ("--help",)):
        read, write = os.pipe()
        os.close(read)
        process = start(*arguments, stdout=write)
        os.close(write)
        assert finished(process) == (141, "")


@pytest.mark.parametrize(
    ("bar", "command"),
    [("calibrating", ["quantize", "cli_models:make", "--calibration", "data.npz", "-o", "out.qfx"]),
     ("running", ["run", "net.qfx", "--input", "data.npz"])],
)  # fmt: skip
def test_progress_shows_on_a_terminal_only(quantized: Path, bar: str, command: list[str]) -> None:
    mine, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))  # else it has no columns
    shown = start(*command, stdout=subprocess.DEVNULL, stderr=terminal)
    os.close(terminal)
    drawn = b"".join(iter(lambda: _read(mine), b"")).decode()
    os.close(mine)
    assert shown.wait(60) == 0, drawn
    assert f"{bar}:" in drawn
    assert "\r" in drawn
    assert finished(start(*command, stdout=subprocess.DEVNULL)) == (0, "")


def _read(terminal: int) -> bytes:
    """What the terminal shows next; nothing once no process has it open, which Linux tells as an error."""
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_an_output_that_takes_no_more_is_told() -> None:
    with Path("/dev/full").open("w") as full:
        code, told = finished(start("--help", stdout=full))
    assert code == 1
    assert told == "qfx: the output can't be written: No space left on device. Make room, or write elsewhere.\n"


def test_no_output_at_all(quantized: Path) -> None:
    process = start("inspect", "net.qfx", preexec_fn=lambda: os.close(1))
    assert finished(process) == (0, "")


def test_a_full_disk_leaves_what_was_there(quantized: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, names = quantized.read_bytes(), {p.name for p in folder.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        code = main(["quantize", "cli_models:make", "--calibration", "data.npz", "-o", "net.qfx"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 1
    assert "'net.qfx' can't be written. File too large." in capsys.readouterr().err
    assert quantized.read_bytes() == before
    assert {p.name for p in folder.iterdir()} - {"__pycache__"} == names


def test_every_command_is_listed_with_one_line_and_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    for command, does in COMMANDS.items():
        assert sum(command in line and does in line for line in lines) == 1
    assert "qfx quantize my_models:make" in text
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("qfx 0.")
