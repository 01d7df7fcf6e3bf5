"""Channels scaled in front of a rotation: which are, that they change nothing but rounding, and what they gain."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import qfx
from qfx.distributed.merge import merged
from qfx.lowering.interpreter import interpret_integers
from qfx.passes.smoothing import STRENGTHS
from qfx.quantization.observer.channel_sample import KEPT, ChannelSample

STATIC = {"": qfx.get_default_qconfig()}
DYNAMIC = {"": qfx.quantization.default_dynamic_qconfig}
WIDTH, HIDDEN, OUTLIERS = 128, 256, [3, 17, 70]
X = torch.randn(24, 16, WIDTH, generator=torch.Generator().manual_seed(2))
BATCHES = [(batch,) for batch in X.split(8)]


class Block(nn.Module):
    """A block of a decoder whose normalizations and gates have outlier channels."""

    def __init__(self, norm: Any = nn.RMSNorm, **given: Any) -> None:
        super().__init__()
        torch.manual_seed(8)
        self.norm1, self.norm2 = norm(WIDTH, **given), norm(WIDTH, **given)
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.gate, self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)
        with torch.no_grad():
            for each in (self.norm1, self.norm2):
                if each.weight is not None:
                    each.weight[OUTLIERS] = 60.0
            for layer in (self.q, self.k, self.v, self.gate, self.up):
                layer.weight[:, OUTLIERS] /= 20.0
            self.up.weight[OUTLIERS] *= 40.0
            self.down.weight[:, OUTLIERS] /= 20.0

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (4, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        return self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x))
        y = self.norm2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class PostNorm(Block):
    """Whose normalizations are read by residuals, too."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x)
        x = self.norm2(x + self.attend(x))
        return x + self.down(F.gelu(self.gate(x)))


def sqnr(want: Tensor, got: Tensor) -> float:
    return float(10 * torch.log10(want.square().sum() / (want - got).square().sum()))


def scaled(model: Any) -> set[str]:
    return {r.module_path for r in model.report if any("scaled with strength" in reason for reason in r.reasons)}


@pytest.mark.parametrize("qconfigs", [STATIC, DYNAMIC], ids=["static", "dynamic"])
@pytest.mark.parametrize("norm", [nn.RMSNorm, nn.LayerNorm])
def test_layers_behind_norms_and_gates_read_scaled_channels(norm: Any, qconfigs: Any) -> None:
    net = Block(norm).eval()
    model = qfx.quantize_fx(net, qconfigs, BATCHES)
    assert scaled(model) == {"q", "k", "v", "gate", "up", "down"}
    assert torch.equal(model(X), interpret_integers(model.graph_module(), (X,)).output)
    plain = qfx.quantize_fx(net, qconfigs, BATCHES, smoothing=False)
    assert not scaled(plain)
    assert model.state_dict().keys() == plain.state_dict().keys()
    with torch.no_grad():
        assert sqnr(net(X), model(X)) > sqnr(net(X), plain(X)) + 0.5


@pytest.mark.parametrize("rare", [1, 4])
def test_a_rare_token_of_another_size_loses_nothing(rare: int) -> None:
    x = torch.randn(16, 64, WIDTH, generator=torch.Generator().manual_seed(5))
    x[:rare, 5] *= 0.05
    x[:rare, 5, OUTLIERS[0]] = 40.0  # of all, one in 1,024 or 256
    net = Block().eval()
    worst = []
    with torch.no_grad():
        want = net(x)[:rare, 5]
        for smoothing in (True, False):
            model = qfx.quantize_fx(net, STATIC, x.split(4), smoothing=smoothing)
            assert bool(scaled(model)) == smoothing
            worst.append(((model(x)[:rare, 5] - want).norm(dim=-1) / want.norm(dim=-1)).max())
    assert worst[0] <= worst[1]


def test_a_norm_without_weights_gets_some() -> None:
    net = Block(nn.RMSNorm, elementwise_affine=False).eval()
    with torch.no_grad():
        x = X.clone()
        x[..., OUTLIERS] *= 60.0
        model = qfx.quantize_fx(net, DYNAMIC, [x])
        assert scaled(model) >= {"q", "gate"}
        assert sqnr(net(x), model(x)) > 30


def test_without_data_there_are_no_factors() -> None:
    assert not scaled(qfx.quantize_fx(Block().eval(), DYNAMIC, example_inputs=(X,)))
    assert not scaled(qfx.quantize_fx(Block().eval(), DYNAMIC, [X], rotation=False))


def test_what_something_else_reads_stays() -> None:
    model = qfx.quantize_fx(PostNorm().eval(), STATIC, BATCHES)
    assert not scaled(model)
    assert any("rotated" in reason for r in model.report for reason in r.reasons)


def test_a_prepared_model_converts_twice_to_the_same() -> None:
    prepared = qfx.prepare_fx(Block().eval(), STATIC, (X,))
    with torch.no_grad():
        prepared(X)
    first, second = qfx.convert_fx(prepared), qfx.convert_fx(prepared)
    assert scaled(first)
    assert torch.equal(first(X), second(X))


def test_no_data_of_the_model_is_changed() -> None:
    net = Block().eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    qfx.quantize_fx(net, STATIC, BATCHES)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_strength_is_one_that_is_tried() -> None:
    model = qfx.quantize_fx(Block().eval(), DYNAMIC, BATCHES)
    found = {reason.rpartition(" ")[2] for r in model.report for reason in r.reasons if "strength" in reason}
    assert found
    assert found <= {str(strength) for strength in STRENGTHS}


# ---------------------------------------------------------------- the sample


def test_a_sample_knows_the_largest_of_each_channel_and_keeps_rows_of_the_data() -> None:
    sample, x = ChannelSample(), torch.randn(3, 400, 5)
    for batch in x:
        assert sample(batch) is batch
    rows = x.reshape(-1, 5)
    assert torch.equal(sample.largest, rows.abs().amax(0))
    found = sample.sampled()
    places = (found[:, None] == rows).all(-1).int().argmax(1)
    assert torch.equal(rows[places], found)
    assert len(set(places.tolist())) == len(found) == KEPT
    assert [int(((places >= 400 * i) & (places < 400 * (i + 1))).sum()) for i in range(3)] == pytest.approx(
        [KEPT / 3] * 3, abs=2
    )


def test_few_rows_are_all_kept() -> None:
    sample, x = ChannelSample(), torch.randn(2, 7, 5)
    assert len(sample.sampled()) == 0
    sample(x)
    assert sorted(sample.sampled().tolist()) == sorted(x.reshape(-1, 5).tolist())


def test_samples_of_several_processes_are_one() -> None:
    parts, x = [ChannelSample(), ChannelSample()], torch.randn(2, 300, 5)
    for part, batch in zip(parts, x, strict=True):
        part(batch)
    whole = ChannelSample()
    whole.load_state_dict(merged(whole, [dict(part.named_buffers()) for part in parts]))
    assert torch.equal(whole.largest, x.abs().amax((0, 1)))
    assert len(whole.sampled()) == KEPT
    assert int(whole.count) == 600
