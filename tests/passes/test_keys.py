"""Keys of attention less their mean: no probability changes but by rounding, and what their means cost is gone."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import qfx
from qfx.lowering.interpreter import interpret_integers

STATIC = {"": qfx.get_default_qconfig()}
DYNAMIC = {"": qfx.quantization.default_dynamic_qconfig}
X = torch.randn(3, 40, 32, generator=torch.Generator().manual_seed(2))


class Attending(nn.Module):
    """Attention whose keys have channels of large means, in a spelling of torch's or as two products."""

    def __init__(self, spelling: str, masked: bool) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.spelling, self.masked = spelling, masked
        self.q, self.k, self.v = (nn.Linear(32, 32) for _ in range(3))
        with torch.no_grad():
            self.k.bias[::8] = 60.0

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (2, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        mask = torch.zeros(40, 40).masked_fill(torch.ones(40, 40).triu(1).bool(), -torch.inf) if self.masked else None
        if self.spelling == "sdpa":
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
        scores = q @ k.transpose(-2, -1) / 4.0
        return ((scores if mask is None else scores + mask).softmax(-1) @ v).transpose(1, 2).flatten(2)


def error(want: Tensor, got: Tensor) -> float:
    return float((want - got).norm() / want.norm())


@torch.no_grad()
@pytest.mark.parametrize("qconfigs", [STATIC, DYNAMIC], ids=["static", "dynamic"])
@pytest.mark.parametrize("spelling", ["sdpa", "products"])
@pytest.mark.parametrize("masked", [False, True])
def test_means_of_keys_cost_nothing(qconfigs: Any, spelling: str, masked: bool) -> None:
    net = Attending(spelling, masked).eval()
    model: Any = qfx.quantize_fx(net, qconfigs, [X], smooth_keys=True)
    plain: Any = qfx.quantize_fx(net, qconfigs, [X])
    (record,) = [r for r in model.report if r.op == "attention"]
    assert any("less their mean" in reason for reason in record.reasons)
    assert not any("less their mean" in reason for r in plain.report for reason in r.reasons)
    assert error(net(X), model(X)) < error(net(X), plain(X)) / 3
    assert [part.executable is not None for part in model.compiled.segments] == [True]
    assert torch.equal(model(X), interpret_integers(model.graph_module(), (X,)).output)
    assert torch.equal(model(X), torch.cat([model(x[None]) for x in X])), "no row depends on what others are there"


@torch.no_grad()
def test_only_attention_on_integers_is_changed() -> None:
    net = Attending("sdpa", masked=False).eval()
    left = {"": qfx.get_default_qconfig(), "object_type": [(F.scaled_dot_product_attention, None)]}
    model = qfx.quantize_fx(net, left, [X], smooth_keys=True)
    assert not any(record.op in ("mean", "sub") for record in model.report)


class Itself(nn.Module):
    """Attention of a value to itself, twice."""

    def forward(self, x: Tensor) -> Tensor:
        attend = partial(F.scaled_dot_product_attention, scale=0.25)
        return attend(x, x, x) + attend(x + 1.0, x, x)


@torch.no_grad()
def test_queries_and_values_stay_and_keys_that_two_read_are_changed_once() -> None:
    x = X.unflatten(-1, (2, 16)).transpose(1, 2) + 30.0
    model = qfx.quantize_fx(Itself(), DYNAMIC, [x], smooth_keys=True)
    assert [record.op for record in model.report].count("mean") == 1
    assert error(Itself()(x), model(x)) < 0.01
