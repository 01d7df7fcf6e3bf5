"""Batches of one, of models whose export takes lengths for two or more."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import qfx

EVERYTHING = {"": qfx.get_default_qconfig()}
X = torch.randn(4, 8, 4, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self, code: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.code = nn.Linear(6, 6), nn.Linear(6, 3), code

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.code(self.first(x)))


def windows(y: Tensor) -> Tensor:
    """As in networks with shifted windows."""
    b, h, w, c = y.shape
    y = torch.roll(y, (-1, -1), (1, 2)).view(b, h // 2, 2, w // 2, 2, c).transpose(2, 3)
    return torch.roll(y.reshape(-1, 4, c).softmax(1).view(b, h // 2, w // 2, 2, 2, c).transpose(2, 3), (1, 1), (1, 2))


HOLDS: dict[str, Callable[[Tensor], Tensor]] = {
    "windows": windows,
    "a part in two": lambda y: y[:, 4:].unflatten(1, (2, -1)),
    "the last of two in two": lambda y: torch.cat([y, y.roll(-1, 3)], 2).chunk(2, 1)[-1].unflatten(1, (2, -1)),
    "a part as rows": lambda y: y.chunk(2, 1)[-1].contiguous().view(-1, 6),
    "repeat": lambda y: y.repeat(1, 2, 1, 1),
    "rows in the channels": lambda y: y.reshape(-1, 6).view(y.shape[0], -1, 6),
    "expand": lambda y: y[:, :1].expand(y.shape[0], 8, 4, 6),
    "product with itself": lambda y: (y @ y.mT) @ y,
}
DOES_NOT: dict[str, Callable[[Tensor], Tensor]] = {
    "code that asks": lambda y: y * 2 if y.shape[0] >= 2 else y,
    "squeeze": lambda y: y.squeeze(0),
    "every squeeze": lambda y: y.squeeze(),
    "code that asks for another number": lambda y: y * 2 if y.shape[0] >= 3 else y,
}


@pytest.mark.parametrize("name", HOLDS)
def test_a_batch_of_one_runs(name: str) -> None:
    net = Net(HOLDS[name]).eval()
    model = qfx.quantize_fx(net, EVERYTHING, [X], frontend="export")
    for rows in (1, 2, 4):
        want, got = net(X[:rows]).detach(), model(X[:rows])
        assert got.shape == want.shape
        assert float((got - want).abs().max()) < 0.1 * float(want.abs().max())


@pytest.mark.parametrize("name", DOES_NOT)
def test_one_that_means_something_else_is_refused(name: str) -> None:
    net = Net(DOES_NOT[name]).eval()
    model = qfx.quantize_fx(net, EVERYTHING, [X], frontend="export")
    model(X)
    with pytest.raises(qfx.InputError, match=r"shape \(1, 8, 4, 6\)"):
        model(X[:1])
