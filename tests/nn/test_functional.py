"""qfx.nn.functional on QTensors: each row's arguments, and torch.nn.functional giving the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

import qfx
import qfx.nn.functional as QF
from qfx.errors import QfxError
from qfx.ir.types import QDType, QParams
from qfx.ops import TABLE
from qfx.tensor import QTensor

# torch itself warns where its upsample functions are called.
pytestmark = pytest.mark.filterwarnings("ignore:.*(upsample|deprecated).*:UserWarning")


def make(*shape: int, scale: float = 0.05, zero_point: int = 100, dtype: QDType = qfx.quint8) -> QTensor:
    return qfx.quantize_per_tensor(torch.randn(shape) * 2, scale, zero_point, dtype)


def every_code(scale: float, zero_point: int) -> QTensor:
    return QTensor(torch.arange(256).to(torch.uint8), QParams(scale, zero_point, qfx.quint8))


def assert_nearest(y: QTensor, x: QTensor, function: Any) -> None:
    """``y`` holds the integers nearest to the float function's exact result: half a quantum off at most."""
    real = function((x.int_repr().double() - x.q_zero_point()) * float(torch.tensor(x.q_scale())))
    want = (real / float(torch.tensor(y.q_scale())) + y.q_zero_point()).clamp(y.dtype.qmin, y.dtype.qmax)
    assert y.shape == want.shape
    assert (y.int_repr().double() - want).abs().max() <= 0.5 + 1e-4


@pytest.mark.inventory("S044", "S045")
def test_relu() -> None:
    x = make(3, 4)
    before = x.clone()
    for y in (QF.relu(x), F.relu(x)):
        assert torch.equal(y.int_repr(), before.int_repr().clamp(min=100))
        assert y.qparams == x.qparams
        assert torch.equal(x, before)
    address = x.data_ptr()
    assert QF.relu_(x) is x
    assert x.data_ptr() == address
    assert torch.equal(x, QF.relu(before))
    assert torch.equal(F.relu_(before), x)


@pytest.mark.inventory("S046")
@pytest.mark.parametrize("alpha", [0.1, 1.0, 2.5])
@pytest.mark.parametrize("zero_point", [0, 3, 128, 255])
def test_elu(alpha: float, zero_point: int) -> None:
    x = every_code(0.05, zero_point)
    for y in (QF.elu(x, alpha), F.elu(x, alpha), QF.elu(x, alpha, scale=0.02, zero_point=200)):
        assert_nearest(y, x, lambda v: F.elu(v, alpha))
    assert QF.elu(x, alpha).qparams == x.qparams
    assert QF.elu(x, scale=0.02, zero_point=200).qparams == QParams(0.02, 200, qfx.quint8)
    twin = x.clone()
    assert QF.elu(twin, alpha, inplace=True) is twin
    assert torch.equal(twin, QF.elu(x, alpha))


@pytest.mark.inventory("S047")
@pytest.mark.parametrize(("dtype", "zero_point"), [(qfx.quint8, 100), (qfx.qint8, -10)], ids=["quint8", "qint8"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 2},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": (2, 3), "stride": (1, 2), "padding": (1, 0), "ceil_mode": True},
        {"kernel_size": 2, "dilation": 2},
    ],
    ids=str,
)
def test_max_pool2d(arguments: dict[str, Any], layout: torch.memory_format, dtype: QDType, zero_point: int) -> None:
    values = -0.1 - torch.rand(2, 3, 9, 8)  # padding with zero, as a value or as an integer, would win somewhere
    x = qfx.quantize_per_tensor(values, 0.05, zero_point, dtype).contiguous(memory_format=layout)
    want = F.max_pool2d(x.int_repr().double(), **arguments)  # padded with minus infinity
    assert want.max() < zero_point
    for y in (QF.max_pool2d(x, **arguments), F.max_pool2d(x, **arguments)):
        assert torch.equal(y.int_repr().double(), want)
        assert y.qparams == x.qparams


@pytest.mark.inventory("S048")
@pytest.mark.parametrize("size", [1, 3, (2, 5), (None, 4), (7, None)], ids=str)
def test_adaptive_avg_pool2d(size: Any) -> None:
    x = make(2, 3, 7, 9)
    for y in (QF.adaptive_avg_pool2d(x, size), F.adaptive_avg_pool2d(x, size)):
        assert_nearest(y, x, lambda v: F.adaptive_avg_pool2d(v, size))
        assert y.qparams == x.qparams


@pytest.mark.inventory("S049")
@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 2},
        {"kernel_size": (3, 2), "stride": (2, 1)},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
        {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False},
        {"kernel_size": 2, "divisor_override": 3},
    ],
    ids=str,
)
def test_avg_pool2d(arguments: dict[str, Any]) -> None:
    x = make(2, 3, 8, 8)
    for y in (QF.avg_pool2d(x, **arguments), F.avg_pool2d(x, **arguments)):
        assert_nearest(y, x, lambda v: F.avg_pool2d(v, **arguments))
        assert y.qparams == x.qparams


@pytest.mark.inventory("S050")
@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((2, 3, 5, 6), {"size": 7}),
        ((2, 3, 5, 6), {"size": (10, 3)}),
        ((2, 3, 5, 6), {"scale_factor": 2}),
        ((2, 3, 5, 6), {"scale_factor": (0.5, 1.5)}),
        ((2, 3, 3, 5, 6), {"scale_factor": 2}),
        ((2, 3, 3, 5, 6), {"size": (4, 4, 4)}),
        ((2, 3, 5, 6), {"size": (10, 3), "mode": "bilinear"}),
        ((2, 3, 5, 6), {"scale_factor": 1.5, "mode": "bilinear", "align_corners": False}),
        ((2, 3, 5, 6), {"scale_factor": 2, "mode": "bilinear", "align_corners": True}),
    ],
    ids=str,
)
def test_interpolate(shape: tuple[int, ...], arguments: dict[str, Any]) -> None:
    x = make(*shape)
    for y in (QF.interpolate(x, **arguments), F.interpolate(x, **arguments)):
        assert y.qparams == x.qparams
        if arguments.get("mode") == "bilinear":
            assert_nearest(y, x, lambda v: F.interpolate(v, **arguments))
        else:
            assert torch.equal(y.int_repr().double(), F.interpolate(x.int_repr().double(), **arguments))


@pytest.mark.inventory("S051")
@pytest.mark.parametrize("zero_point", [0, 100, 255])
def test_hardsigmoid(zero_point: int) -> None:
    x = every_code(0.05, zero_point)
    for y in (QF.hardsigmoid(x), F.hardsigmoid(x)):
        assert y.qparams == QParams(1 / 256, 0, qfx.quint8)
        assert_nearest(y, x, F.hardsigmoid)


@pytest.mark.inventory("S052")
@pytest.mark.parametrize("zero_point", [0, 100, 255])
def test_hardswish(zero_point: int) -> None:
    x = every_code(0.05, zero_point)
    for y in (QF.hardswish(x), F.hardswish(x), QF.hardswish(x, scale=0.03, zero_point=13)):
        assert_nearest(y, x, F.hardswish)
    assert QF.hardswish(x, scale=0.03, zero_point=13).qparams == QParams(0.03, 13, qfx.quint8)


@pytest.mark.inventory("S053")
@pytest.mark.parametrize("bounds", [(-1.0, 1.0), (0.0, 6.0), (-0.3, 0.21)])
def test_hardtanh(bounds: tuple[float, float]) -> None:
    x = every_code(0.05, 100)
    codes = qfx.quantize_per_tensor(torch.tensor(bounds), 0.05, 100, qfx.quint8).int_repr()
    for y in (QF.hardtanh(x, *bounds), F.hardtanh(x, *bounds)):
        assert y.qparams == x.qparams
        assert torch.equal(y.int_repr(), x.int_repr().clamp(*codes))
    twin = x.clone()
    assert QF.hardtanh(twin, *bounds, inplace=True) is twin
    assert torch.equal(twin, QF.hardtanh(x, *bounds))


@pytest.mark.inventory("S054", "S055", "S056")
def test_upsampling() -> None:
    x = make(2, 3, 5, 6)
    nearest = QF.interpolate(x, scale_factor=2)
    bilinear = QF.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
    for y in (QF.upsample(x, scale_factor=2), F.upsample(x, scale_factor=2)):
        assert torch.equal(y, nearest)
    for y in (QF.upsample_nearest(x, scale_factor=2), F.upsample_nearest(x, scale_factor=2)):
        assert torch.equal(y, nearest)
    for y in (QF.upsample_bilinear(x, scale_factor=2), F.upsample_bilinear(x, scale_factor=2)):
        assert torch.equal(y, bilinear)
    assert torch.equal(QF.upsample(x, (10, 12), mode="bilinear", align_corners=True), bilinear)


@pytest.mark.parametrize("name", QF.__all__)
def test_floats_stay_floats(name: str) -> None:
    x = torch.randn(2, 3, 8, 8)
    more = {"max_pool2d": (2,), "avg_pool2d": (2,), "adaptive_avg_pool2d": (3,)}
    more |= dict.fromkeys(("interpolate", "upsample", "upsample_nearest", "upsample_bilinear"), (16,))
    arguments = more.get(name, ())
    assert torch.equal(getattr(QF, name)(x.clone(), *arguments), getattr(F, name)(x.clone(), *arguments))


@pytest.mark.parametrize("name", QF.__all__)
@pytest.mark.parametrize("kind", ["per channel", "qint32"])
def test_tensors_that_are_no_activations(name: str, kind: str) -> None:
    x = torch.randn(2, 3, 8, 8)
    q = (
        qfx.quantize_per_tensor(x, 0.1, 0, qfx.qint32)
        if kind == "qint32"
        else qfx.quantize_per_channel(x, [0.1] * 3, [0] * 3, 1, qfx.quint8)
    )
    more = {"max_pool2d": (2,), "avg_pool2d": (2,), "adaptive_avg_pool2d": (3,)}
    more |= dict.fromkeys(("interpolate", "upsample", "upsample_nearest", "upsample_bilinear"), (16,))
    with pytest.raises(QfxError, match=kind):
        getattr(QF, name)(q, *more.get(name, ()))


def test_the_table_and_the_functions_agree() -> None:
    x = make(2, 3, 8, 8)
    want = TABLE["adaptive_avg_pool"].integer(x.array, output_size=(3, 3), out=x.qparams)
    assert torch.equal(QF.adaptive_avg_pool2d(x, 3).int_repr(), want)
