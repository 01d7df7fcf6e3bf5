"""What is said of a quantized encoder: every segment, every float node, every step."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

import qfx
from benchmarks import encoders
from qfx.models import QuantizedModel


class Table(nn.Module):
    """Embeddings, which torch runs, before a program."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm, self.last = nn.Embedding(50, 32), nn.LayerNorm(32), nn.Linear(32, 32)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.last(self.norm(self.table(ids)))


@pytest.fixture(scope="module")
def model() -> QuantizedModel:
    torch.manual_seed(0)
    ids = torch.randint(0, 50, (2, 8))
    return qfx.quantize_fx(Table().eval(), {"": qfx.get_default_qconfig()}, [(ids,)])


def test_every_segment_and_every_float_node_is_in_the_lines(model: QuantizedModel) -> None:
    lines = list(encoders.describe(model))
    assert sum(line.startswith(("in torch", "program of")) for line in lines) == len(model.compiled.segments)
    listed = [
        int(count) for line in lines if line.startswith("float, ") for count in re.findall(r" (\d+)(?:,|$)", line)
    ]
    assert sum(listed) == len(model.report.decided("float"))


def test_every_step_has_a_row(model: QuantizedModel, capsys: pytest.CaptureFixture[str]) -> None:
    found = encoders.steps(model, (torch.randint(0, 50, (2, 8)),), repeats=1)
    encoders.print_steps(found)
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()][2:]
    assert sum(int(count) for _, count, *_ in rows[:-1]) == int(rows[-1][1]) == len(found) > 0
    assert all(step.microseconds is not None for step in found)
