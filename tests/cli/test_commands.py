"""What ``run``, ``bench``, ``inspect``, ``compare``, ``draw``, ``sensitivity`` and ``report`` print and write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import qfx
from qfx.cli import main
from qfx.file.model import load, save

MODEL = """
import torch
from torch import nn
def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))
batches = [torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(2)]
"""
"""What ``net.qfx`` was made from, and of."""


@pytest.fixture
def facts(quantized: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """``facts(command, ...)``: what ``--json`` prints."""
    Path("plain.py").write_text(MODEL)

    def ask(*arguments: str) -> Any:
        assert main([*arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return ask


def test_run_writes_the_outputs_of_all_samples(facts: Any) -> None:
    told = facts("run", "net.qfx", "--input", "data.npz", "--batch-size", "2", "-o", "out.npz")
    samples = torch.from_numpy(np.load("data.npz")["arr_0"])
    model = load("net.qfx")
    want = torch.cat([model(samples[:2]), model(samples[2:4]), model(samples[4:])])
    with np.load("out.npz") as file:
        assert file.files == ["output"]
        assert np.array_equal(file["output"], want.numpy())
    assert told["batches"] == 3
    assert told["outputs"][0]["shape"] == [5, 4, 6, 6]
    assert told["outputs"][0]["mean"] == pytest.approx(float(want.mean()), rel=1e-5)


def test_run_names_several_outputs(folder: Path) -> None:
    class Two(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            y = torch.relu(x)
            return y, {"twice": y + y}

    save(qfx.quantize_fx(Two(), {"": qfx.get_default_qconfig()}, [torch.randn(2, 3, 8, 8)]), "two.qfx")
    assert main(["run", "two.qfx", "--input", "data.npz", "-o", "out.npz"]) == 0
    with np.load("out.npz") as file:
        assert set(file.files) == {"output_0", "output_1_twice"}
        assert all(file[name].shape == (5, 3, 8, 8) for name in file.files)


def test_bench_times_both_models_in_turns(facts: Any) -> None:
    told = facts("bench", "net.qfx", "--float", "plain:make", "--batch", "3", "--seconds", "0.05", "--threads", "1")
    assert told["inputs"] == [[3, 3, 8, 8]]
    assert told["threads"] == 1
    assert told["turns"]["int8"] == told["turns"]["float"] >= 5
    assert 0 < told["ms"]["int8"] < 1000
    assert told["speedup"] > 0


def test_inspect_tells_what_the_file_holds(facts: Any, capsys: pytest.CaptureFixture[str]) -> None:
    told = facts("inspect", "net.qfx")
    assert told["bytes"] == Path("net.qfx").stat().st_size
    assert [x["name"] for x in told["inputs"]] == ["input"]
    assert told["inputs"][0]["shape"] == [2, 3, 8, 8]
    assert [n["decision"] for n in told["nodes"]] == ["int8", "int8"]
    assert [s["op"] for s in told["parts"][0]["steps"]].count("conv") == 2
    assert main(["inspect", "net.qfx", "--steps"]) == 0
    text = capsys.readouterr().out
    assert str(load("net.qfx").report) in text
    assert "packed weights" in text


def test_compare_puts_the_worst_first(facts: Any, capsys: pytest.CaptureFixture[str]) -> None:
    told = facts("compare", "plain:make", "net.qfx", "--data", "data.npz")
    import plain

    want = qfx.compare(plain.make(), load("net.qfx"), [torch.from_numpy(np.load("data.npz")["arr_0"])])
    assert [(n["name"], n["quantization"]) for n in told["nodes"]] == [
        (r.name, {"sqnr": r.quantization.sqnr, "cosine": r.quantization.cosine, "max_error": r.quantization.max_error})
        for r in want
        if r.quantization
    ]
    ranked = sorted(want, key=lambda r: r.total.sqnr if r.total else 0)
    assert told["worst"] == [r.name for r in ranked]
    assert main(["compare", "plain:make", "net.qfx", "--data", "data.npz", "--worst", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[2].startswith(ranked[0].name)


def test_sensitivity_ranks_the_nodes(facts: Any) -> None:
    told = facts("sensitivity", "plain:make", "--calibration", "data.npz")
    losses = [n["alone_loss"] for n in told["nodes"]]
    assert len(losses) >= 2
    assert losses == sorted(losses, reverse=True)
    assert told["int8_loss"] > told["float_loss"] == 0


@pytest.mark.parametrize("level", ["float", "observed", "qdq", "int8", "program"])
def test_draw_shows_every_level(facts: Any, level: str) -> None:
    data = ["--calibration", "plain:batches"] if level in ("qdq", "int8", "program") else []
    facts("draw", "plain:make", *data, "--level", level, "-o", "a.dot")
    assert "digraph" in Path("a.dot").read_text()
    if data:
        facts("draw", "net.qfx", "--level", level, "-o", "b.dot")
        assert Path("b.dot").read_text() == Path("a.dot").read_text()


def test_report_writes_a_page(facts: Any) -> None:
    facts("report", "net.qfx", "-o", "page.html", "--float", "plain:make", "--data", "data.npz")
    assert "</html>" in Path("page.html").read_text()
