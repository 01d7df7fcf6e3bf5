"""A folder with models, data and a configuration, in which commands run."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

MODELS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))

def make():
    torch.manual_seed(0)
    return Net()

def random():
    torch.seed()
    return Net()

def broken():
    raise FileNotFoundError("weights.pt")

def not_a_model():
    return 3

instance = make()
batches = [torch.randn(2 + i % 2, 3, 8, 8, generator=torch.Generator().manual_seed(i)) * (i + 1) for i in range(5)]

def stream():
    yield from batches

def nan():
    return [batches[0], batches[1] * torch.nan]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "cli_models.py").write_text(MODELS)
    (tmp_path / "cfg.json").write_text(json.dumps({"": "default", "object_type": [["torch.nn.Conv2d", "default"]]}))
    samples = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1)).numpy()
    np.savez(tmp_path / "data.npz", samples)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "cli_models", raising=False)
    return tmp_path


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
