"""Programs between nodes that torch runs: without inputs, without results, and results in dicts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import qfx
from qfx.lowering.interpreter import interpret_integers

DEFAULT = {"": qfx.get_default_qconfig()}
X = torch.randn(4, 6, generator=torch.Generator().manual_seed(3))


class Keys(nn.Module):
    """A layer on a constant, ready before what torch computes from the input: a program without inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.keys, self.first, self.second = nn.Parameter(torch.randn(6, 6)), nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": self.first(torch.cumprod(x, 1)) + torch.cumsum(self.second(self.keys), 0)[:1]}


def test_a_program_may_have_no_inputs_and_the_result_be_a_dict() -> None:
    torch.manual_seed(0)
    net = Keys().eval()
    quantized = qfx.quantize_fx(net, DEFAULT, [X])
    assert () in [part.segment.inputs for part in quantized.compiled.segments if part.executable is not None]
    result = quantized(X)
    wanted = interpret_integers(quantized.graph_module(), (X,)).output
    assert type(result) is type(wanted) is dict
    assert torch.equal(result["out"], wanted["out"])
    signal, noise = net(X)["out"].square().sum(), (net(X)["out"] - result["out"]).square().sum()
    assert 10 * torch.log10(signal / noise) > 30


class Tokens(nn.Module):
    """Sizes of an input that only torch takes, ready before anything else that a program computes."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.layer = nn.Embedding(9, 6), nn.Linear(6, 6)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.layer(self.table(tokens)).reshape(tokens.size(0), tokens.size(1) * 6)


def test_sizes_alone_make_no_program() -> None:
    tokens = torch.tensor([[1, 2, 3], [4, 5, 6]])
    net = Tokens().eval()
    quantized = qfx.quantize_fx(net, DEFAULT, [tokens])
    assert all(part.segment.outputs for part in quantized.compiled.segments)
    torch.testing.assert_close(quantized(tokens[:1]), net(tokens[:1]), atol=0.05, rtol=0.0)


class Named(nn.Module):
    """Constants under names that every module has methods of."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.ones(1, 6).to(torch.float32)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_constant_may_be_named_like_a_method_of_modules() -> None:
    with torch.no_grad():
        scripted = torch.jit.script(Named().eval())
    torch.testing.assert_close(qfx.fuse_fx(scripted, X)(X), X + 1.0)
