"""Weights, factors and activations far from 1: int8 is as accurate for them as for any others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import qfx

X = torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(5))
TINY = 2.0**-24


class Scaled(nn.Module):
    """A convolution whose input is divided by ``factor`` and whose result is multiplied by it."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.last, self.factor = nn.Conv2d(3, 8, 3, bias=False), nn.Conv2d(8, 8, 1), factor

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x * (1.0 / self.factor)) * self.factor)


class LayerScale(nn.Module):
    """A tiny gamma behind a convolution, and weights that make up for it."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1)
        self.gamma = nn.Parameter(torch.rand(8, 1, 1) * factor)
        self.last.weight.data /= factor

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) * self.gamma)


class SmallWeights(nn.Module):
    """Small weights and activations in the user's own model."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1)
        self.first.weight.data *= factor
        self.first.bias.data *= factor
        self.last.weight.data /= factor

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x)))


def quantized(model: nn.Module, name: str | None = None) -> qfx.QuantizedModel:
    return qfx.quantize_fx(model.eval(), {"": qfx.get_default_qconfig(name)}, [X])


@pytest.mark.parametrize("model", [Scaled, LayerScale, SmallWeights])
def test_a_power_of_two_changes_no_bit(model: type[nn.Module]) -> None:
    assert torch.equal(quantized(model(TINY))(X), quantized(model(1.0))(X))


@pytest.mark.parametrize("name", ["x86", "fbgemm", "onednn", "qnnpack"])
def test_a_factor_stays_an_op_where_a_named_qconfig_has_no_scale_for_its_product(name: str) -> None:
    """Names keep their smallest scale, so weights that would fall below it are not made."""
    plain, tiny = quantized(Scaled(1.0), name), quantized(Scaled(TINY), name)
    assert [r.op for r in plain.report] == ["conv", "conv"]
    assert [r.op for r in tiny.report] == ["mul_scalar", "conv", "mul_scalar", "conv"]
    with torch.no_grad():
        want = Scaled(1.0)(X)
    errors = [float((model(X) - want).square().sum()) for model in (plain, tiny)]
    # One more rounding to 8 bits, on the same grid but for the histogram's choice of range.
    assert errors[1] < 4 * errors[0]


def test_one_narrow_channel_is_folded_as_names_have_always_meant() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    model[1].weight.data[2] = 1e-12
    assert [r.op for r in quantized(model, "x86").report] == ["conv"]


@pytest.mark.parametrize("name", [None, "x86", "qnnpack"])
def test_a_batch_norm_whose_factors_are_all_zero_is_folded(name: str | None) -> None:
    """As training starts where the last batch norm of a residual branch is zero: nothing is lost, so nothing stays."""
    torch.manual_seed(2)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    nn.init.zeros_(net[1].weight)
    nn.init.uniform_(net[1].bias)
    model = qfx.quantize_fx(net, {"": qfx.get_default_qconfig(name)}, [X])
    assert [r.op for r in model.report] == ["conv", "conv"]
    assert torch.allclose(model(X), net(X), rtol=0, atol=0.02)
