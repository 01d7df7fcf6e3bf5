"""Adaptive rounding: integers for the least output error, against an exhaustive search and against plain rounding."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import qfx
from qfx.passes.rounding import round_adaptively, shrink
from qfx.passes.weights import QuantizedWeight, quantize_weight
from qfx.quantization.observer import PerChannelMinMaxObserver
from qfx.runtime import _C

DEFAULT = {"": qfx.get_default_qconfig()}


def nearest(weight: Tensor, bits: int = 8) -> QuantizedWeight:
    limits = {"quant_min": -(2 ** (bits - 1)), "quant_max": 2 ** (bits - 1) - 1}
    observer = PerChannelMinMaxObserver(dtype=qfx.qint8, qscheme=qfx.per_channel_symmetric, ch_axis=0, **limits)
    return quantize_weight(weight, observer)


def moments_of(samples: Tensor) -> Tensor:
    """``[G, n, K]`` to ``[G, K, K]``."""
    return samples.transpose(1, 2) @ samples / samples.shape[1]


def correlated(groups: int, length: int, samples: int = 400) -> Tensor:
    mixing = torch.randn(groups, length, length) * 0.3 + 1.0
    return torch.randn(groups, samples, length) @ mixing


def output_error(weight: Tensor, rounded: QuantizedWeight, samples: Tensor) -> Tensor:
    """Mean square output error of each channel, float64 ``[O]``."""
    error = (weight.double() - rounded.dequantized().double()).reshape(samples.shape[0], -1, samples.shape[2])
    return (samples.double() @ error.transpose(1, 2)).square().mean(1).flatten()


def test_no_single_change_of_an_integer_improves_what_it_chose() -> None:
    torch.manual_seed(0)
    weight, samples = torch.randn(8, 5), correlated(1, 5)
    plain, best = nearest(weight, bits=4), round_adaptively(weight, nearest(weight, bits=4), moments_of(samples), 400)
    error = output_error(weight, best, samples)
    assert (error <= output_error(weight, plain, samples) * (1 + 1e-6)).all()
    assert (error < 0.5 * output_error(weight, plain, samples)).any()
    for i, step in itertools.product(range(5), (-1, 1)):
        values = best.values.clone()
        values[:, i] = (values[:, i] + step).clamp(-8, 7)
        changed = QuantizedWeight(values, best.scale, best.zero_point, best.axis, -8, 7)
        # The objective it descends on is shrunk by 1 % towards a multiple of the identity.
        assert (output_error(weight, changed, samples) >= 0.9 * error).all()


def test_it_comes_near_the_best_of_all_integers() -> None:
    torch.manual_seed(1)
    weight, samples = torch.randn(6, 4), correlated(1, 4)
    best = round_adaptively(weight, nearest(weight, bits=3), moments_of(samples), 400)
    found = output_error(weight, best, samples)
    optimum = torch.full_like(found, float("inf"))
    for codes in itertools.product(range(-4, 4), repeat=4):
        values = torch.tensor(codes, dtype=torch.int8).expand(6, 4)
        candidate = QuantizedWeight(values, best.scale, best.zero_point, best.axis, -4, 3)
        optimum = torch.minimum(optimum, output_error(weight, candidate, samples))
    plain = output_error(weight, nearest(weight, bits=3), samples)
    assert (found.sum() - optimum.sum()) < 0.25 * (plain.sum() - optimum.sum())


def test_inputs_that_do_not_go_together_leave_the_nearest_integers() -> None:
    torch.manual_seed(2)
    weight = torch.randn(4, 3, 3, 3)
    diagonal = torch.diag(torch.rand(27) + 0.1).unsqueeze(0)
    assert torch.equal(round_adaptively(weight, nearest(weight), diagonal, 1000).values, nearest(weight).values)


def test_inputs_that_are_always_zero_leave_the_nearest_integers() -> None:
    torch.manual_seed(3)
    weight = torch.randn(4, 1, 3, 3)
    kept = round_adaptively(weight, nearest(weight), torch.zeros(4, 9, 9), 10)
    assert torch.equal(kept.values, nearest(weight).values)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_integers_stay_in_the_range_of_the_observer(bits: int) -> None:
    torch.manual_seed(4)
    weight, samples = torch.randn(6, 4, 3), correlated(1, 12)
    values = round_adaptively(weight, nearest(weight, bits), moments_of(samples), 400).values
    assert int(values.min()) >= -(2 ** (bits - 1))
    assert int(values.max()) <= 2 ** (bits - 1) - 1


def test_affine_weights_keep_their_zero_points() -> None:
    torch.manual_seed(5)
    weight, samples = torch.rand(4, 6) + 0.5, correlated(1, 6)
    observer = PerChannelMinMaxObserver(dtype=qfx.qint8, qscheme=qfx.per_channel_affine, ch_axis=0)
    plain = quantize_weight(weight, observer)
    best = round_adaptively(weight, plain, moments_of(samples), 400)
    assert int(plain.zero_point.abs().max()) > 0
    assert torch.equal(best.zero_point, plain.zero_point)
    assert (output_error(weight, best, samples) <= output_error(weight, plain, samples) * (1 + 1e-6)).all()


def test_the_number_of_threads_does_not_change_the_integers() -> None:
    torch.manual_seed(6)
    target = (torch.randn(3, 21, 40) * 20).numpy()
    moments = (moments_of(correlated(3, 40)) + torch.eye(40)).contiguous().numpy()
    results = []
    for threads in (1, 2, 5):
        codes = np.rint(target).clip(-128, 127).astype(np.int8)
        _C.round_to_moments(target, moments, codes, -128, 127, threads)
        results.append(codes)
    assert (results[0] == results[1]).all()
    assert (results[0] == results[2]).all()
    assert (results[0] != np.rint(target).clip(-128, 127)).any()


def test_arrays_that_do_not_fit_together_are_refused() -> None:
    target, codes = np.zeros((1, 2, 3), np.float32), np.zeros((1, 2, 3), np.int8)
    with pytest.raises(ValueError, match="moments"):
        _C.round_to_moments(target, np.zeros((1, 2, 3), np.float32), codes, -128, 127, 1)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(6, 8, 3, stride=2, padding=1),
        nn.Conv2d(6, 6, 3, padding=1, groups=6),
        nn.Conv2d(6, 8, 3, padding=2, dilation=2, groups=2, bias=False),
        nn.Conv1d(6, 8, 5, padding=2),
        nn.Conv3d(6, 4, 3, padding=1),
        nn.Linear(6, 8),
    ],
    ids=str,
)
def test_layers_lose_less_than_with_nearest_integers(layer: Any) -> None:
    torch.manual_seed(7)
    layer.reset_parameters()
    spatial = {nn.Conv1d: (64,), nn.Conv2d: (16, 16), nn.Conv3d: (6, 6, 6)}.get(type(layer), ())
    shared = torch.rand(32, 1, *(1 for _ in spatial))
    x = shared + 0.2 * torch.rand(32, 6, *spatial)
    weight = qfx.default_per_channel_weight_observer.with_args(quant_min=-8, quant_max=7)
    qconfig = {"": qfx.QConfig(qfx.MinMaxObserver, weight)}
    net = nn.Sequential(layer).eval()
    with torch.no_grad():
        want = net(x)
    errors = {}
    for adaptive in (False, True):
        model = qfx.quantize_fx(net, qconfig, [x], adaptive_rounding=adaptive)
        errors[adaptive] = float((model(x) - want).square().mean())
    assert errors[True] < 0.8 * errors[False]


def test_a_weight_that_is_used_twice_is_rounded_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(F.relu(self.conv(x)))

    torch.manual_seed(8)
    model = qfx.quantize_fx(Twice(), DEFAULT, [torch.randn(8, 3, 8, 8)])
    assert sum(name.endswith("weight") for name in model.state_dict()) == 1


def test_without_it_every_weight_is_its_nearest_integer() -> None:
    torch.manual_seed(9)
    net = nn.Sequential(nn.Conv2d(3, 8, 3)).eval()
    x = torch.rand(8, 1, 10, 10).expand(8, 3, 10, 10).contiguous()
    weights = {on: qfx.quantize_fx(net, DEFAULT, [x], adaptive_rounding=on).get_submodule("0").weight for on in (0, 1)}
    assert torch.equal(weights[0], nearest(net[0].weight).values)
    assert not torch.equal(weights[0], weights[1])


def test_without_bias_correction_the_mean_error_counts_as_well() -> None:
    """Moments about zero then: a drift of the mean output counts, for no bias takes it back."""
    torch.manual_seed(10)
    layer = nn.Linear(16, 256)
    x = torch.rand(512, 16) + 2.0
    weight = qfx.default_per_channel_weight_observer.with_args(quant_min=-8, quant_max=7)
    drift = {}
    for adaptive in (False, True):
        model = qfx.quantize_fx(
            nn.Sequential(layer),
            {"": qfx.QConfig(qfx.MinMaxObserver, weight)},
            [x],
            bias_correction=False,
            adaptive_rounding=adaptive,
        )
        stored = model.get_submodule("0")
        error = layer.weight.detach() - stored.weight * stored.weight_scale[:, None]
        drift[adaptive] = float((error @ x.mean(0)).abs().mean())
    # In steps of the scale a row's rounding errors add up to 0.9 on average; descent leaves at most 0.5, so 0.25.
    assert drift[True] < 0.4 * drift[False]


def test_moments_of_few_samples_are_shrunk_more() -> None:
    torch.manual_seed(11)
    off_diagonal = []
    for samples in (4, 64, 4096):
        moments = moments_of(torch.randn(1, samples, 16))
        shrunk = shrink(moments, samples)
        assert torch.allclose(shrunk.diagonal(dim1=1, dim2=2).sum(), moments.diagonal(dim1=1, dim2=2).sum(), rtol=1e-5)
        off_diagonal.append(float(shrunk[0, 0, 1:].norm() / moments[0, 0, 1:].norm()))
    assert off_diagonal[0] < 0.5
    correlated_moments = moments_of(correlated(1, 16, samples=4096))
    assert torch.allclose(shrink(correlated_moments, 4096), correlated_moments, rtol=0.02, atol=0.02 * 16)
