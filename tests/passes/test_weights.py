"""Weights and biases to integers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import qfx
from qfx.ops import arithmetic
from qfx.passes import weights


def _per_channel(weight: torch.Tensor) -> weights.QuantizedWeight:
    return weights.quantize_weight(weight, qfx.default_per_channel_weight_observer())


def _per_tensor(weight: torch.Tensor) -> weights.QuantizedWeight:
    return weights.quantize_weight(weight, qfx.default_weight_observer())


@pytest.mark.parametrize("quantize", [_per_channel, _per_tensor])
def test_weights_are_within_half_a_step(quantize: object) -> None:
    weight = torch.randn(5, 3, 3, 3)
    rounded = quantize(weight)
    step = arithmetic.expand_channel(rounded.scale, rounded.axis, 4)
    assert rounded.values.dtype == torch.int8
    # The largest code times its scale is rounded to float32 once: 128 * 2**-24 of a step.
    assert bool(((rounded.dequantized() - weight).abs() <= step * (0.5 + 2**-16)).all())


def test_weights_must_be_qint8() -> None:
    with pytest.raises(qfx.ConversionError, match="qint8") as caught:
        weights.quantize_weight(torch.randn(2, 2), qfx.MinMaxObserver(dtype=qfx.quint8))
    assert caught.value.remedy


@settings(max_examples=30, deadline=None)
@given(groups=st.sampled_from([1, 2, 4]), dims=st.integers(0, 3), seed=st.integers(0, 99))
def test_the_bias_shift_is_what_rounding_takes_from_a_constant_input(groups: int, dims: int, seed: int) -> None:
    """On an input that is its mean everywhere, the layer's error is the shift: computed here by the layer itself."""
    generator = torch.Generator().manual_seed(seed)
    groups = groups if dims else 1
    weight = torch.randn(8, 4 // groups, *[2] * dims, generator=generator)
    mean = torch.randn(4, generator=generator).double()
    rounded = _per_channel(weight)
    error = weight.double() - rounded.dequantized().double()
    x = mean.reshape(1, 4, *[1] * dims).expand(1, 4, *[2] * dims)
    conv = {0: F.linear, 1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[dims]
    want = conv(x, error, groups=groups) if dims else conv(x, error)
    got = weights.bias_shift(weight, rounded, mean, groups)
    assert got.shape == (8,)
    assert torch.allclose(got, want.reshape(8), rtol=0, atol=2**-44)


def test_a_bias_that_fits_leaves_the_weight_alone() -> None:
    weight = torch.randn(3, 4)
    rounded = _per_channel(weight)
    assert weights.widen_for_bias(weight, rounded, torch.ones(3), torch.tensor(0.01)) is rounded


@pytest.mark.parametrize("quantize", [_per_channel, _per_tensor])
def test_a_bias_that_does_not_fit_widens_its_channel_only(quantize: object) -> None:
    weight, x_scale = torch.randn(3, 4), torch.tensor(2.0**-8)
    bias = torch.tensor([0.5, 1e9, -0.5])
    rounded = quantize(weight)
    wide = weights.widen_for_bias(weight, rounded, bias, x_scale)
    stored, unit = weights.quantize_bias(bias, x_scale, wide.scale)
    assert wide.axis == 0
    narrow = rounded.scale.expand(3)
    assert torch.equal(wide.scale[[0, 2]], narrow[[0, 2]])
    assert wide.scale[1] > narrow[1]
    assert int(stored.abs().max()) <= 2**30 * (1 + 2**-20)
    assert torch.allclose(stored.double() * unit.double(), bias.double(), rtol=2**-20, atol=float(unit[0]))
    assert torch.equal(wide.values[[0, 2]], rounded.values[[0, 2]])


def test_the_bias_is_in_units_of_both_scales() -> None:
    stored, unit = weights.quantize_bias(torch.tensor([1.0, -2.5]), torch.tensor(0.5), torch.tensor([0.25, 0.5]))
    assert stored.tolist() == [8, -10]
    assert unit.tolist() == [0.125, 0.25]
    assert stored.dtype == torch.int32


def _weight(values: torch.Tensor, zero: int = 0) -> weights.QuantizedWeight:
    return weights.QuantizedWeight(values.to(torch.int8), torch.tensor(1.0), torch.tensor(zero), None)


@pytest.mark.parametrize(("length", "fits"), [(66311, True), (66312, False)])
def test_a_sum_too_long_for_32_bits_is_refused(length: int, fits: bool) -> None:
    rounded = _weight(torch.full((1, length), 127))
    if fits:
        assert length * 127 * 255 <= 2**31 - 1
        weights.check_accumulator(rounded, None, "fc", None)
        return
    with pytest.raises(qfx.ConversionError) as caught:
        weights.check_accumulator(rounded, None, "fc", "net.py:1, in forward: fc(x)")
    assert (caught.value.where, caught.value.source) == ("fc", "net.py:1, in forward: fc(x)")
    assert caught.value.remedy


def test_bias_and_zero_point_count_in_the_sum() -> None:
    bias = torch.tensor([2**31 - 1 - 255], dtype=torch.int32)
    weights.check_accumulator(_weight(torch.ones(1, 1)), bias, "fc", None)
    for rounded, more in ((_weight(torch.ones(1, 1)), bias + 1), (_weight(torch.ones(1, 1), zero=-1), bias)):
        with pytest.raises(qfx.ConversionError):
            weights.check_accumulator(rounded, more, "fc", None)


def test_a_layer_that_got_too_long_after_it_was_prepared_is_refused_by_name() -> None:
    """Before that, annotation keeps such a layer float."""
    model = nn.Sequential(nn.Linear(70000, 1, bias=False))
    prepared = qfx.prepare_fx(model, {"": qfx.get_default_qconfig()}, torch.rand(1, 70000))
    prepared(torch.rand(1, 70000))
    nn.init.constant_(prepared.get_parameter("0.weight"), 1.0)
    with pytest.raises(qfx.ConversionError) as caught:
        qfx.convert_fx(prepared)
    assert caught.value.where == "0"
