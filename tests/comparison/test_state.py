"""What looks at a model leaves its parts as they are that keep something from call to call."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qfx

EVERYTHING = {"": qfx.get_default_qconfig()}
X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


class Averages(nn.Module):
    """Keeps a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        self.mean.mul_(0.9).add_(x.mean(0), alpha=0.1)
        return x - self.mean


class Counts(nn.Module):
    """Keeps a number."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x / self.calls


class Remembers(nn.Module):
    """Keeps what it saw in a list of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: deque[Tensor] = deque([torch.zeros(6)], maxlen=3)

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.mean(0))
        return x + torch.stack(list(self.seen)).sum(0)


class Net(nn.Module):
    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.first, self.part, self.last = nn.Linear(6, 6), part, nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Any:
        return self.last(self.part(self.first(x)))


LOOKS: dict[str, Callable[[nn.Module, Any, Path], Any]] = {
    "compare": lambda net, model, to: qfx.compare(net, model, [X, -X], progress=False),
    "compare, prepared": lambda net, model, to: qfx.compare(prepared(net), model, [X, -X], progress=False),
    "sensitivity": lambda net, model, to: qfx.sensitivity(net, EVERYTHING, [X, -X], progress=False),
    "suggest": lambda net, model, to: qfx.suggest(net, model, [X, -X], progress=False),
    "report": lambda net, model, to: qfx.write_report(to, model, data=[X, -X]),
    "report with the float model": lambda net, model, to: qfx.write_report(to, model, float_model=net, data=[X]),
    "profile": lambda net, model, to: model.profile(X),
    "explain": lambda net, model, to: model.explain(),
    "save": lambda net, model, to: torch.save(model, to),
    "its graph of float operations": lambda net, model, to: model.graph_module()(X),
}


def prepared(net: nn.Module) -> nn.Module:
    made = qfx.prepare_fx(net, EVERYTHING, X)
    made(X)
    return made


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("part", [Averages, Counts, Remembers])
def test_a_look_changes_no_state(part: type[nn.Module], look: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Net(part()).eval()
    model = qfx.quantize_fx(net, EVERYTHING, [X, -X])
    model(X)
    wanted = [copy.deepcopy(each)(X) for each in (net, model)]
    LOOKS[look](net, model, tmp_path / "page.html")
    for each, result in zip((net, model), wanted, strict=True):
        assert torch.equal(each(X), result)


@pytest.mark.parametrize("part", [Averages, Counts, Remembers])
def test_all_levels_are_compared_from_the_same_state(part: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net = Net(part()).eval()
    model = qfx.quantize_fx(net, EVERYTHING, [X, -X])
    (record,) = [r for r in qfx.compare(net, model, [X, X, X], progress=False) if r.name == "last"]
    assert record.total.sqnr > 25.0


@pytest.mark.parametrize("part", [Averages, Counts, Remembers])
def test_looking_twice_sees_the_same(part: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net = Net(part()).eval()
    first, second = (qfx.sensitivity(net, EVERYTHING, [X, -X], progress=False) for _ in range(2))
    assert first.float_loss == second.float_loss == 0.0
    assert [r.name for r in first] == [r.name for r in second]
