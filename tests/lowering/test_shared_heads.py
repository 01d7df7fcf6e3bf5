"""Heads of keys and values that several heads of queries share: read as they are, with the bits of repeated ones."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import qfx
from qfx.lowering.interpreter import interpret_integers
from qfx.runtime import isa_names

DYNAMIC = {"": qfx.default_dynamic_qconfig}
HEADS, WIDTH = 6, 8
X = torch.randn(3, 21, 32, generator=torch.Generator().manual_seed(4))


def in_one_call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


def repeat(x: Tensor, times: int) -> Tensor:
    """As Llama, Mistral, Qwen and Gemma spell it."""
    batch, heads, rows, width = x.shape
    return x[:, :, None, :, :].expand(batch, heads, times, rows, width).reshape(batch, heads * times, rows, width)


def repeated(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, repeat(k, 3), repeat(v, 3), is_causal=True)


def interleaved(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    k, v = (x.repeat_interleave(3, 1) for x in (k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def flattened(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    k, v = (x.unsqueeze(2).expand(-1, -1, 3, -1, -1).flatten(1, 2) for x in (k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def spelled_out(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ repeat(k, 3).transpose(2, 3) * WIDTH**-0.5
    return torch.softmax(scores + torch.full((21, 21), -1e4).triu(1), -1) @ repeat(v, 3)


SPELLINGS = [in_one_call, repeated, interleaved, flattened, spelled_out]


class Block(nn.Module):
    """Attention of six heads of queries; ``shared``: two of keys and values in place of six."""

    def __init__(self, attend: Callable[..., Tensor], shared: int = 2) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.attend, self.shared = attend, shared
        self.norm, self.q, self.o = nn.LayerNorm(32), nn.Linear(32, HEADS * WIDTH), nn.Linear(HEADS * WIDTH, 32)
        self.k, self.v = nn.Linear(32, shared * WIDTH), nn.Linear(32, shared * WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        q = self.q(y).unflatten(-1, (HEADS, WIDTH)).transpose(1, 2)
        k, v = (f(y).unflatten(-1, (self.shared, WIDTH)).transpose(1, 2) for f in (self.k, self.v))
        return self.o(self.attend(q, k, v).transpose(1, 2).flatten(2))


def with_heads_of_their_own(net: Block, attend: Callable[..., Tensor]) -> Block:
    """The same network with each head of keys and values as often in the layers' weights as it is read."""
    made, state = Block(attend, HEADS), net.state_dict()
    for name in ("k.weight", "k.bias", "v.weight", "v.bias"):
        state[name] = state[name].unflatten(0, (2, WIDTH)).repeat_interleave(HEADS // 2, 0).flatten(0, 1)
    made.load_state_dict(state)
    return made.eval()


def whole(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def steps(model: Any) -> set[str]:
    (part,) = model.explain().parts
    return {step.op for step in part.steps}


@pytest.mark.parametrize("attend", SPELLINGS, ids=lambda f: f.__name__)
def test_shared_heads_are_not_repeated(attend: Callable[..., Tensor]) -> None:
    net = Block(attend).eval()
    model = qfx.quantize_fx(net, DYNAMIC, example_inputs=(X,))
    ops = [record.op for record in model.report]
    assert (ops.count("attention"), ops.count("expand")) == (1, 0)
    assert "expand" not in steps(model)
    assert torch.equal(model(X), interpret_integers(model.graph_module(), (X,)).output)
    with torch.no_grad():
        assert float((model(X) - net(X)).square().sum() / net(X).square().sum()) < 1e-3


@pytest.mark.parametrize("attend", [in_one_call, repeated], ids=lambda f: f.__name__)
def test_bits_are_those_of_heads_of_their_own(attend: Callable[..., Tensor]) -> None:
    net = Block(attend).eval()
    model = qfx.quantize_fx(net, DYNAMIC, example_inputs=(X,))
    other = qfx.quantize_fx(with_heads_of_their_own(net, whole), DYNAMIC, example_inputs=(X,))
    expected, file = other(X), io.BytesIO()
    qfx.save(model, file)
    for isa in isa_names():
        assert torch.equal(qfx.load(io.BytesIO(file.getvalue()), isa=isa)(X), expected)
    for size in (1, 2):
        assert torch.equal(model(X[:size]), expected[:size])
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert torch.equal(model(X), expected)
    finally:
        torch.set_num_threads(threads)


def tiled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Heads in turn, not each several times in a row."""
    k, v = (x[:, None].expand(-1, 3, -1, -1, -1).flatten(1, 2) for x in (k, v))
    return whole(q, k, v)


def keys_alone(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return whole(q, repeat(k, 3), torch.cat([v, v, v], 1))


@pytest.mark.parametrize("attend", [tiled, keys_alone], ids=lambda f: f.__name__)
def test_other_repetitions_stay(attend: Callable[..., Tensor]) -> None:
    net = Block(attend).eval()
    model = qfx.quantize_fx(net, DYNAMIC, example_inputs=(X,))
    assert "expand" in [record.op for record in model.report]
    with torch.no_grad():
        assert float((model(X) - net(X)).square().sum() / net(X).square().sum()) < 1e-3


def test_attention_in_float_repeats_them_itself() -> None:
    net = Block(repeated).eval()
    kept = {**DYNAMIC, "object_type": [(F.scaled_dot_product_attention, None)]}
    model = qfx.quantize_fx(net, kept, example_inputs=(X,))
    assert [r.decision for r in model.report if r.op == "attention"] == ["float"]
    with torch.no_grad():
        assert float((model(X) - net(X)).square().sum() / net(X).square().sum()) < 1e-3
