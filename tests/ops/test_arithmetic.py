"""The arithmetic against rational numbers."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st

from qfx.ops import arithmetic
from qfx.ops.qdq.dynamic import dynamic_qparams, requantize_dynamic

floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
scales = st.floats(2.0**-60, 2.0**60, width=32)
zero_points = st.integers(0, 255)


def fraction_quantize(x: float, scale: float, zero_point: int, qmin: int = 0, qmax: int = 255) -> int:
    return max(qmin, min(qmax, round(Fraction(x) / Fraction(scale)) + zero_point))


def quantize(x: float, scale: float, zero_point: int) -> int:
    return int(arithmetic.quantize(torch.tensor(x), torch.tensor(scale), torch.tensor(zero_point), 0, 255))


@given(floats, scales, zero_points)
@example(0.5, 1.0, 0)
@example(1.5, 1.0, 0)
@example(-0.5, 1.0, 128)
@example(0.3499999940395355, 0.10000000149011612, 0)  # a float32 quotient would be a tie
def test_quantize_equals_the_rational(x: float, scale: float, zero_point: int) -> None:
    assert quantize(x, scale, zero_point) == fraction_quantize(x, scale, zero_point)


@given(st.integers(-300, 300), scales, zero_points)
def test_quantize_rounds_ties_to_even(n: int, scale: float, zero_point: int) -> None:
    x = (n + 0.5) * scale
    assume(float(np.float32(x)) == x)
    assert quantize(x, scale, zero_point) == fraction_quantize(x, scale, zero_point)


@given(floats, floats, scales, zero_points)
def test_quantize_is_monotone(a: float, b: float, scale: float, zero_point: int) -> None:
    low, high = sorted((a, b))
    assert quantize(low, scale, zero_point) <= quantize(high, scale, zero_point)


@given(zero_points, scales)
def test_quantize_of_special_values(zero_point: int, scale: float) -> None:
    x = torch.tensor([float("nan"), float("inf"), float("-inf"), 0.0, -0.0])
    q = arithmetic.quantize(x, torch.tensor(scale), torch.tensor(zero_point), 0, 255)
    assert q.tolist() == [zero_point, 255, 0, zero_point, zero_point]


@given(st.integers(0, 255), zero_points, scales)
def test_dequantize_is_one_float32_product_and_quantize_undoes_it(q: int, zero_point: int, scale: float) -> None:
    x = arithmetic.dequantize(torch.tensor(q), torch.tensor(scale), torch.tensor(zero_point))
    assert x.dtype == torch.float32
    assert np.float32(x.item()) == np.float32(q - zero_point) * np.float32(scale)
    assert quantize(float(x), scale, zero_point) == q


@given(floats, zero_points, st.integers(0, 255), st.integers(0, 255))
@example(0.5, 0, 0, 255)
@example(-2.5, 10, 0, 255)
@example(3.0e38, 255, 0, 255)
def test_requantize_equals_the_rational(v: float, zero_point: int, a: int, b: int) -> None:
    lo, hi = sorted((a, b))
    got = int(arithmetic.requantize(torch.tensor(v), zero_point, lo, hi))
    assert got == max(lo, min(hi, round(Fraction(v)) + zero_point))


@given(floats, floats, zero_points)
def test_requantize_is_monotone(a: float, b: float, zero_point: int) -> None:
    low, high = sorted((a, b))
    got = arithmetic.requantize(torch.tensor([low, high]), zero_point, 0, 255)
    assert int(got[0]) <= int(got[1])


@given(scales, scales, scales)
def test_multipliers_are_within_two_roundings(x: float, w: float, y: float) -> None:
    exact = Fraction(x) * Fraction(w) / Fraction(y)
    assume(Fraction(2) ** -126 <= exact < Fraction(2) ** 127)
    got = arithmetic.multiplier(torch.tensor(x), torch.tensor(w), torch.tensor(y))
    assert got.dtype == torch.float32
    # x * w is exact in float64; the division rounds by 2**-53 and the result by 2**-24.
    assert abs(Fraction(float(got)) - exact) <= exact * (Fraction(1, 2**24) + Fraction(1, 2**52))


@given(scales, scales)
def test_ratio_is_the_nearest_float32(x: float, y: float) -> None:
    got = float(arithmetic.ratio(torch.tensor(x), torch.tensor(y)))
    exact = Fraction(x) / Fraction(y)
    around = np.float32(got)
    for other in (np.nextafter(around, np.float32(np.inf)), np.nextafter(around, np.float32(0.0))):
        assert abs(Fraction(got) - exact) <= abs(Fraction(float(other)) - exact)


@given(st.floats(-1e30, 1e30), st.floats(-1e30, 1e30), st.sampled_from([(0, 255), (0, 127), (-128, 127), (-127, 127)]))
def test_affine_qparams_represent_zero_and_cover_the_range(a: float, b: float, limits: tuple[int, int]) -> None:
    low, high = sorted((a, b))
    qmin, qmax = limits
    scale, zero_point = arithmetic.affine_qparams(low, high, qmin, qmax)
    assert scale > 0.0
    assert float(np.float32(scale)) == scale
    assert qmin <= zero_point <= qmax
    zero = arithmetic.dequantize(torch.tensor(zero_point), torch.tensor(scale), torch.tensor(zero_point))
    assert float(zero) == 0.0
    # The ends are at most half a step outside of what the integers reach; 2**-23 is the scale's rounding.
    assume(scale > 2.0**-126)
    reach = Fraction(scale) * (1 + Fraction(1, 2**23) * (qmax - qmin))
    assert (qmin - zero_point) * Fraction(scale) <= Fraction(min(low, 0.0)) + reach / 2
    assert (qmax - zero_point) * Fraction(scale) >= Fraction(max(high, 0.0)) - reach / 2


def test_a_zero_width_range_has_scale_one() -> None:
    assert arithmetic.affine_qparams(0.0, 0.0, 0, 255) == (1.0, 0)
    assert arithmetic.affine_qparams(0.0, 0.0, -128, 127) == (1.0, -128)


@given(st.lists(st.lists(floats, min_size=3, max_size=3), max_size=4))
def test_dynamic_qparams_of_rows_are_those_of_each_alone(rows: list[list[float]]) -> None:
    x = torch.tensor(rows).reshape(-1, 1, 3)
    scale, zero_point = dynamic_qparams(x, reduce_range=False, per_row=True)
    assert scale.shape == zero_point.shape == (len(rows), 1, 1)
    alone = [dynamic_qparams(row, reduce_range=False) for row in x]
    assert scale.reshape(-1).tolist() == [float(s) for s, _ in alone]
    assert zero_point.reshape(-1).tolist() == [int(z) for _, z in alone]


@given(st.lists(floats, max_size=5), st.booleans())
def test_dynamic_qparams_equal_affine_qparams(values: list[float], reduce_range: bool) -> None:
    scale, zero_point = dynamic_qparams(torch.tensor(values), reduce_range=reduce_range)
    qmax = 127 if reduce_range else 255
    expected = arithmetic.affine_qparams(min(values, default=0.0), max(values, default=0.0), 0, qmax)
    assert (scale.dtype, zero_point.dtype) == (torch.float32, torch.int64)
    assert (float(scale), int(zero_point)) == expected


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_dynamic_qparams_of_what_is_not_finite_have_no_scale(value: float) -> None:
    x = torch.tensor([1.0, value, -2.0])
    assert math.isnan(dynamic_qparams(x, reduce_range=False)[0])
    assert bool(requantize_dynamic(x, reduce_range=False).isnan().all())
    of_rows = requantize_dynamic(torch.stack([x, torch.ones(3)]), reduce_range=False, per_row=True)
    assert of_rows.isnan().all(-1).tolist() == of_rows.isnan().any(-1).tolist() == [True, False]


def test_channels_quantize_along_their_axis() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    scale, zero_point = torch.tensor([1.0, 2.0]), torch.tensor([0, 5])
    rows = arithmetic.quantize(x, scale, zero_point, 0, 255, axis=0)
    columns = arithmetic.quantize(x, scale, zero_point, 0, 255, axis=1)
    assert rows.tolist() == [[1, 2], [7, 7]]
    assert columns.tolist() == [[1, 6], [3, 7]]
    assert torch.equal(
        arithmetic.dequantize(columns, scale, zero_point, axis=1), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    )
