"""Batches and sequences of one, of models whose export takes lengths for two or more."""

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
    "squeeze of what is one": lambda y: y * y.mean(1, keepdim=True).squeeze(1).unsqueeze(1),
    "squeeze of what is none": lambda y: y.squeeze(2),
}
DOES_NOT: dict[str, Callable[[Tensor], Tensor]] = {
    "code that asks": lambda y: y * 2 if y.shape[0] >= 2 else y,
    "squeeze": lambda y: y.squeeze(0),
    "every squeeze": lambda y: y.squeeze(),
    "squeeze in place": lambda y: (y * 1).squeeze_(0),
    "squeeze of twice the batch less one": lambda y: torch.cat([y, y[1:]]).squeeze(0),
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


TOKENS = torch.randint(0, 12, (3, 7), generator=torch.Generator().manual_seed(1))


class Sequence(nn.Module):
    """Tokens to a value each, by code that sees batch and length."""

    def __init__(self, code: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.first, self.last, self.code = nn.Embedding(12, 6), nn.Linear(6, 6), nn.Linear(6, 3), code

    def forward(self, tokens: Tensor) -> Tensor:
        return self.last(self.code(self.first(self.table(tokens))))


def heads(y: Tensor) -> Tensor:
    b, n, _ = y.shape
    parts = y.view(b, n, 3, 2).transpose(1, 2).reshape(b * 3, n, 2)
    scores = (parts @ parts.mT).view(b, 3, n, n) + torch.arange(n)[:, None]
    return (scores.softmax(-1) @ parts.view(b, 3, n, 2)).transpose(1, 2).reshape(b, n, 6)


SEQUENCES: dict[str, Callable[[Tensor], Tensor]] = {
    "heads": heads,
    "a mean": lambda y: y + y.mean(1, keepdim=True),
    "a mean without its dim": lambda y: y + y.mean(1, keepdim=True).squeeze(-2).unsqueeze(1),
    "the first token": lambda y: torch.cat([y[:, :1], y], 1).flatten(0, 1).view(y.shape[0], -1, 6),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_sequence_of_one_runs(name: str) -> None:
    net = Sequence(SEQUENCES[name]).eval()
    model = qfx.quantize_fx(net, EVERYTHING, [TOKENS], frontend="export")
    for part in (TOKENS, TOKENS[:1], TOKENS[:, :1], TOKENS[:1, :1]):
        want, got = net(part).detach(), model(part)
        assert got.shape == want.shape
        assert float((got - want).abs().max()) < 0.1 * float(want.abs().max())


@pytest.mark.parametrize("qconfig", [qfx.get_default_qconfig(), qfx.default_dynamic_qconfig])
def test_an_example_of_one_leaves_the_batch_free(qconfig: qfx.QConfig) -> None:
    """Under a dynamic qconfig the table is a module of its own in the export."""
    net = Sequence(heads).eval()
    model = qfx.quantize_fx(net, {"": qconfig}, [TOKENS], example_inputs=TOKENS[:1], frontend="export")
    for part in (TOKENS, TOKENS[:1], TOKENS[:2, :4]):
        want, got = net(part).detach(), model(part)
        assert got.shape == want.shape
        assert float((got - want).abs().max()) < 0.1 * float(want.abs().max())


@pytest.mark.parametrize("least", [2, 3])
def test_a_sequence_of_one_that_means_something_else_is_refused(least: int) -> None:
    net = Sequence(lambda y: y * 2 if y.shape[1] >= least else y).eval()
    model = qfx.quantize_fx(net, EVERYTHING, [TOKENS], frontend="export")
    assert model(TOKENS[:1]).shape == (1, 7, 3)
    for part in (TOKENS[:, :1], TOKENS[:1, :1]):
        with pytest.raises(qfx.InputError, match=r"has shape \(\d, 1\)"):
            model(part)


def test_one_sequence_of_one_that_means_something_else_is_refused() -> None:
    net = Sequence(lambda y: y * 2 if y.shape[0] * y.shape[1] != 1 else y).eval()
    model = qfx.quantize_fx(net, EVERYTHING, [TOKENS], frontend="export")
    torch.testing.assert_close(model(TOKENS[:1]), net(TOKENS[:1]).detach(), atol=0.1, rtol=0.1)
    with pytest.raises(qfx.InputError, match=r"has shape \(1, 1\)"):
        model(TOKENS[:1, :1])
