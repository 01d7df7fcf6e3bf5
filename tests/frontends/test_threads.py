"""Captures in several threads, and float models that run beside them, do not disturb each other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import qfx
from qfx.capture_lock import capturing

EVERYTHING = {"": qfx.get_default_qconfig()}
FRONTENDS = ["auto", "symbolic", "export", "torchscript"]
X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, width, 3), nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv(x)).mean((2, 3)) + torch.zeros(1)
        return self.out(y) if isinstance(y, torch.Tensor) else y


def in_threads(works: list[Callable[[], Any]]) -> list[Any]:
    """The results of ``works``, each in a thread of its own; an exception is its own result."""
    results: list[Any] = [None] * len(works)

    def run(index: int) -> None:
        try:
            results[index] = works[index]()
        except BaseException as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_models_quantized_by_many_threads_are_those_of_one() -> None:
    nets = [Net(4 + index).eval() for index in range(12)]
    frontends = [FRONTENDS[index % 4] for index in range(12)]
    done = threading.Event()
    watched = nets[0]
    expected = watched(X).detach()
    calls = [0]

    def float_calls() -> float:
        worst = 0.0
        with torch.no_grad():  # is a thread's own
            while not done.is_set():
                worst = max(worst, float((watched(X) - expected).abs().max()))
                calls[0] += 1
        return worst

    def quantized(net: nn.Module, frontend: str) -> Any:
        return qfx.quantize_fx(net, EVERYTHING, [X], frontend=frontend)

    def all_of_them() -> list[Any]:
        try:
            pairs = zip(nets, frontends, strict=True)
            return in_threads([lambda net=net, f=f: quantized(net, f) for net, f in pairs])
        finally:
            done.set()

    worst, models = in_threads([float_calls, all_of_them])
    assert not isinstance(worst, BaseException), worst
    assert worst <= 1e-6
    assert calls[0] > 0
    for net, frontend, model in zip(nets, frontends, models, strict=True):
        assert isinstance(model, qfx.QuantizedModel), model
        alone = quantized(net, frontend)
        assert model.info["frontend"] == alone.info["frontend"]
        assert torch.equal(model.state_dict()["conv.weight"], alone.state_dict()["conv.weight"])
        torch.testing.assert_close(model(X), alone(X), rtol=1e-5, atol=1e-6)  # torch's sums depend on where memory is


def test_the_lock_is_that_of_the_thread() -> None:
    with capturing():
        assert qfx.prepare_fx(Net(4).eval(), {"": None}, X)(X).shape == (4, 5)
