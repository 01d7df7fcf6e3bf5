"""Lookup tables: exact at every code, with defined results for NaN and infinities."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from qfx.errors import QuantizationError, UnsupportedError
from qfx.ir.types import QArray, QDType, QParams
from qfx.ops import TABLE, Op, lookup_table
from qfx.ops.lookup import code_table, requantize_table
from qfx.ops.table import lookup_values

X = QParams(0.05, 100, QDType.quint8)
Y = QParams(0.03, 17, QDType.quint8)
POINTWISE = [
    pytest.param(op, i, id=f"{op.name}-{i}")
    for op in TABLE.values()
    if op.pointwise is not None
    for i in range(0, len(op.samples()), 3)
]


def all_codes(qparams: QParams) -> QArray:
    q = torch.arange(qparams.dtype.qmin, qparams.dtype.qmax + 1)
    return QArray(q.to(qparams.dtype.storage), torch.tensor(qparams.scale), torch.tensor(qparams.zero_point))


@pytest.mark.parametrize(("op", "i"), POINTWISE)
def test_table_equals_the_integer_reference_at_every_code(op: Op, i: int) -> None:
    kwargs = op.samples()[i].kwargs
    table = lookup_table(op, kwargs, X, Y)
    assert (table.dtype, table.shape) == (torch.uint8, (256,))
    assert op.integer is not None
    assert torch.equal(table, op.integer(all_codes(X), out=Y, **kwargs))
    values = lookup_values(op, kwargs, X)
    torch.testing.assert_close(values, op.integer(all_codes(X), out=None, **kwargs), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(("op", "i"), POINTWISE)
def test_float64_function_equals_torch_in_float64(op: Op, i: int) -> None:
    kwargs = op.samples()[i].kwargs
    x = torch.linspace(-12.0, 12.0, 1001, dtype=torch.float64)
    x[0] = torch.nan
    assert op.pointwise is not None
    with np.errstate(all="ignore"):
        got = torch.from_numpy(np.asarray(op.pointwise(x.numpy(), **kwargs)))
    # Two implementations of transcendental functions, and selu's constants, which torch holds as doubles too.
    torch.testing.assert_close(got, op.fn(x, **kwargs).double(), rtol=1e-13, atol=1e-14, equal_nan=True)


@pytest.mark.parametrize(("op", "i"), POINTWISE)
def test_qint8_codes_are_storage_bytes(op: Op, i: int) -> None:
    kwargs = op.samples()[i].kwargs
    signed_x = QParams(X.scale, X.zero_point - 128, QDType.qint8)
    signed_y = QParams(Y.scale, Y.zero_point - 128, QDType.qint8)
    table = lookup_table(op, kwargs, X, Y)
    assert torch.equal(table, lookup_table(op, kwargs, signed_x, signed_y))
    assert torch.equal(table, lookup_table(op, kwargs, signed_x, Y))


def test_undefined_points_become_zero_and_poles_saturate() -> None:
    log = lookup_table(TABLE["log"], {}, X, Y)
    assert log[0] == Y.zero_point
    assert log[X.zero_point] == 0
    assert lookup_table(TABLE["reciprocal"], {}, X, Y)[X.zero_point] == 255
    values = lookup_values(TABLE["log"], {}, X)
    assert math.isnan(values[0])
    assert values[X.zero_point] == -math.inf


def test_a_reduced_range_bounds_the_codes() -> None:
    reduced = QParams(0.03, 17, QDType.quint8, quant_min=5, quant_max=100)
    table = lookup_table(TABLE["relu"], {}, X, reduced)
    assert (int(table.min()), int(table.max())) == (17, 100)
    assert int(lookup_table(TABLE["neg"], {}, X, reduced).min()) == 5


def test_requantizing_to_the_same_parameters_is_the_identity() -> None:
    assert torch.equal(requantize_table(X, X), torch.arange(256, dtype=torch.uint8))


def test_requantizing_to_a_wider_scale_halves() -> None:
    table = requantize_table(QParams(1.0, 0, QDType.quint8), QParams(2.0, 10, QDType.quint8))
    assert table[:7].tolist() == [10, 10, 11, 12, 12, 12, 13]  # 0, .5, 1, 1.5, 2, 2.5, 3 with ties to even


def test_scales_count_as_float32() -> None:
    # 0.1 in float32 is above 0.1: the value of code 5 is above 0.5 and rounds up.
    table = code_table(lambda v: v, QParams(0.1, 0, QDType.quint8), QParams(1.0, 0, QDType.quint8))
    assert table[5] == 1


@pytest.mark.parametrize(
    "bad", [QParams((0.1, 0.2), (0, 0), QDType.quint8, axis=0), QParams(0.1, 0, QDType.qint32)], ids=["axis", "wide"]
)
def test_tables_need_one_scale_and_eight_bits(bad: QParams) -> None:
    for pair in ((bad, Y), (X, bad)):
        with pytest.raises(QuantizationError, match="per-tensor 8-bit"):
            lookup_table(TABLE["relu"], {}, *pair)


def test_only_functions_of_one_value_have_tables() -> None:
    with pytest.raises(UnsupportedError, match="'add' is not a function of one value"):
        lookup_table(TABLE["add"], {}, X, Y)
