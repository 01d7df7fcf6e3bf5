"""``python -m qfx.migrate``: what it prints, writes and returns."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qfx.migrate.__main__ import DONE, FAILED, LEFT, main

BEFORE = "import torch\nx = torch.quint8  # eight\n"
AFTER = "import torch\nimport qfx\nx = qfx.quint8  # eight\n"
LEAVES = "import torch\nx = torch.quint4x2\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "user.py"
    path.write_text(BEFORE)
    return path


def test_without_write_nothing_is_written(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(file)]) == DONE
    assert file.read_text() == BEFORE
    assert "1 of 1 file to change; 0 places need a hand." in capsys.readouterr().err


def test_write_replaces_and_leaves_nothing_beside(file: Path) -> None:
    file.chmod(0o750)
    assert main([str(file), "--write"]) == DONE
    assert file.read_text() == AFTER
    assert file.stat().st_mode & 0o777 == 0o750
    assert [path.name for path in file.parent.iterdir()] == ["user.py"]


def test_a_file_without_changes_is_not_touched(file: Path) -> None:
    file.write_text(AFTER)
    os.utime(file, (1, 1))
    assert main([str(file), "--write"]) == DONE
    assert file.stat().st_mtime == 1


def test_diff_shows_the_changes(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(BEFORE.rstrip("\n"))
    assert main([str(file), "--diff"]) == DONE
    out = capsys.readouterr().out
    assert f"--- {file}\n+++ {file}\n" in out
    assert "-x = torch.quint8  # eight\n\\ No newline at end of file\n+import qfx\n+x = qfx.quint8  # eight\n\\ " in out
    assert file.read_text() == BEFORE.rstrip("\n")


def test_what_is_left_is_printed_with_its_place(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(LEAVES)
    assert main([str(file), "--write"]) == LEFT
    assert f"{file}:2:5: torch.quint4x2: qfx has no 4-bit dtype" in capsys.readouterr().out
    assert file.read_text() == LEAVES


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (b"import torch\nx = (\n", ": does not parse as Python"),
        (b"# coding: latin-9000\n", "latin-9000"),
        (b"x = '\xff'\n", "encoding"),
        (None, "No such file"),
    ],
)
def test_with_a_file_that_does_not_parse_nothing_is_written(
    file: Path, capsys: pytest.CaptureFixture[str], broken: bytes | None, message: str
) -> None:
    other = file.with_name("broken.py")
    if broken is not None:
        other.write_bytes(broken)
    assert main([str(file), str(other), "--write"]) == FAILED
    said = capsys.readouterr()
    assert said.out == ""
    assert str(other) in said.err
    assert message in said.err
    assert "Nothing was written." in said.err
    assert file.read_text() == BEFORE
    assert broken is None or other.read_bytes() == broken


@pytest.mark.parametrize("step", ["fsync", "chmod", "replace"])
def test_a_file_that_cannot_be_replaced_stays_as_it_was(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    assert main([str(file), "--write"]) == FAILED
    monkeypatch.undo()
    assert "No space left" in capsys.readouterr().err
    assert file.read_text() == BEFORE
    assert [path.name for path in file.parent.iterdir()] == ["user.py"]


def test_a_link_stays_a_link(file: Path) -> None:
    link = file.with_name("link.py")
    link.symlink_to(file)
    assert main([str(link), "--write"]) == DONE
    assert link.is_symlink()
    assert file.read_text() == AFTER


def test_a_folder_is_its_python_files(file: Path) -> None:
    below = file.parent / "a" / "b.py"
    below.parent.mkdir()
    below.write_text(BEFORE)
    notes = file.parent / "notes.txt"
    notes.write_text(BEFORE)
    assert main([str(file.parent), str(file), "--write"]) == DONE
    assert (file.read_text(), below.read_text(), notes.read_text()) == (AFTER, AFTER, BEFORE)


def test_without_libcst_it_says_how_to_get_it(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "libcst", None)
    assert main([str(file)]) == FAILED
    assert "pip install 'qfx[migrate]'" in capsys.readouterr().err


def test_it_runs_as_a_module_and_needs_no_torch(file: Path) -> None:
    program = "import sys, runpy; sys.modules['torch'] = None; runpy.run_module('qfx.migrate', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", program, str(file), "--write"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert (done.returncode, done.stdout) == (DONE, ""), done.stderr
    assert file.read_text() == AFTER
