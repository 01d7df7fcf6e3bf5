"""Unchanged float code on QTensors: torch.*, F.* and nn modules."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import qfx
from qfx.errors import InputError, QfxError, UnsupportedError
from qfx.ir.types import QDType
from qfx.tensor import QTensor

SCALE = 0.05


def make(*shape: int, dtype: QDType = qfx.quint8) -> QTensor:
    zero_point = 100 if dtype is qfx.quint8 else -28
    return qfx.quantize_per_tensor(torch.randn(shape) * 2, SCALE, zero_point, dtype)


SAME_QPARAMS = {
    "torch.relu": torch.relu,
    "F.relu": F.relu,
    "x.relu": lambda x: x.relu(),
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU6": nn.ReLU6(),
    "F.hardtanh": lambda x: F.hardtanh(x, -0.7, 1.3),
    "nn.Hardtanh": nn.Hardtanh(),
    "torch.clamp": lambda x: torch.clamp(x, -1.0, 1.0),
    "x.clamp_min": lambda x: x.clamp(min=0.2),
    "F.leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "nn.LeakyReLU": nn.LeakyReLU(0.1),
    "F.elu": F.elu,
    "nn.ELU": nn.ELU(0.5),
    "nn.CELU": nn.CELU(1.5),
    "F.hardswish": F.hardswish,
    "nn.Hardswish": nn.Hardswish(),
    "F.gelu": F.gelu,
    "F.silu": F.silu,
    "F.threshold": lambda x: F.threshold(x, 0.1, -0.5),
    "nn.Hardshrink": nn.Hardshrink(),
    "F.avg_pool1d": lambda x: F.avg_pool1d(x[0], 2),
    "F.avg_pool2d": lambda x: F.avg_pool2d(x, 3, 2, 1, True, False),
    "nn.AvgPool2d": nn.AvgPool2d(2, divisor_override=3),
    "nn.AvgPool3d": lambda x: nn.AvgPool3d(2)(x[None]),
    "F.max_pool1d": lambda x: F.max_pool1d(x[0], 2),
    "nn.MaxPool2d": nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    "nn.MaxPool2d dilated": nn.MaxPool2d(2, dilation=2),
    "torch.max_pool2d": lambda x: torch.max_pool2d(x, 2),
    "nn.MaxPool3d": lambda x: nn.MaxPool3d(2)(x[None]),
    "F.adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x, (3, 5)),
    "nn.AdaptiveAvgPool2d": nn.AdaptiveAvgPool2d((None, 1)),
    "nn.AdaptiveAvgPool1d": lambda x: nn.AdaptiveAvgPool1d(3)(x[0]),
    "nn.AdaptiveMaxPool2d": nn.AdaptiveMaxPool2d(3),
    "F.interpolate nearest": lambda x: F.interpolate(x, scale_factor=2),
    "F.interpolate size": lambda x: F.interpolate(x, size=13),
    "F.interpolate bilinear": lambda x: F.interpolate(x, size=(5, 13), mode="bilinear"),
    "F.interpolate 3d": lambda x: F.interpolate(x[None], scale_factor=2),
    "F.interpolate 1d": lambda x: F.interpolate(x[0], size=5),
    "nn.Upsample": nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=True),
    "nn.UpsamplingNearest2d": nn.UpsamplingNearest2d(size=(3, 4)),
    "torch.cat": lambda x: torch.cat([x, x], 1),
    "torch.stack": lambda x: torch.stack([x, x], 1),
    "nn.Dropout": nn.Dropout().eval(),
    "nn.Dropout2d": nn.Dropout2d().eval(),
    "nn.Identity": nn.Identity(),
    "nn.Flatten": nn.Flatten(),
    "F.pad": lambda x: F.pad(x, (1, 2)),
    "nn.ReflectionPad2d": nn.ReflectionPad2d(1),
    "nn.PixelShuffle": nn.PixelShuffle(2),
    "nn.ChannelShuffle": nn.ChannelShuffle(2),
    "x.mean": lambda x: x.mean(),
    "torch.mean": lambda x: torch.mean(x, (2, 3), keepdim=True),
    "torch.amax": lambda x: torch.amax(x, 1),
}
FIXED = {
    "torch.sigmoid": (torch.sigmoid, 1 / 256, 0),
    "F.sigmoid": (lambda x: x.sigmoid(), 1 / 256, 0),
    "nn.Sigmoid": (nn.Sigmoid(), 1 / 256, 0),
    "F.hardsigmoid": (F.hardsigmoid, 1 / 256, 0),
    "nn.Hardsigmoid": (nn.Hardsigmoid(), 1 / 256, 0),
    "torch.tanh": (torch.tanh, 2 / 256, 128),
    "nn.Tanh": (nn.Tanh(), 2 / 256, 128),
    "nn.Softmax": (nn.Softmax(-1), 1 / 256, 0),
}


def nearest(x: QTensor, function: Any, scale: float, zero_point: int) -> torch.Tensor:
    """Where the float function's result lies on the integers' axis, within their range."""
    real = function((x.int_repr().double() - x.q_zero_point()) * float(torch.tensor(x.q_scale())))
    position = real / float(torch.tensor(scale)) + zero_point
    return position.clamp(x.dtype.qmin, x.dtype.qmax)


@pytest.mark.inventory("S043")
@pytest.mark.filterwarnings("ignore:.*deprecated:UserWarning")
@pytest.mark.parametrize("dtype", [qfx.quint8, qfx.qint8], ids=lambda d: d.name)
@pytest.mark.parametrize("name", SAME_QPARAMS)
def test_same_parameters(name: str, dtype: QDType) -> None:
    x, function = make(2, 4, 8, 8, dtype=dtype), SAME_QPARAMS[name]
    before = x.clone()
    y = function(x)
    assert isinstance(y, QTensor)
    assert y.qparams == x.qparams
    want = nearest(x, function, x.q_scale(), x.q_zero_point())
    assert y.shape == want.shape
    # The nearest integer; float32 may take either of two where the exact result lies halfway.
    assert (y.int_repr().double() - want).abs().max() <= 0.5 + 1e-4
    assert torch.equal(x, before)


@pytest.mark.inventory("S043")
@pytest.mark.parametrize("dtype", [qfx.quint8, qfx.qint8], ids=lambda d: d.name)
@pytest.mark.parametrize("name", FIXED)
def test_fixed_parameters(name: str, dtype: QDType) -> None:
    function, scale, zero_point = FIXED[name]
    zero_point -= 0 if dtype is qfx.quint8 else 128
    x = make(2, 4, 8, 8, dtype=dtype)
    y = function(x)
    assert (y.q_scale(), y.q_zero_point(), y.dtype) == (scale, zero_point, dtype)
    assert (y.int_repr().double() - nearest(x, function, scale, zero_point)).abs().max() <= 0.5 + 1e-4


IN_PLACE = {
    "torch.relu_": (torch.relu_, F.relu),
    "F.relu_": (F.relu_, F.relu),
    "x.relu_": (lambda x: x.relu_(), F.relu),
    "nn.ReLU": (nn.ReLU(inplace=True), F.relu),
    "F.hardtanh_": (lambda x: F.hardtanh_(x, -0.5, 0.5), lambda x: F.hardtanh(x, -0.5, 0.5)),
    "nn.ReLU6": (nn.ReLU6(inplace=True), F.relu6),
    "F.leaky_relu_": (F.leaky_relu_, F.leaky_relu),
    "F.elu_": (F.elu_, F.elu),
    "x.clamp_": (lambda x: x.clamp_(-1, 1), lambda x: x.clamp(-1, 1)),
    "nn.Hardswish": (nn.Hardswish(inplace=True), F.hardswish),
    "x.sigmoid_": (lambda x: x.sigmoid_(), torch.sigmoid),
}


@pytest.mark.inventory("S043", "S045")
@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place(name: str) -> None:
    changes, function = IN_PLACE[name]
    x = make(2, 4, 8, 8)
    want, address = function(x), x.data_ptr()
    assert changes(x) is x
    assert x.data_ptr() == address
    assert torch.equal(x, want)


@pytest.mark.inventory("S023")
@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", [None, 0, -1, (1, 2), (0, -1), [0, 1, 2]], ids=str)
def test_mean(dim: Any, keepdim: bool) -> None:
    x = make(3, 4, 5)
    kwargs = {} if dim is None else {"dim": dim, "keepdim": keepdim}
    out = qfx.quantize_per_tensor(torch.zeros(1), 0.01, 50, qfx.quint8)
    y = x.mean(**kwargs)
    want = nearest(x, lambda v: v.mean(**kwargs), SCALE, 100)
    assert y.qparams == x.qparams
    assert (y.int_repr().double() - want).abs().max() <= 0.5 + 1e-4
    assert torch.mean(x, out=out, **kwargs) is out
    finer = nearest(x, lambda v: v.mean(**kwargs), 0.01, 50)
    assert (out.q_scale(), out.q_zero_point(), out.shape) == (0.01, 50, y.shape)
    assert (out.int_repr().double() - finer).abs().max() <= 0.5 + 1e-4


def test_out_gives_the_parameters() -> None:
    x, y = make(2, 3), make(2, 3)
    out = qfx.quantize_per_tensor(torch.zeros(2, 3), 0.1, 128, qfx.quint8)
    assert torch.add(x, y, out=out) is out
    assert (out.q_scale(), out.q_zero_point()) == (0.1, 128)
    want = (x.dequantize().double() + y.dequantize().double()) / float(torch.tensor(0.1)) + 128
    assert (out.int_repr().double() - want.clamp(0, 255)).abs().max() <= 0.5 + 1e-4
    with pytest.raises(InputError, match="float out="):
        torch.add(x, y, out=torch.zeros(2, 3))


def test_joining_with_nothing() -> None:
    x = make(2, 3)
    assert torch.equal(torch.cat([x, x[0, :0]]), x)
    assert torch.cat([x[0, :0]]).shape == (0,)


NEEDS_QPARAMS = {
    "x + x": lambda x: x + x,
    "torch.add": lambda x: torch.add(x, x),
    "x * x": lambda x: x * x,
    "x + 1": lambda x: x + 1,
    "2 * x": lambda x: 2 * x,
    "x += x": lambda x: x.__iadd__(x),
    "x @ x": lambda x: x @ x,
    "torch.exp": torch.exp,
    "F.conv2d": lambda x: F.conv2d(x, torch.randn(3, 4, 1, 1)),
    "nn.Conv2d": nn.Conv2d(4, 3, 1),
    "F.linear": lambda x: F.linear(x, torch.randn(3, 8)),
    "nn.Linear": nn.Linear(8, 3),
    "nn.BatchNorm2d": nn.BatchNorm2d(4).eval(),
    "nn.LayerNorm": nn.LayerNorm(8),
    "x.sum": lambda x: x.sum(),
    "F.glu": F.glu,
}


@pytest.mark.inventory("S043", "S189", "S207")
@pytest.mark.parametrize("name", NEEDS_QPARAMS)
def test_what_needs_parameters_of_its_own_says_which_function_takes_them(name: str) -> None:
    with pytest.raises(UnsupportedError, match="needs the scale and zero point") as caught:
        NEEDS_QPARAMS[name](make(2, 4, 8, 8))
    assert caught.value.remedy
    assert "qfx." in caught.value.remedy


@pytest.mark.parametrize(
    "call",
    [
        lambda x: F.max_pool2d(x, 2, return_indices=True),
        nn.Dropout(),
        lambda x: F.avg_pool2d(x, 0),
        lambda x: F.relu(qfx.quantize_per_channel(torch.randn(2), [0.1, 0.2], [0, 0], 0, qfx.quint8)),
        lambda x: F.relu(qfx.quantize_per_tensor(torch.randn(2), 0.1, 0, qfx.qint32)),
        lambda x: torch.cat([x, torch.randn(2, 4, 8, 8)]),
        lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True),
        lambda x: torch.randn(2, 4, 8, 8) + x,
    ],
)
def test_calls_that_integers_do_not_define(call: Any) -> None:
    with pytest.raises(QfxError) as caught:
        call(make(2, 4, 8, 8))
    assert caught.value.remedy
