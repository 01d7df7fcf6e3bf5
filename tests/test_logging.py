"""The ``qfx`` logger: what happens to a model, for whoever asks; nobody who does not."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
import torch

import qfx

SCRIPT = """
import torch, qfx
net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
qfx.quantize_fx(net, {"": qfx.get_default_qconfig()}, [torch.randn(1, 3, 8, 8)])
"""


def quantize() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
    qfx.quantize_fx(net, {"": qfx.get_default_qconfig()}, [torch.randn(1, 3, 8, 8)] * 3)


def test_each_stage_is_told_once_and_in_order(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "qfx"):
        quantize()
    told = [record.getMessage() for record in caplog.records]
    assert all(record.name.startswith("qfx.") for record in caplog.records)
    beginnings = ("Sequential captured by symbolic: the default", "calibrated on 3 batches", "1 programs for ")
    assert len(told) == len(beginnings)
    assert all(line.startswith(beginning) for line, beginning in zip(told, beginnings, strict=True))


def test_passes_are_told_to_whoever_debugs(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "qfx"):
        quantize()
    told = " ".join(record.getMessage() for record in caplog.records)
    for name in ("normalize", "fuse_activations", "insert_observers", "convert_to_qdq", "lower_to_int8"):
        assert f"{name}: " in told


def test_a_program_that_does_not_ask_hears_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
