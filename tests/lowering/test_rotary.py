"""Rotary embedding and gates as decoders spell them: one node each, one program, the same numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import qfx
from qfx.lowering.interpreter import interpret_integers

STATIC = {"": qfx.get_default_qconfig()}
DYNAMIC = {"": qfx.quantization.default_dynamic_qconfig}
HEADS, WIDTH, LENGTH = 4, 16, 6
X = torch.randn(2, LENGTH, HEADS * WIDTH, generator=torch.Generator().manual_seed(4))


def by_copy_of_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Llama."""
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], -1)
    return x * torch.cat([cos, cos], -1) + turned * torch.cat([sin, sin], -1)


def by_copy_of_neighbours(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """GPT-J."""
    turned = torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
    cos, sin = (torch.stack([angle, angle], -1).flatten(-2) for angle in (cos, sin))
    return turned * sin + x * cos


def by_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """GPT-OSS."""
    first, second = torch.chunk(x, 2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


def by_neighbours(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoFormer, in hand-written code."""
    first, second = x[..., 0::2], x[..., 1::2]
    return torch.stack([first * cos - second * sin, first * sin + second * cos], -1).flatten(-2)


def of_some(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Phi."""
    turned, rest = x[..., : WIDTH // 2], x[..., WIDTH // 2 :]
    return torch.cat([by_copy_of_halves(turned, cos[..., : WIDTH // 4], sin[..., : WIDTH // 4]), rest], -1)


class Decoder(nn.Module):
    """A block of a decoder; ``heads_first``: whether heads are turned behind their transpose."""

    def __init__(self, turn: Any, gate: Any = F.silu, *, heads_first: bool = True) -> None:
        super().__init__()
        torch.manual_seed(8)
        width = HEADS * WIDTH
        self.turn, self.gate, self.heads_first = turn, gate, heads_first
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.gates, self.up, self.down = nn.Linear(width, 96), nn.Linear(width, 96), nn.Linear(96, width)
        self.register_buffer("speeds", 0.7 ** torch.arange(WIDTH // 2))

    def forward(self, x: Tensor) -> Tensor:
        angles = torch.arange(LENGTH)[:, None] * self.speeds
        angles = angles if self.heads_first else angles[:, None]
        normed = self.norm1(x)
        q, k, v = (f(normed).unflatten(-1, (HEADS, WIDTH)) for f in (self.q, self.k, self.v))
        q, k = (self.turned(each, angles.cos(), angles.sin()) for each in (q, k))
        attended = F.scaled_dot_product_attention(q, k, v.transpose(1, 2), is_causal=True)
        x = x + self.o(attended.transpose(1, 2).flatten(2))
        normed = self.norm2(x)
        return x + self.down(self.gate(self.gates(normed)) * self.up(normed))

    def turned(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        if self.heads_first:
            return self.turn(x.transpose(1, 2), cos, sin)
        return self.turn(x, cos, sin).transpose(1, 2)


TURNS = [by_copy_of_halves, by_copy_of_neighbours, by_halves, by_neighbours, of_some]


@pytest.mark.parametrize("qconfigs", [STATIC, DYNAMIC], ids=["static", "dynamic"])
@pytest.mark.parametrize("heads_first", [True, False])
@pytest.mark.parametrize("turn", TURNS, ids=lambda turn: turn.__name__)
def test_every_spelling_is_one_node_in_one_program(turn: Any, heads_first: bool, qconfigs: Any) -> None:
    net = Decoder(turn, heads_first=heads_first).eval()
    model = qfx.quantize_fx(net, qconfigs, [X])
    ops = Counter(record.op for record in model.report)
    assert (ops["rotary"], ops["gated"], ops["neg"], ops["silu"], ops["sub"]) == (2, 1, 0, 0, 0)
    assert sum(part.executable is not None for part in model.compiled.segments) == 1
    assert torch.equal(model(X), interpret_integers(model.graph_module(), (X,)).output)
    with torch.no_grad():
        want, got = net(X), model(X)
    assert float(10 * torch.log10(want.square().sum() / (want - got).square().sum())) > 30


@pytest.mark.parametrize("gate", [F.silu, F.gelu, lambda x: F.gelu(x, approximate="tanh"), torch.sigmoid])
@pytest.mark.parametrize("qconfigs", [STATIC, DYNAMIC], ids=["static", "dynamic"])
def test_every_gate_is_one_node(gate: Any, qconfigs: Any) -> None:
    model = qfx.quantize_fx(Decoder(by_halves, gate).eval(), qconfigs, [X])
    assert [record.op for record in model.report].count("gated") == 1
    assert torch.equal(model(X), interpret_integers(model.graph_module(), (X,)).output)


class Squeezed(nn.Module):
    """A product with a gate that int8 layers read, and one that is broadcast."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.sigmoid(self.first(x)) * self.second(x)
        return self.last(torch.sigmoid(y.mean(-1, keepdim=True)) * y)


def test_gates_between_int8_layers_stay_in_int8() -> None:
    x = torch.randn(32, 16)
    model = qfx.quantize_fx(Squeezed().eval(), STATIC, [x])
    assert "gated" not in [record.op for record in model.report]
    assert [record.op for record in model.report.decided("int8")].count("mul") == 2
