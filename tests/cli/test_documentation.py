"""docs/cli.md: its examples run, and it names every command and status."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from qfx.cli import main
from qfx.cli.config import load_qconfig_dict
from qfx.cli.main import COMMANDS, DONE, FAILED, INTERRUPTED, MISUSED, TERMINATED, UNREAD

TEXT = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_the_examples_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("my_models.py").write_text(blocks("python")[0])
    Path("jobs.toml").write_text(blocks("toml")[0])
    Path("cfg.json").write_text(blocks("json")[0])
    commands = [line for block in blocks("sh") for line in block.splitlines() if "batch" not in line.split()[1]]
    for line in commands:
        program, *arguments = shlex.split(line)
        assert program == "qfx"
        assert main(arguments) == 0, capsys.readouterr().err
    assert {line.split()[1] for line in commands} | {"batch"} == set(COMMANDS)
    ranges = json.loads(Path("ranges.json").read_text())
    assert all(entry["scale"] > 0 for entry in ranges.values())
    assert set(load_qconfig_dict(Path("cfg.json"))) == {"", "object_type", "module_name"}


@pytest.mark.slow
def test_the_batch_of_the_documentation_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("my_models.py").write_text(blocks("python")[0])
    Path("jobs.toml").write_text(blocks("toml")[0])
    (line,) = [line for block in blocks("sh") for line in block.splitlines() if "batch" in line.split()[1]]
    assert main(shlex.split(line)[1:]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 jobs: 2 done"


def test_every_command_and_status_is_there() -> None:
    for command in COMMANDS:
        assert f"| `{command} " in TEXT
    statuses = [int(found) for found in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)]
    assert statuses == [DONE, FAILED, MISUSED, INTERRUPTED, UNREAD, TERMINATED]
