"""``qfx calibrate`` with the arguments that most tests give it."""

from __future__ import annotations

import torch
from torch import Tensor

from qfx.cli import main


def calibrate(*arguments: str) -> int:
    return main(["calibrate", *arguments])


def usual(output: str, data: str = "cli_models:batches") -> tuple[str, ...]:
    return ("cli_models:make", "--qconfig", "cfg.json", "--calibration", data, "-o", output)


def assert_same(got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    assert got.keys() == want.keys()
    assert all(torch.equal(got[name], value) for name, value in want.items())
