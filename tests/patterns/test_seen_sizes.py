"""What does nothing to the examples may do something to other inputs: sizes that were seen decide nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import qfx

EVERYTHING = {"": qfx.get_default_qconfig()}
X = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self, code: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.code = nn.Linear(8, 8), nn.Linear(8, 3), code
        self.token = nn.Parameter(torch.randn(1, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.code(self, self.first(x)))


CODE: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "a token for each row": lambda m, y: torch.cat([m.token.expand(y.shape[0], -1), y], 0),
    "a token for each row, added up": lambda m, y: y + m.token.expand(y.shape[0], 8).sum(0),
    "one row for each": lambda m, y: y.mean(0, keepdim=True).expand(y.shape[0], 8).sum(0),
    "as rows of eight": lambda m, y: y.reshape(-1, 8),
    "the same sizes": lambda m, y: y.view(y.shape[0], -1),
    "as many rows as two have": lambda m, y: y.reshape(2, -1).mean(1, keepdim=True) * m.token,
    "all rows in one": lambda m, y: y.reshape(1, -1).mean(1, keepdim=True) * m.token,
    "all rows in one, flat": lambda m, y: y[None].flatten(0, 1)[None].flatten(0, 1),
    "the first dims in one": lambda m, y: y[:, None].flatten(0, 1),
    "a mean of all rows added": lambda m, y: y + y.mean(0, keepdim=True),
    "a layer of the mean added": lambda m, y: m.first(y) + m.first(y.mean(0, keepdim=True)),
    "as another": lambda m, y: m.token.expand_as(y).sum(0) + y,
}


@pytest.mark.parametrize("frontend", ["symbolic", "export"])
@pytest.mark.parametrize("seen", [1, 2])
@pytest.mark.parametrize("name", CODE)
def test_what_did_nothing_to_the_examples_does_it_to_others(name: str, seen: int, frontend: str) -> None:
    if seen == 1 and name == "as many rows as two have":
        seen = 4
    net = Net(CODE[name]).eval()
    prepared = qfx.prepare_fx(net, {"": None}, X[:seen], frontend=frontend)
    model = qfx.quantize_fx(net, EVERYTHING, [X[:seen]], frontend=frontend)
    for rows in (seen, 4, 6):
        with torch.no_grad():
            want = net(X[:rows])
            torch.testing.assert_close(prepared(X[:rows]), want, rtol=1e-5, atol=1e-6)
            assert model(X[:rows]).shape == want.shape
