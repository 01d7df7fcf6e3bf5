"""A folder with models, data, configurations and a quantized file, in which commands run."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import qfx
from qfx.file.model import save

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

def leaves():
    raise SystemExit(3)

def not_a_model():
    return 3

def talks():
    print("hello from the factory")
    return make()

def waits():
    import pathlib, time
    pathlib.Path("started").touch()
    time.sleep(60)

instance = make()
batches = [torch.randn(2 + i % 2, 3, 8, 8, generator=torch.Generator().manual_seed(i)) * (i + 1) for i in range(5)]

def stream():
    yield from batches

def breaks():
    yield batches[0]
    raise OSError("disk unplugged")

def nan():
    return [batches[0], batches[1] * torch.nan]

def integers():
    return [torch.zeros(2, 3, 8, 8, dtype=torch.int64)]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with ``cli_models``, ``cfg.json`` and ``data.npz``."""
    (tmp_path / "cli_models.py").write_text(MODELS)
    (tmp_path / "cfg.json").write_text(json.dumps({"": "default", "object_type": [["torch.nn.Conv2d", "default"]]}))
    samples = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1)).numpy()
    np.savez(tmp_path / "data.npz", samples)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "cli_models", raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def quantized_bytes() -> bytes:
    """The content of ``net.qfx``."""
    made = io.BytesIO()
    save(_quantized(), made)
    return made.getvalue()


def _quantized() -> qfx.QuantizedModel:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 1))
    batches = [torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    return qfx.quantize_fx(net, {"": qfx.get_default_qconfig()}, batches)


@pytest.fixture
def quantized(folder: Path, quantized_bytes: bytes) -> Path:
    """``net.qfx`` in the folder."""
    (folder / "net.qfx").write_bytes(quantized_bytes)
    return folder / "net.qfx"


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before, ours = torch.get_num_threads(), qfx.get_num_threads()
    yield
    torch.set_num_threads(before)
    qfx.set_num_threads(ours)
