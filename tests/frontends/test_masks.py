"""Attention with masks: added to the scores in float, whatever they are made of; products stay int8."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import qfx
from qfx.lowering.interpreter import interpret_integers

DEFAULT = {"": qfx.get_default_qconfig()}
X = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(4))


class Masked(nn.Module):
    """Self-attention; ``kind`` says what its mask is."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.kind, self.qkv, self.out = kind, nn.Linear(16, 48), nn.Linear(16, 16)
        lower = torch.ones(7, 7).tril().bool()
        self.register_buffer("mask", torch.where(lower, 0.0, -1e4) if kind == "numbers" else lower)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).reshape(-1, 7, 3, 4, 4).permute(2, 0, 3, 1, 4)
        mask = self.mask
        if self.kind == "computed":
            places = torch.arange(7)
            mask = places[:, None] >= places
        if self.kind == "of the input":
            mask = self.mask & (x.sum(-1) > -1e9)[:, None, None]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(y.transpose(1, 2).flatten(2))


def sqnr(want: Tensor, got: Tensor) -> float:
    return float(10 * torch.log10(want.square().sum() / (want - got).square().sum()))


class Decoder(nn.Module):
    """Causal self-attention; four heads of queries share two of keys and values. ``forward`` is the usual code."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.q, self.k, self.v, self.out = nn.Linear(16, 16), nn.Linear(16, 8), nn.Linear(16, 8), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.size()
        q, k, v = (f(x).view(b, t, -1, c // 4).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.out(y.transpose(1, 2).contiguous().view(b, t, c))


@pytest.mark.parametrize("frontend", ["symbolic", "export", "torchscript"])
@pytest.mark.parametrize("kind", ["numbers", "constant", "computed", "of the input"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_masked_attention_is_int8(kind: str, frontend: str) -> None:
    net: Any = Masked(kind).eval()
    quantized = qfx.quantize_fx(net, DEFAULT, [X], frontend=frontend)
    kinds = [(r.op, r.decision) for r in quantized.report]
    assert kinds.count(("matmul", "int8")) == 2
    assert ("softmax", "float") in kinds
    with torch.no_grad():
        assert sqnr(net(X), quantized(X)) > 30
    changed = X.clone()
    changed[:, -1] = 3.0  # the last token, which no other may attend to
    assert torch.equal(quantized(changed)[:, :-1], quantized(X)[:, :-1])
    assert torch.equal(quantized(X), interpret_integers(quantized.graph_module(), (X,)).output)


@pytest.mark.parametrize("frontend", ["symbolic", "export", "torchscript"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_causal_attention_is_one_int8_program(frontend: str) -> None:
    net: Any = Decoder().eval()
    given = torch.jit.trace(net, X) if frontend == "torchscript" else net
    quantized = qfx.quantize_fx(given, DEFAULT, [X], frontend=frontend)
    kinds = [(r.op, r.decision) for r in quantized.report]
    assert kinds.count(("matmul", "int8")) == 2
    assert ("causal_softmax", "float") in kinds
    assert sum(part.executable is not None for part in quantized.compiled.segments) == 1
    with torch.no_grad():
        assert sqnr(net(X), quantized(X)) > 30
        shorter = X[:1, :3]
        assert sqnr(net(shorter), quantized(shorter)) > 30
    changed = X.clone()
    changed[:, -1] = 3.0
    assert torch.equal(quantized(changed)[:, :-1], quantized(X)[:, :-1])
    assert torch.equal(quantized(X), interpret_integers(quantized.graph_module(), (X,)).output)


def test_a_row_without_anything_to_attend_to_is_no_nan() -> None:
    net = Masked("constant").eval()
    net.mask[2] = False
    assert qfx.quantize_fx(net, DEFAULT, [X])(X).isfinite().all()
