"""An exported program takes each input as it was exported with it, whether data gives it by name or by place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qfx.cli import main

PIXELS, WEIGHT = torch.randn(2, 3, 8, 8), torch.rand(2, 1)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

    def forward(self, pixels: Tensor, weight: Tensor) -> Tensor:
        return self.fc(self.conv(pixels).mean((2, 3)) * weight)


class KeywordOnly(Net):
    def forward(self, pixels: Tensor, *, weight: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(pixels, weight)


class Alone(Net):
    def forward(self, pixels: Tensor, weight: Tensor | None = None) -> Tensor:
        assert weight is None
        return self.fc(self.conv(pixels).mean((2, 3)))


EXPORTED: dict[str, Callable[[], torch.export.ExportedProgram]] = {
    "by place": lambda: torch.export.export(Net(), (PIXELS, WEIGHT)),
    "by name": lambda: torch.export.export(Net(), (), {"weight": WEIGHT, "pixels": PIXELS}),
    "one of each": lambda: torch.export.export(Net(), (PIXELS,), {"weight": WEIGHT}),
    "by name only": lambda: torch.export.export(KeywordOnly(), (PIXELS,), {"weight": WEIGHT}),
    "a default left out": lambda: torch.export.export(Alone(), (PIXELS,)),
}
NAMED = ("pixels", "weight"), ("weight", "pixels")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    return {"pixels": torch.randn(6, 3, 8, 8).numpy(), "weight": torch.rand(6, 1).numpy()}


@pytest.mark.parametrize("how", EXPORTED)
@pytest.mark.parametrize("names", NAMED)
def test_arrays_by_name(
    how: str, names: tuple[str, ...], data: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    torch.export.save(EXPORTED[how](), "net.pt2")
    taken = [n for n in names if n == "pixels" or how != "a default left out"]
    np.savez("data.npz", **{name: data[name] for name in taken})
    given = ("--batch-size", "2")
    assert main(["quantize", "net.pt2", "--calibration", "data.npz", "-o", "net.qfx", "--json", *given]) == 0
    assert json.loads(capsys.readouterr().out)["sqnr_db"]["output"] > 30
    assert main(["compare", "net.pt2", "net.qfx", "--data", "data.npz", *given]) == 0
    report = ("report", "net.qfx", "--float", "net.pt2", "--data", "data.npz", "-o", "net.html")
    assert main([*report, *given]) == 0
    assert main(["bench", "net.qfx", "--float", "net.pt2", "--batch", "2", "--seconds", "0.01"]) == 0


def test_a_batch_that_the_program_refuses(data: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]) -> None:
    torch.export.save(EXPORTED["by place"](), "net.pt2")
    np.savez("data.npz", **data)
    assert main(["quantize", "net.pt2", "--calibration", "data.npz", "-o", "net.qfx", "--batch-size", "3"]) != 0
    said = capsys.readouterr().err
    assert "(3, 3, 8, 8)" in said
    assert "(2, 3, 8, 8)" in said
    assert "--traceback" not in said
    assert not Path("net.qfx").exists()
