"""Random numbers are drawn anew at each call where the float model does so, by every frontend; or refused in words."""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import qfx
from qfx.errors import CaptureError

EVERYTHING = {"": qfx.get_default_qconfig()}
FRONTENDS = ["symbolic", "export", "torchscript"]
X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Part(nn.Module):
    def __init__(self, function: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("p", torch.full((8, 1, 1), 0.5))
        self.weight = nn.Parameter(torch.ones(8, 1, 1))
        self.drop = nn.Dropout(0.5)

    def forward(self, y: Tensor) -> Tensor:
        return self.function(self, y)


class Net(nn.Module):
    def __init__(self, function: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.part, self.last = nn.Conv2d(3, 8, 1), Part(function), nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.part(self.first(x)))


def filled(y: Tensor) -> Tensor:
    """``y`` with one channel drawn."""
    y[:, 0].uniform_()
    return y


DRAWN: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "randn": lambda m, y: y + torch.randn(8)[:, None, None],
    "rand": lambda m, y: y * torch.rand(8, 1, 1),
    "randn_like": lambda m, y: y + torch.randn_like(y),
    "rand_like of a buffer": lambda m, y: y + torch.rand_like(m.p),
    "randn of a size": lambda m, y: y + torch.randn(y.shape[0], 1, 1, 1),
    "randint": lambda m, y: y + torch.randint(0, 50, (8, 1, 1)),
    "randperm": lambda m, y: y[:, torch.randperm(8)],
    "normal": lambda m, y: y + torch.normal(0.0, 1.0, (8, 1, 1)),
    "bernoulli of a buffer": lambda m, y: y * torch.bernoulli(m.p),
    "bernoulli of a value": lambda m, y: y * torch.bernoulli(y.sigmoid()),
    "a method": lambda m, y: y * m.p.bernoulli(),
    "multinomial": lambda m, y: y + torch.multinomial(m.p.flatten(), 8)[:, None, None],
    "poisson": lambda m, y: y + torch.poisson(y.abs() * 9),
    "in place": lambda m, y: y + torch.empty_like(y).normal_(),
    "new_empty": lambda m, y: y + y.new_empty(8, 1, 1).uniform_(),
    "into a tensor of the code": lambda m, y: y + torch.empty(8, 1, 1).normal_(),
    "into one, by keyword": lambda m, y: y + torch.empty(8, 1, 1).normal_(mean=1.0, std=3.0),
    "uniform_": lambda m, y: y + torch.empty(8, 1, 1).uniform_(-1, 1),
    "a part of a value": lambda m, y: filled(y),
    "exponential_": lambda m, y: y + torch.zeros(8, 1, 1).exponential_(),
    "cauchy_": lambda m, y: y + torch.zeros(8, 1, 1).cauchy_().clamp(-9, 9),
    "log_normal_": lambda m, y: y + torch.zeros(8, 1, 1).log_normal_(0, 0.5),
    "geometric_": lambda m, y: y + torch.zeros(8, 1, 1).geometric_(0.3),
    "random_": lambda m, y: y + torch.zeros(8, 1, 1).random_(40),
    "bernoulli_": lambda m, y: y * torch.zeros(8, 1, 1).bernoulli_(0.5),
    "bernoulli_ of a value": lambda m, y: y * torch.zeros(8, 8, 8).bernoulli_(y[0].sigmoid()),
    "distributions": lambda m, y: y + torch.distributions.Normal(0.0, 1.0).sample((8, 1, 1)),
    "dropout": lambda m, y: F.dropout(y, 0.5),
    "dropout, training": lambda m, y: F.dropout(y, 0.5, training=True),
    "dropout of a parameter": lambda m, y: y * F.dropout(m.weight, 0.5),
    "torch.dropout": lambda m, y: torch.dropout(y, 0.5, True),
    "dropout2d": lambda m, y: F.dropout2d(y, 0.5),
    "alpha_dropout": lambda m, y: F.alpha_dropout(y, 0.5, True),
    "rrelu": lambda m, y: F.rrelu(y, training=True),
    "gumbel_softmax": lambda m, y: F.gumbel_softmax(y, dim=1),
    "attention": lambda m, y: F.scaled_dot_product_attention(y, y, y, dropout_p=0.5),
}
FIXED: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "nn.Dropout": lambda m, y: m.drop(y),
    "dropout of the mode": lambda m, y: F.dropout(y, 0.5, m.training),
    "dropout, not training": lambda m, y: F.dropout(y, 0.5, training=False),
    "rrelu": lambda m, y: F.rrelu(y),
    "constants": lambda m, y: y + torch.arange(8.0)[:, None, None],
}


@pytest.mark.parametrize("frontend", FRONTENDS)
@pytest.mark.parametrize("name", DRAWN)
def test_what_is_random_stays_random_in_a_file_too_and_the_report_says_so(
    name: str, frontend: str, tmp_path: Path
) -> None:
    net = Net(DRAWN[name]).eval()
    assert not torch.equal(net(X), net(X))
    quantized = qfx.quantize_fx(net, EVERYTHING, [X], frontend=frontend)
    assert not torch.equal(quantized(X), quantized(X))
    records = {record.module_path: record for record in quantized.report}
    assert (records["first"].decision, records["last"].decision) == ("int8", "int8")
    assert any("random" in record.reason for record in quantized.report)
    qfx.save(quantized, tmp_path / "net.qfx")
    torch.manual_seed(3)
    wanted = quantized(X)
    torch.manual_seed(3)
    assert torch.equal(qfx.load(tmp_path / "net.qfx")(X), wanted)


@pytest.mark.parametrize("frontend", FRONTENDS)
@pytest.mark.parametrize("name", DRAWN)
def test_the_numbers_are_those_of_the_float_model(name: str, frontend: str) -> None:
    net = Net(DRAWN[name]).eval()
    prepared = qfx.prepare_fx(net, {"": None}, X, frontend=frontend)
    torch.manual_seed(3)
    expected = net(X)
    torch.manual_seed(3)
    torch.testing.assert_close(prepared(X), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frontend", FRONTENDS)
@pytest.mark.parametrize("name", FIXED)
def test_what_is_fixed_in_evaluation_stays_fixed(name: str, frontend: str) -> None:
    net = Net(FIXED[name]).eval()
    prepared = qfx.prepare_fx(net, {"": None}, X, frontend=frontend)
    torch.testing.assert_close(prepared(X), net(X), rtol=1e-4, atol=1e-5)
    assert torch.equal(prepared(X), prepared(X))


def told(error: qfx.QfxError, what: str = "") -> None:
    """Checks that a refusal says what it is about, and what to do."""
    assert what in error.what
    assert error.remedy


def _seeded(m: Any, y: Tensor) -> Tensor:
    torch.manual_seed(5)
    return y + torch.randn(8, 1, 1)


def _half_drawn() -> Tensor:
    made = torch.zeros(8, 1, 1)
    made[:4].uniform_()
    return made


FOREIGN: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "random": lambda m, y: y + random.random(),
    "numpy": lambda m, y: y + float(np.random.rand()),
    "numpy, a generator": lambda m, y: y + float(np.random.default_rng().normal()),
    "a generator": lambda m, y: y + torch.randn(8, 1, 1, generator=torch.Generator().manual_seed(7)),
    "a seed": _seeded,
    "into a part": lambda m, y: y + _half_drawn(),
    "init": lambda m, y: y + nn.init.normal_(torch.empty(8, 1, 1)),
    "kaiming": lambda m, y: y + nn.init.kaiming_uniform_(torch.empty(8, 8)),
    "random_ from to": lambda m, y: y + torch.zeros(8, 1, 1).random_(2, 40),  # torch.export can't
    "into a parameter": lambda m, y: y + m.weight.data.normal_(),
    "a branch": lambda m, y: y + 1 if torch.rand(()) > 0.5 else y,
}


@pytest.mark.parametrize("frontend", ["auto", *FRONTENDS])
@pytest.mark.parametrize("name", FOREIGN)
def test_what_a_graph_can_not_draw_is_a_float_part_or_refused(name: str, frontend: str) -> None:
    net = Net(FOREIGN[name]).eval()
    torch.manual_seed(0)
    try:
        quantized = qfx.quantize_fx(net, EVERYTHING, [X], frontend=frontend)
    except CaptureError as error:
        told(error)
        return
    reference = [net(X) for _ in range(20)]
    results = [quantized(X) for _ in range(20)]
    alike = all(torch.equal(result, reference[0]) for result in reference)
    assert all(torch.equal(result, results[0]) for result in results) == alike


def _clock(m: Any, y: Tensor) -> Tensor:
    return y * (time.perf_counter() % 1e-3 * 1e3)


NEARLY: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "a little noise": lambda m, y: y + 3e-3 * float(np.random.default_rng().normal()),
    "a clock": _clock,
    "a number of the system's": lambda m, y: y * (1 + int.from_bytes(os.urandom(8)) * 2**-72),
}
"""Numbers of a generator could be alike by chance, one run in a thousand: here the n-th is the same in every run."""


@pytest.mark.parametrize("frontend", ["auto", *FRONTENDS])
@pytest.mark.parametrize("name", NEARLY)
def test_numbers_that_are_nearly_the_same_at_every_call_are_not_held(
    name: str, frontend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, seeded = itertools.count(), np.random.default_rng
    monkeypatch.setattr(os, "urandom", lambda size: random.Random(next(calls)).randbytes(size))
    monkeypatch.setattr(np.random, "default_rng", lambda: seeded(next(calls)))

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(NEARLY[name](self, self.first(x)))

    with pytest.raises(CaptureError) as caught:
        qfx.quantize_fx(Whole().eval(), EVERYTHING, [X], frontend=frontend)
    told(caught.value)


def test_a_program_exported_in_training_mode_keeps_what_is_random_in_evaluation() -> None:
    class Drops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(self.conv(x), 0.5)

    program = torch.export.export(Drops().eval(), (X,))
    quantized = qfx.quantize_fx(program, EVERYTHING, [X])
    assert not torch.equal(quantized(X), quantized(X))
