"""Every integer reference against the float reference of the same exact values."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from qfx.errors import QuantizationError
from qfx.ir.types import QArray, QDType, QParams
from qfx.ops import TABLE, Op, arithmetic
from qfx.ops.compute.integer import linear_dynamic, linear_dynamic_grouped
from qfx.ops.epilogue import clamp_codes
from qfx.ops.qdq.decode import StoredWeight
from qfx.ops.shape.integer import moved
from tests.ops.quantized_samples import Quantized, activation, activation_qparams, cases, quantized, shifted

MOVING = {
    "max_pool", "adaptive_max_pool", "amax", "cat", "stack", "pad", "pixel_shuffle", "pixel_unshuffle",
    "channel_shuffle", "permute", "transpose", "reshape", "flatten", "squeeze", "unsqueeze", "slice", "select",
    "expand", "windows", "dropout",
}  # fmt: skip
"""The rows of kind ``share`` that do no arithmetic."""

ACTIVATIONS = [
    ("clamp", 0.0, None),
    ("clamp", 0.0, 6.0),
    ("clamp", None, 0.1),
    ("clamp", -0.3, 0.3),
    ("clamp", 1000.0, None),
    ("clamp", None, None),
    ("clamp", 0.5, -0.5),
]


def assert_nearest(q: torch.Tensor, case: Quantized) -> None:
    """``q`` is the integer next to the exact result; both are, where float32 can't tell a tie."""
    assert q.dtype == case.out.dtype.storage
    assert q.shape == case.expected.shape
    distance = (q.double() - case.position()).abs()
    assert not distance.numel() or float(distance.max()) <= 0.5 + case.slack()
    assert case.slack() < 0.5


@pytest.mark.parametrize(("op", "i"), cases("own", "share", "fixed", "float"))
def test_integer_result_is_the_nearest_integer(op: Op, i: int) -> None:
    case = quantized(op, op.samples()[i])
    assert_nearest(case.run(case.out), case)


@pytest.mark.parametrize(
    ("op", "i"), [c for c in cases("own", "share", "fixed", "float") if c.values[0].name not in MOVING]
)
def test_unquantized_result_is_close_to_exact(op: Op, i: int) -> None:
    case = quantized(op, op.samples()[i])
    y = case.run(None)
    assert y.dtype == torch.float32
    assert y.shape == case.expected.shape
    slack = case.slack() * case.out.scale
    torch.testing.assert_close(y.double(), case.expected, rtol=0.0, atol=slack)


@pytest.mark.parametrize(("op", "i"), cases("own", "share", "fixed", "float"))
def test_qint8_equals_quint8_shifted(op: Op, i: int) -> None:
    unsigned = quantized(op, op.samples()[i])
    signed = quantized(op, op.samples()[i], dtype=QDType.qint8)
    assert signed.out == shifted(unsigned.out)
    q = signed.run(signed.out)
    assert q.dtype == torch.int8
    assert torch.equal(q.long() + 128, unsigned.run(unsigned.out).long())


@pytest.mark.parametrize(("per_channel", "symmetric"), [(True, False), (False, True), (False, False)])
@pytest.mark.parametrize(("op", "i"), [c for c in cases("own") if c.values[0].weights])
def test_every_weight_scheme(op: Op, i: int, per_channel: bool, symmetric: bool) -> None:
    case = quantized(op, op.samples()[i], per_channel=per_channel, symmetric=symmetric)
    assert symmetric or bool((case.args[1].zero_point != 0).any())
    assert_nearest(case.run(case.out), case)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("op", "i"), cases("own", epilogue="clamp"))
def test_clamp_epilogue_equals_quantizing_the_clamped_value(op: Op, i: int, activation: Any) -> None:
    plain = quantized(op, op.samples()[i], activation=None)
    clamped = quantized(op, op.samples()[i], activation=activation)
    q, lo_hi = clamped.run(plain.out), clamp_codes(activation, plain.out)
    assert torch.equal(q, plain.run(plain.out).clamp(*lo_hi))
    assert_nearest(q, Quantized(op, clamped.args, clamped.kwargs, clamped.expected, plain.out))


@pytest.mark.parametrize(("op", "i"), [c for c in cases("share") if c.values[0].name in MOVING])
def test_moving_ops_move_integers(op: Op, i: int) -> None:
    case = quantized(op, op.samples()[i])
    q = arithmetic.quantize(case.expected, torch.tensor(case.out.scale), torch.tensor(case.out.zero_point), 0, 255)
    assert torch.equal(case.run(case.out).long(), q)
    scale, zero_point = torch.tensor(case.out.scale), torch.tensor(case.out.zero_point)
    assert torch.equal(case.run(None), arithmetic.dequantize(q, scale, zero_point))


def test_each_moving_row_is_a_sharing_row() -> None:
    assert MOVING | {"avg_pool", "adaptive_avg_pool", "interpolate"} == {
        op.name for op in TABLE.values() if op.qparams == "share"
    }


def test_moving_refuses_other_parameters() -> None:
    x = activation(torch.randn(4), QParams(0.1, 3, QDType.quint8))
    for other in (QParams(0.2, 3, QDType.quint8), QParams(0.1, 4, QDType.quint8), QParams(0.1, 3, QDType.qint8)):
        with pytest.raises(QuantizationError, match="moves values"):
            moved(x, x.values, other)


def test_residual_is_added_before_the_clamp() -> None:
    op = TABLE["linear"]
    sample = next(s for s in op.samples() if len(s.args) == 4 and s.kwargs.get("activation"))
    case = quantized(op, sample)
    with_residual = case.run(case.out)
    case.args[3] = None
    assert not torch.equal(with_residual, case.run(case.out))
    low, high = clamp_codes(sample.kwargs["activation"], case.out)
    assert (int(with_residual.min()), int(with_residual.max())) == (low, high)


def test_residual_of_another_scale_is_rescaled() -> None:
    # acc = 0, so the residual alone decides: 100 steps of 0.5 are 25 steps of 2.
    zero = torch.tensor(0)
    x = QArray(torch.zeros(1, 1, dtype=torch.uint8), torch.tensor(1.0), zero)
    w = QArray(torch.ones(1, 1, dtype=torch.int8), torch.tensor(1.0), zero)
    residual = QArray(torch.tensor([[110]], dtype=torch.uint8), torch.tensor(0.5), torch.tensor(10))
    integer = TABLE["linear"].integer
    assert integer is not None
    assert integer(x, w, None, residual, out=QParams(2.0, 7, QDType.quint8)).tolist() == [[32]]


def test_extreme_integers_accumulate_exactly() -> None:
    # 4608 products of 255 * -128 are -150,405,120: beyond float32's integers, so a float32 sum would be off.
    zero = torch.tensor(0)
    x = QArray(torch.full((1, 4608), 255, dtype=torch.uint8), torch.tensor(1.0), zero)
    w = QArray(torch.full((1, 4608), -128, dtype=torch.int8), torch.tensor(1.0), zero)
    b = QArray(torch.tensor([150_405_120 + 3], dtype=torch.int32), torch.tensor(1.0), zero)
    integer = TABLE["linear"].integer
    assert integer is not None
    assert integer(x, w, b, out=QParams(1.0, 0, QDType.quint8)).tolist() == [[3]]


def test_weights_along_another_axis_are_refused() -> None:
    case = quantized(TABLE["linear"], TABLE["linear"].samples()[0])
    w = case.args[1]
    case.args[1] = QArray(w.values, torch.ones(10), torch.zeros(10, dtype=torch.int64), 1)
    with pytest.raises(QuantizationError, match="dim 0"):
        case.run(case.out)


def test_a_per_channel_result_is_refused() -> None:
    case = quantized(TABLE["add"], TABLE["add"].samples()[0])
    with pytest.raises(QuantizationError, match="needs one scale"):
        case.run(QParams((0.1, 0.2), (0, 0), QDType.quint8, axis=1))


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "matmul"])
def test_float_operands_make_float_arithmetic(name: str) -> None:
    op = TABLE[name]
    x, y = torch.randn(3, 4), torch.rand(4, 4) + 1.0 if name == "matmul" else torch.rand(3, 4) + 1.0
    if name == "matmul":
        x = x[:, :4]
    quantized_x = activation(x, activation_qparams(x))
    assert op.integer is not None
    got = op.integer(quantized_x, y, out=None)
    exact = arithmetic.dequantize(quantized_x.values, quantized_x.scale, quantized_x.zero_point)
    # Both are float32 arithmetic; only a matmul's order of sums may differ (4 terms, 4 roundings).
    torch.testing.assert_close(got, op.fn(exact, y), rtol=4 * 2.0**-23 if name == "matmul" else 0.0, atol=2.0**-20)


def test_matmul_accumulates_in_order() -> None:
    # In order: (2**24 + 1) rounds to 2**24, minus 2**24 gives 0; any other order gives 1.
    x, y = torch.tensor([[2.0**24, 1.0, -(2.0**24)]]), torch.ones(3, 1)
    integer = TABLE["matmul"].integer
    assert integer is not None
    assert integer(x, y, out=None).tolist() == [[0.0]]


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("code", [0, 1, 254, 255])
def test_interpolation_of_a_constant_is_the_constant(align_corners: bool, code: int) -> None:
    x = QArray(torch.full((1, 2, 3, 5), code, dtype=torch.uint8), torch.tensor(0.3), torch.tensor(77))
    integer = TABLE["interpolate"].integer
    assert integer is not None
    out = QParams(0.3, 77, QDType.quint8)
    y = integer(x, size=(7, 11), scale_factor=None, mode="bilinear", align_corners=align_corners, out=out)
    assert torch.equal(y, torch.full((1, 2, 7, 11), code, dtype=torch.uint8))


def test_interpolation_rounds_ties_to_even_about_the_zero_point() -> None:
    # Between 10 and 11 halfway: 10.5 - 7 = 3.5 rounds to 4, 10.5 - 8 = 2.5 rounds to 2.
    integer = TABLE["interpolate"].integer
    assert integer is not None
    for zero_point, middle in ((7, 11), (8, 10)):
        x = QArray(torch.tensor([[[10, 11]]], dtype=torch.uint8), torch.tensor(1.0), torch.tensor(zero_point))
        out = QParams(1.0, zero_point, QDType.quint8)
        y = integer(x, size=(3,), scale_factor=None, mode="linear", align_corners=True, out=out)
        assert y.tolist() == [[[10, middle, 11]]]


def test_max_of_an_empty_window_is_the_lowest_integer() -> None:
    x = activation(torch.randn(1, 1, 3), QParams(0.1, 128, QDType.quint8))
    assert moved(x, torch.full((1, 1, 3), -torch.inf), QParams(0.1, 128, QDType.quint8)).tolist() == [[[0, 0, 0]]]


def test_mean_of_nothing_is_zero() -> None:
    x = QArray(torch.zeros(2, 0, 3, dtype=torch.uint8), torch.tensor(0.1), torch.tensor(9))
    integer = TABLE["mean"].integer
    assert integer is not None
    assert integer(x, dims=(1,), keepdim=False, out=QParams(0.2, 31, QDType.quint8)).tolist() == [[31] * 3] * 2


@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("reduce_range", [False, True])
def test_dynamic_linear_is_close_to_float(reduce_range: bool, per_row: bool) -> None:
    x, w, b = torch.randn(4, 10) + 0.5, torch.randint(-127, 128, (6, 10), dtype=torch.int8), torch.randn(6)
    scale = torch.rand(6) * 0.01 + 0.001
    q = QArray(w, scale, torch.zeros(6, dtype=torch.int64), 0)
    y = linear_dynamic(x, q, b, reduce_range=reduce_range, per_row=per_row)
    expected = torch.nn.functional.linear(x, w * scale[:, None], b)
    low, high = (x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)) if per_row else (x.min(), x.max())
    step = (high.clamp(min=0.0) - low.clamp(max=0.0)) / (127 if reduce_range else 255)
    # Each of the 10 inputs is off by at most half a step, and the zero point's rounding may clip half a step more.
    bound = step * (w.abs() * scale[:, None]).sum(1) + 1e-5
    assert bool(((y - expected).abs() <= bound).all())
    assert linear_dynamic(x[:0], q, b, per_row=per_row).shape == (0, 6)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("group_size", [1, 4, 32])
def test_dynamic_linear_by_groups_is_off_by_half_a_step_of_each_group(group_size: int, groups: int) -> None:
    x, w, b = torch.randn(4, 12), torch.randint(-127, 128, (6, 12), dtype=torch.int8), torch.randn(6)
    x[:, 4:8] *= 1000.0
    scale, zeros = torch.rand(6, groups) * 0.01 + 0.001, torch.randint(-5, 6, (6, groups), dtype=torch.int8)
    size = 12 if groups == 1 else group_size
    if size != 12:
        scale, zeros = scale[:, :1].repeat(1, 12 // min(size, 12)), zeros[:, :1].repeat(1, 12 // min(size, 12))
    weight = StoredWeight(w, scale, zeros)
    y = linear_dynamic_grouped(x, weight, b, group_size=group_size)
    values = weight.values()
    steps = torch.cat([p.abs().amax(-1, keepdim=True).expand_as(p) / 127 for p in x.split(group_size, -1)], -1)
    sums = values.abs().sum(1) * x.abs().amax(-1, keepdim=True)
    bound = (steps / 2) @ values.abs().T + 12 * 2.0**-23 * sums
    assert bool(((y.double() - (x.double() @ values.double().T + b)).abs() <= bound).all())
    assert linear_dynamic_grouped(x[:0], weight, b, group_size=group_size).shape == (0, 6)


def test_dynamic_linear_of_values_that_are_not_finite() -> None:
    q = QArray(torch.ones(2, 3, dtype=torch.int8), torch.ones(2), torch.zeros(2, dtype=torch.int64), 0)
    for value in (torch.nan, torch.inf, -torch.inf):
        x = torch.tensor([[255.0, value, 1.0], [2.0, 3.0, 4.0]])
        assert linear_dynamic(x, q).isnan().tolist() == [[True, True], [True, True]]
        assert linear_dynamic(x, q, per_row=True).isnan().tolist() == [[True, True], [False, False]]
        by_groups = linear_dynamic_grouped(x, StoredWeight(q.values, torch.ones(2, 1)), group_size=2)
        assert by_groups.isnan().tolist() == [[True, True], [False, False]]
