"""Quantizing and dequantizing: exact arithmetic, parameters, dtypes, schemes."""

from __future__ import annotations

import copy
import pickle
from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import qfx
from qfx.errors import InputError, QuantizationError
from qfx.ir.types import QDType, QParams, QScheme
from qfx.quantization import (
    HistogramObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    ObserverBase,
    PerChannelMinMaxObserver,
)
from qfx.quantization.observer import QuantileHistogramObserver
from qfx.tensor import QTensor

DTYPES = [qfx.quint8, qfx.qint8, qfx.qint32]


def exact(x: Tensor, scale: float, zero_point: int, dtype: QDType) -> Tensor:
    """``clamp(rint(x / scale) + zero_point)`` in rational arithmetic; round() of a Fraction is half to even."""
    step = Fraction(float(torch.tensor(scale, dtype=torch.float32)))
    codes = [max(dtype.qmin, min(dtype.qmax, round(Fraction(v) / step) + zero_point)) for v in x.tolist()]
    return torch.tensor(codes, dtype=dtype.storage)


def zero_points(dtype: QDType) -> list[int]:
    return [dtype.qmin, dtype.qmax, (dtype.qmin + dtype.qmax) // 2]


@pytest.mark.inventory("S001", "S032", "S166", "S167", "S168")
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.name)
@pytest.mark.parametrize("end", [0, 1, 2])
@pytest.mark.parametrize("scale", [0.25, 0.1, 3.7e-5, 12345.0])
def test_per_tensor_is_exact(dtype: QDType, end: int, scale: float) -> None:
    zero_point = zero_points(dtype)[end]
    ties = (torch.arange(-300, 300) + 0.5) * torch.tensor(scale)
    values = torch.cat([torch.randn(2000) * scale * 200, ties, torch.tensor([0.0, -0.0, 1e30, -1e30])])
    q = qfx.quantize_per_tensor(values, scale, zero_point, dtype)
    assert torch.equal(q.int_repr(), exact(values, scale, zero_point, dtype))


@pytest.mark.inventory("S001")
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.name)
@pytest.mark.parametrize("end", [0, 1, 2])
@pytest.mark.parametrize("scale", [0.25, 0.1])
def test_per_tensor_is_exact_on_many_values(dtype: QDType, end: int, scale: float) -> None:
    x = torch.randn(100_000) * 120 * scale
    zero_point = zero_points(dtype)[end]
    # A quotient of two float32 numbers that is no tie is further from one than float64's rounding.
    rounded = torch.round(x.double() / torch.tensor(scale).double())
    want = (rounded + zero_point).clamp(dtype.qmin, dtype.qmax).to(dtype.storage)
    assert torch.equal(qfx.quantize_per_tensor(x, scale, zero_point, dtype).int_repr(), want)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", ["quint8", "qint8"])
def test_torch_differs_by_a_quantum_at_most(dtype: str) -> None:
    # torch multiplies by float32(1 / scale), which is not the quotient; and so rounds some values the other way.
    x = torch.randn(10_000)
    ours = qfx.quantize_per_tensor(x, 0.013, 3, QDType[dtype])
    theirs = torch.quantize_per_tensor(x, 0.013, 3, getattr(torch, dtype))
    difference = (ours.int_repr().int() - theirs.int_repr().int()).abs()
    assert difference.max() <= 1
    assert (difference > 0).float().mean() < 1e-3
    assert torch.equal(qfx.from_torch(theirs).dequantize(), theirs.dequantize())


@pytest.mark.inventory("S168")
def test_qint32_saturates_exactly() -> None:
    x = torch.tensor([2.0**31, 2.0**31 - 128, -(2.0**31), -(2.0**32), float("inf"), -float("inf")])
    q = qfx.quantize_per_tensor(x, 1.0, 0, qfx.qint32)
    assert q.int_repr().tolist() == [2**31 - 1, 2**31 - 128, -(2**31), -(2**31), 2**31 - 1, -(2**31)]
    top = qfx.quantize_per_tensor(torch.tensor([5.0]), 1.0, 2**31 - 3, qfx.qint32)
    assert top.int_repr().item() == 2**31 - 1
    assert top.dequantize().item() == 2.0


def test_nan_is_zero() -> None:
    q = qfx.quantize_per_tensor(torch.tensor([float("nan")]), 0.1, 7, qfx.quint8)
    assert q.int_repr().item() == 7
    assert q.dequantize().item() == 0.0


@pytest.mark.inventory("S002", "S018", "S033")
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.name)
@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_per_channel_is_per_tensor_of_each_slice(dtype: QDType, axis: int) -> None:
    x = torch.randn(2, 3, 4, 5)
    count = x.shape[axis]
    scales, zeros = torch.rand(count) + 0.01, torch.randint(0, 100, (count,))
    q = qfx.quantize_per_channel(x, scales, zeros, axis, dtype)
    assert q.q_per_channel_axis() == axis % 4
    for i in range(count):
        part = qfx.quantize_per_tensor(x.select(axis, i), scales[i], zeros[i], dtype)
        assert torch.equal(q.int_repr().select(axis, i), part.int_repr())
        assert torch.equal(q.dequantize().select(axis, i), part.dequantize())


@pytest.mark.inventory("S018")
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.name)
def test_dequantize_is_one_float32_product(dtype: QDType) -> None:
    codes = torch.arange(-128, 128) - (-128 - dtype.qmin if dtype is not qfx.qint32 else 0)
    q = QTensor(codes.to(dtype.storage), QParams(0.013, dtype.qmin + 77 if dtype is not qfx.qint32 else 77, dtype))
    zero = q.q_zero_point()
    want = (codes - zero).float() * torch.tensor(0.013, dtype=torch.float32)
    for value in (q.dequantize(), torch.dequantize(q)):
        assert value.dtype is torch.float32
        assert torch.equal(value, want)
    q.dequantize().zero_()
    assert torch.equal(q.dequantize(), want)


@pytest.mark.inventory("S020", "S035")
@pytest.mark.parametrize(
    ("dtype", "storage", "size"), [("quint8", torch.uint8, 1), ("qint8", torch.int8, 1), ("qint32", torch.int32, 4)]
)
def test_storage(dtype: str, storage: torch.dtype, size: int) -> None:
    x = torch.randn(3, 4)
    q = qfx.quantize_per_tensor(x, 0.1, 2, dtype)
    assert isinstance(q, torch.Tensor)
    assert q.int_repr().dtype is storage
    assert type(q.int_repr()) is Tensor
    assert q.int_repr().shape == q.shape == x.shape
    assert q.element_size() == size
    assert q.nbytes * 4 == x.nbytes * size
    q.int_repr().fill_(5)
    assert torch.equal(q, qfx.quantize_per_tensor(x, 0.1, 2, dtype))


@pytest.mark.inventory("S024", "S025", "S026", "S027", "S028", "S160", "S161", "S162", "S165")
def test_parameters() -> None:
    x = torch.randn(3, 4)
    q = qfx.quantize_per_tensor(x, 0.1, 2, qfx.quint8)
    c = qfx.quantize_per_channel(x, torch.tensor([0.1, 0.2, 0.3]), torch.tensor([1, 2, 3]), 0, qfx.qint8)
    assert (q.q_scale(), q.q_zero_point(), q.qscheme(), q.dtype) == (0.1, 2, qfx.per_tensor_affine, qfx.quint8)
    assert (c.q_per_channel_axis(), c.qscheme(), c.dtype) == (0, qfx.per_channel_affine, qfx.qint8)
    assert torch.equal(c.q_per_channel_scales(), torch.tensor([0.1, 0.2, 0.3]))
    assert torch.equal(c.q_per_channel_zero_points(), torch.tensor([1, 2, 3]))
    assert torch.q_scale(q) == 0.1
    assert q.is_quantized
    for asked in ("q_scale", "q_zero_point"):
        with pytest.raises(QuantizationError, match=f"{asked}.*per channel"):
            getattr(c, asked)()
    for asked in ("q_per_channel_scales", "q_per_channel_zero_points", "q_per_channel_axis"):
        with pytest.raises(QuantizationError, match=f"{asked}.*per tensor"):
            getattr(q, asked)()


@pytest.mark.inventory("S160", "S165", "S166", "S167", "S168")
def test_types_of_dtypes_and_schemes() -> None:
    assert all(isinstance(d, qfx.dtype) for d in DTYPES)
    schemes = [qfx.per_tensor_affine, qfx.per_channel_affine, qfx.per_tensor_symmetric, qfx.per_channel_symmetric]
    assert all(isinstance(s, qfx.qscheme) for s in schemes)
    assert len(set(schemes)) == 4
    for member in [*DTYPES, *schemes]:
        assert pickle.loads(pickle.dumps(member)) is member
        assert copy.deepcopy(member) is member
    ranges = [(d.qmin, d.qmax, torch.empty(0, dtype=d.storage).element_size()) for d in DTYPES]
    assert ranges == [(0, 255, 1), (-128, 127, 1), (-(2**31), 2**31 - 1, 4)]


DATA = {
    "positive": torch.rand(100) + 3.0,
    "negative": -torch.rand(100) - 3.0,
    "both": torch.randn(100),
    "zero width": torch.full((10,), 2.5),
    "zeros": torch.zeros(10),
}


CLIPPING = [HistogramObserver, QuantileHistogramObserver]
OBSERVERS: list[type[ObserverBase]] = [
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    PerChannelMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    *CLIPPING,
]


@pytest.mark.inventory("S034", "S040", "S161", "S162", "S163", "S164")
@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("dtype", [qfx.quint8, qfx.qint8], ids=lambda d: d.name)
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("kind", OBSERVERS)
def test_zero_has_no_error(kind: type[ObserverBase], symmetric: bool, data: str, dtype: QDType) -> None:
    x = DATA[data].reshape(2, -1)
    scheme = QScheme[f"{'per_channel' if kind.per_channel else 'per_tensor'}_{'symmetric' if symmetric else 'affine'}"]
    observer = kind(dtype=dtype, qscheme=scheme)
    observer(x)
    scale, zero_point = observer.calculate_qparams()
    zeros = torch.zeros_like(x)
    if scheme.per_channel:
        q = qfx.quantize_per_channel(zeros, scale, zero_point, 0, dtype)
        values = qfx.quantize_per_channel(x, scale, zero_point, 0, dtype)
        assert values.qscheme() is qfx.per_channel_affine
    else:
        q = qfx.quantize_per_tensor(zeros, scale, zero_point, dtype)
        values = qfx.quantize_per_tensor(x, scale, zero_point, dtype)
        assert torch.equal(F.pad(values, (2, 1)).dequantize(), F.pad(values.dequantize(), (2, 1)))
    assert torch.equal(q.dequantize(), zeros)
    if kind not in CLIPPING:
        assert torch.all((values.dequantize() - x).abs() <= torch.as_tensor(scale).max() * 0.501)
    if scheme.symmetric:
        assert set(zero_point.reshape(-1).tolist()) == {128 if dtype is qfx.quint8 else 0}


@pytest.mark.inventory("S040")
@pytest.mark.parametrize(
    ("kwargs", "low", "high"),
    [
        ({"dtype": qfx.quint8}, 0, 255),
        ({"dtype": qfx.qint8}, -128, 127),
        ({"dtype": qfx.quint8, "reduce_range": True}, 0, 127),
        ({"dtype": qfx.qint8, "reduce_range": True}, -64, 63),
        ({"dtype": qfx.quint8, "quant_min": 0, "quant_max": 15}, 0, 15),
        ({"dtype": qfx.qint8, "quant_min": -100, "quant_max": 27}, -100, 27),
    ],
)
@pytest.mark.parametrize("kind", [k for k in OBSERVERS if k not in CLIPPING])
def test_the_range_of_the_data_spans_the_integers(
    kind: type[ObserverBase], kwargs: dict[str, Any], low: int, high: int
) -> None:
    x = torch.linspace(-1.3, 2.9, 1000).reshape(1, -1)
    observer = kind(**kwargs)
    observer(x)
    scale, zero_point = observer.calculate_qparams()
    q = qfx.quantize_per_tensor(x, scale, zero_point, kwargs["dtype"]).int_repr()
    assert (int(q.min()), int(q.max())) == (low, high)
    assert low <= int(zero_point) <= high


def test_repr_shows_values_and_parameters() -> None:
    q = qfx.quantize_per_tensor(torch.tensor([[0.5, -1.0]]), 0.5, 10, qfx.quint8)
    assert repr(q) == (
        "QTensor([[ 0.5000, -1.0000]], size=(1, 2), dtype=qfx.quint8, "
        "quantization_scheme=qfx.per_tensor_affine, scale=0.5, zero_point=10)"
    )
    c = qfx.quantize_per_channel(torch.zeros(9, 1), [0.5] * 9, [1] * 9, 0, qfx.qint8)
    assert "scale=[0.5, 0.5, 0.5, ..., 0.5, 0.5, 0.5]" in str(c)
    assert "axis=0" in str(c)
    assert "QTensor([], size=(0,)" in repr(qfx.quantize_per_tensor(torch.empty(0), 0.5, 0, qfx.qint8))


def test_codes_are_shared_and_wrapped_without_a_copy() -> None:
    codes = torch.tensor([1, 2, 3], dtype=torch.uint8)
    q = QTensor(codes, QParams(0.5, 0, qfx.quint8))
    codes[0] = 9
    assert q.int_repr().tolist() == [9, 2, 3]
    assert q.codes.data_ptr() == codes.data_ptr() == q.data_ptr()


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: qfx.quantize_per_tensor(torch.ones(2).double(), 0.1, 0, qfx.quint8), InputError, "float64"),
        (lambda: qfx.quantize_per_tensor([1.0], 0.1, 0, qfx.quint8), InputError, "list"),
        (lambda: qfx.quantize_per_tensor(torch.ones(2), 0.0, 0, qfx.quint8), QuantizationError, "0.0 is not a scale"),
        (lambda: qfx.quantize_per_tensor(torch.ones(2), float("nan"), 0, qfx.quint8), QuantizationError, "nan"),
        (lambda: qfx.quantize_per_tensor(torch.ones(2), 1e-60, 0, qfx.quint8), QuantizationError, "1e-60"),
        (lambda: qfx.quantize_per_tensor(torch.ones(2), 0.1, 256, qfx.quint8), QuantizationError, "Zero point 256"),
        (lambda: qfx.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.float32), QuantizationError, "float32"),
        (lambda: qfx.quantize_per_channel(torch.ones(2), [0.1], [0], 0, qfx.qint8), QuantizationError, "1 scales"),
        (lambda: qfx.quantize_per_channel(torch.ones(2), [0.1] * 2, [0], 0, qfx.qint8), QuantizationError, "1 zero"),
        (lambda: qfx.quantize_per_channel(torch.ones(2), [0.1], [0], 1, qfx.qint8), QuantizationError, "axis 1"),
        (lambda: QTensor(torch.ones(2).int(), QParams(0.1, 0, qfx.quint8)), QuantizationError, "torch.int32"),
    ],
)
def test_bad_input(make: object, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match) as caught:
        make()  # type: ignore[operator]
    assert caught.value.remedy


def test_quantizing_twice() -> None:
    q = qfx.quantize_per_tensor(torch.ones(2), 0.1, 0, qfx.quint8)
    with pytest.raises(InputError, match="QTensor is to be quantized"):
        qfx.quantize_per_tensor(q, 0.1, 0, qfx.quint8)
