"""``torchrun -m qfx calibrate`` with two ranks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

from tests.cli.command import assert_same, calibrate, usual

ROOT = Path(__file__).parents[2]


def torchrun(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **{k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")},
        "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "qfx", "calibrate"]
    return subprocess.run(
        [sys.executable, *launch, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_two_ranks_give_what_one_process_gives(folder: Path) -> None:
    run = torchrun(folder, *usual("ranks.pt"), "--timeout", "60")
    assert run.returncode == 0, run.stderr
    assert run.stdout == "ranks.pt: ranges of 2 values, 2 ranks\n"
    assert calibrate(*usual("alone.pt")) == 0
    got, want = (torch.load(name, weights_only=True) for name in ("ranks.pt", "alone.pt"))
    ranges = {name: value for name, value in want.items() if "input_statistics" not in name}
    assert len(ranges) >= 6
    assert_same({name: got[name] for name in ranges}, ranges)
    assert got.keys() == want.keys()


def test_an_error_on_one_rank_is_told_once(folder: Path) -> None:
    run = torchrun(folder, *usual("ranks.pt", "cli_models:nan"), "--timeout", "60")
    assert run.returncode != 0
    told = [line for line in run.stderr.splitlines() if line.startswith("qfx calibrate: ")]
    assert len(told) == 1
    assert "On rank 1" in told[0]
    assert "not finite" in told[0]
    assert not (folder / "ranks.pt").exists()


def test_other_weights_on_a_rank_are_noticed(folder: Path) -> None:
    run = torchrun(folder, "cli_models:random", *usual("ranks.pt")[1:], "--timeout", "60")
    assert run.returncode != 0
    assert "Rank 1 has other weights than rank 0" in run.stderr
    assert not (folder / "ranks.pt").exists()
