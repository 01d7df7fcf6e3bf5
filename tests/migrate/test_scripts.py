"""Classic scripts: the tool takes each to one that runs as it is, and whose results are those of the original."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from qfx.migrate.__main__ import DONE, main

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.py"))
pytestmark = pytest.mark.slow


def run(before: Path, after: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """What two scripts save, each run as a process of its own."""
    results = [path.with_suffix(".saved") for path in (before, after)]
    given = ("ignore", before, results[0], "default", after, results[1])
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "forks.py"), *map(str, given)],
        capture_output=True, text=True, check=False, cwd=before.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return torch.load(results[0]), torch.load(results[1])


def noise(ours: torch.Tensor, reference: torch.Tensor) -> float:
    """Mean squared difference over the mean square."""
    return float((ours - reference).double().square().mean() / reference.double().square().mean())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_classic_script_runs_unchanged_by_hand(script: Path, tmp_path: Path, capsys: Any) -> None:
    before, after = tmp_path / "before.py", tmp_path / "after.py"
    for path in (before, after):
        path.write_text(script.read_text())
    assert main([str(after), "--write"]) == DONE, capsys.readouterr().out
    theirs, ours = run(before, after)
    assert theirs.keys() == ours.keys()
    for name in theirs.keys() - {"float", "trained", "accuracy", "exact"}:
        # As far from the float model as the original is, where both round values and weights to the same 8 bits.
        torch.testing.assert_close(ours["float"], theirs["float"])
        limit = 2 * noise(theirs[name], theirs["float"])
        assert noise(ours[name], ours["float"]) <= limit, name
        assert noise(ours[name], theirs[name]) <= 2 * limit, name
    if "exact" in theirs:
        assert torch.equal(ours["exact"], theirs["exact"])
    if "trained" in theirs:
        assert float(ours["accuracy"]) >= float(theirs["accuracy"]) - 0.05
        assert float((ours["trained"].argmax(1) == theirs["trained"].argmax(1)).float().mean()) >= 0.9
