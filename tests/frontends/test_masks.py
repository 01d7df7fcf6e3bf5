"""Attention with masks, whatever they are made of: on integers, as one step of the program."""

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
    assert kinds.count(("attention", "int8")) == 1
    assert not {"matmul", "softmax"} & {op for op, _ in kinds}
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
    assert kinds.count(("attention", "int8")) == 1
    assert sum(part.executable is not None for part in quantized.compiled.segments) == 1
    with torch.no_grad():
        assert sqnr(net(X), quantized(X)) > 30
        shorter = X[:1, :3]
        assert sqnr(net(shorter), quantized(shorter)) > 30
    changed = X.clone()
    changed[:, -1] = 3.0
    assert torch.equal(quantized(changed)[:, :-1], quantized(X)[:, :-1])
    assert torch.equal(quantized(X), interpret_integers(quantized.graph_module(), (X,)).output)


@pytest.mark.parametrize("kind", ["numbers", "constant", "of the input"])
def test_a_row_without_anything_to_attend_to_is_what_torch_makes_of_it(kind: str) -> None:
    net = Masked(kind).eval()
    net.mask[2] = torch.finfo(torch.float32).min if kind == "numbers" else False
    quantized = qfx.quantize_fx(net, DEFAULT, [X])
    with torch.no_grad():
        assert sqnr(net(X)[:, 2], quantized(X)[:, 2]) > 30
    assert torch.equal(quantized(X), interpret_integers(quantized.graph_module(), (X,)).output)


class Spelled(nn.Module):
    """Attention as products and a softmax, in the ways that code has it."""

    def __init__(self, attend: Any) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.attend, self.q, self.k, self.v, self.out = attend, *(nn.Linear(16, 16) for _ in range(4))
        self.register_buffer("bias", torch.randn(4, 7, 7))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (4, 4)).transpose(1, 2) for f in (self.q, self.k, self.v))
        return self.out(self.attend(q, k, v, self.bias).transpose(1, 2).flatten(2))


def _by_bmm(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    q, k, v = (part.flatten(0, 1) for part in (q, k, v))
    return torch.bmm(torch.bmm(q / 2, k.transpose(1, 2)).softmax(2), v).unflatten(0, (-1, 4))


FORMS: dict[str, Any] = {
    "scaled query": lambda q, k, v, bias: ((q * 0.5) @ k.mT).softmax(-1) @ v,
    "scaled scores": lambda q, k, v, bias: torch.softmax(torch.matmul(q, k.transpose(-1, -2)) / 2.0, dim=-1) @ v,
    "bias": lambda q, k, v, bias: ((q @ k.mT) * 0.5 + bias).softmax(-1) @ v,
    "bias first": lambda q, k, v, bias: (bias + q @ k.mT).softmax(-1) @ v,
    "two masks": lambda q, k, v, bias: ((q @ k.mT) * 0.5 + bias + bias[0].clamp(max=0.0)).softmax(-1) @ v,
    "dropout": lambda q, k, v, bias: F.dropout((q @ k.mT).softmax(-1), 0.1, training=False) @ v,
    "einsum": lambda q, k, v, bias: torch.einsum(
        "bhij,bhjd->bhid", torch.einsum("bhid,bhjd->bhij", q, k).softmax(-1), v
    ),
    "bmm": _by_bmm,
}


@pytest.mark.parametrize("form", FORMS)
def test_attention_that_is_spelled_out_is_found(form: str) -> None:
    net = Spelled(FORMS[form]).eval()
    quantized = qfx.quantize_fx(net, DEFAULT, [X])
    kinds = [(r.op, r.decision) for r in quantized.report]
    assert kinds.count(("attention", "int8")) == 1
    assert not {"matmul", "softmax"} & {op for op, _ in kinds}
    assert sum(part.executable is not None for part in quantized.compiled.segments) == 1
    with torch.no_grad():
        assert sqnr(net(X), quantized(X)) > 30
    assert torch.equal(quantized(X), interpret_integers(quantized.graph_module(), (X,)).output)


def _probabilities_are_read(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    p = (q @ k.mT).softmax(-1)
    return p @ v + p.mean()


NEAR_MISSES: dict[str, Any] = {
    "probabilities are read": _probabilities_are_read,
    "softmax of columns": lambda q, k, v, bias: (q @ k.mT).softmax(-2) @ v,
    "relu of scores": lambda q, k, v, bias: (q @ k.mT).relu().softmax(-1) @ v,
    "scores of more batches": lambda q, k, v, bias: ((q[:, :1] @ k[:, :1].mT) + bias).softmax(-1) @ v,
}


@pytest.mark.parametrize("form", NEAR_MISSES)
def test_what_looks_like_attention_is_left(form: str) -> None:
    net = Spelled(NEAR_MISSES[form]).eval()
    quantized = qfx.quantize_fx(net, DEFAULT, [X])
    assert not [r for r in quantized.report if r.op == "attention"]
    with torch.no_grad():
        assert sqnr(net(X), quantized(X)) > 25


class Broadcast(nn.Module):
    """Attention whose operands have batches or heads of length 1, or fewer dims, as learned queries have."""

    def __init__(self, attend: Any) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.attend, self.layer, self.out = attend, nn.Linear(16, 16), nn.Linear(4, 4)
        self.learned = nn.Parameter(torch.randn(1, 4, 3, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.attend(self.learned, self.layer(x).unflatten(-1, (4, 4)).transpose(1, 2)))


BROADCAST: dict[str, Any] = {
    "one batch of queries": lambda p, h: F.scaled_dot_product_attention(p, h, h),
    "one batch of keys": lambda p, h: F.scaled_dot_product_attention(h, p, p),
    "keys of fewer dims": lambda p, h: F.scaled_dot_product_attention(h, p[0], p[0]),
    "one head of queries": lambda p, h: F.scaled_dot_product_attention(h[:, :1], h, h),
    "one head of keys": lambda p, h: F.scaled_dot_product_attention(h, h[:, :1], h),
    "one head of values": lambda p, h: F.scaled_dot_product_attention(h, h, h[:, :1]),
    "one head of both": lambda p, h: F.scaled_dot_product_attention(h, h[:, :1], h[:, :1]),
    "spelled, one batch": lambda p, h: (p @ h.mT).softmax(-1) @ h,
    "spelled, one batch and head of values": lambda p, h: (h @ h.mT).softmax(-1) @ h[:1, :1],
    "spelled, more heads of values": lambda p, h: (h[:, :1] @ h[:, :1].mT).softmax(-1) @ h,
}


@pytest.mark.parametrize("form", BROADCAST)
def test_operands_of_attention_broadcast(form: str) -> None:
    net = Broadcast(BROADCAST[form]).eval()
    shorter = torch.cat([X, X, X])[:, :5]
    quantized = qfx.quantize_fx(net, DEFAULT, [X, shorter])
    assert [r.decision for r in quantized.report if r.op == "attention"] == ["int8"]
    for x in (X, X[:1], shorter):
        with torch.no_grad():
            assert sqnr(net(x), quantized(x)) > 30
        assert torch.equal(quantized(x), interpret_integers(quantized.graph_module(), (x,)).output)


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"": None}, "its qconfig is None"),
        ({"": qfx.quantization.float16_dynamic_qconfig}, "keeps activations in float"),
        ({"": DEFAULT[""], "object_type": [(F.scaled_dot_product_attention, None)]}, "its qconfig is None"),
    ],
)
def test_attention_stays_float_where_the_qconfig_says_so(entry: dict[str, Any], why: str) -> None:
    net = Masked("of the input").eval()
    net.mask[2] = False
    quantized = qfx.quantize_fx(net, entry, [X])
    (record,) = [r for r in quantized.report if r.op == "attention"]
    assert record.decision == "float"
    assert why in record.reason
    with torch.no_grad():
        assert sqnr(net(X)[:, 2], quantized(X)[:, 2]) > 30
