"""qfx.nn.quantized.functional: explicit parameters, exact integers, QTensors only; torch.ao as a peer."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import qfx
import qfx.nn.quantized.functional as qF
from qfx.errors import InputError, QfxError, QuantizationError
from qfx.ir.types import QArray, QDType, QParams
from qfx.ops import TABLE
from qfx.passes.weights import quantize_bias
from qfx.tensor import QTensor

SCALE, ZERO = 0.05, 100


def make(*shape: int, scale: float = SCALE, zero_point: int = ZERO, dtype: QDType = qfx.quint8) -> QTensor:
    return qfx.quantize_per_tensor(torch.randn(shape), scale, zero_point, dtype)


def weight(*shape: int, per_channel: bool) -> QTensor:
    w = torch.randn(shape) * torch.logspace(-1, 1, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    if not per_channel:
        return qfx.quantize_per_tensor(w, float(w.abs().max()) / 127, 0, qfx.qint8)
    scales = w.flatten(1).abs().amax(1) / 127
    return qfx.quantize_per_channel(w, scales, [0] * shape[0], 0, qfx.qint8)


def integer_bias(bias: Tensor | None, x: QTensor, w: QTensor) -> QArray | None:
    if bias is None:
        return None
    codes, scale = quantize_bias(bias, x.array.scale, w.array.scale)
    return QArray(codes, scale, torch.zeros_like(codes))


def reference(name: str, x: QTensor, w: QTensor, b: Tensor | None, out: QParams, **attributes: Any) -> Tensor:
    """Integers in exact arithmetic."""
    op = TABLE[name]
    assert op.integer is not None
    return op.integer(x.array, w.array, integer_bias(b, x, w), out=out, **attributes)


def within_a_quantum(ours: QTensor, theirs: Tensor) -> bool:
    """torch.ao rounds its bias and multiplier otherwise: one quantum apart at most."""
    return bool((ours.int_repr().int() - theirs.int_repr().int()).abs().max() <= 1)


ROWS = {1: "S146", 2: "S147", 3: "S148"}
CONVS = [
    pytest.param(spatial, arguments, marks=pytest.mark.inventory(ROWS[spatial], "S042", "S219"))
    for spatial in ROWS
    for arguments in (
        {},
        {"stride": 2, "padding": 1},
        {"stride": (1, 2, 2)[:spatial], "padding": (1, 0, 1)[:spatial], "dilation": (2, 1, 2)[:spatial]},
        {"groups": 2},
        {"padding": 1, "padding_mode": "reflect"},
        {"padding": 2, "padding_mode": "circular"},
    )
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [qfx.quint8, qfx.qint8], ids=lambda d: d.name)
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("spatial", "arguments"), CONVS, ids=str)
def test_conv(spatial: int, arguments: dict[str, Any], bias: bool, per_channel: bool, dtype: QDType) -> None:
    groups = arguments.get("groups", 1)
    x = make(2, 4, *(6, 7, 5)[:spatial], zero_point=ZERO if dtype is qfx.quint8 else -28, dtype=dtype)
    w = weight(6, 4 // groups, *(3, 2, 2)[:spatial], per_channel=per_channel)
    b = torch.randn(6) if bias else None
    zero_point = 90 if dtype is qfx.quint8 else -40
    y = getattr(qF, f"conv{spatial}d")(x, w, b, **arguments, scale=0.3, zero_point=zero_point, dtype=dtype)
    out = QParams(0.3, zero_point, dtype)
    assert y.qparams == out

    def each(value: Any) -> tuple[int, ...]:
        return value if isinstance(value, tuple) else (value,) * spatial

    padding = each(arguments.get("padding", 0))
    source, mode = x, arguments.get("padding_mode", "zeros")
    if mode != "zeros":
        flat = [p for amount in reversed(padding) for p in (amount, amount)]
        source = QTensor(F.pad(x.int_repr().float(), flat, mode).to(x.codes.dtype), x.qparams)
        padding = (0,) * spatial
    want = reference(
        "conv", source, w, b, out, stride=each(arguments.get("stride", 1)), padding=[(p, p) for p in padding],
        dilation=each(arguments.get("dilation", 1)), groups=groups,
    )  # fmt: skip
    assert torch.equal(y.int_repr(), want)
    if dtype is qfx.quint8 and mode == "zeros":  # torch.ao has no other mode
        theirs = getattr(torch.ao.nn.quantized.functional, f"conv{spatial}d")(
            x.to_torch(), w.to_torch(), b, **arguments, scale=0.3, zero_point=zero_point
        )
        assert within_a_quantum(y, theirs)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.inventory("S150", "S219")
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("shape", [(3, 8), (8,), (2, 3, 8)], ids=str)
def test_linear(shape: tuple[int, ...], per_channel: bool) -> None:
    x, w, b = make(*shape), weight(5, 8, per_channel=per_channel), torch.randn(5)
    for bias in (b, None):
        y = qF.linear(x, w, bias, 0.2, 77)
        assert y.qparams == QParams(0.2, 77, qfx.quint8)
        assert torch.equal(y.int_repr(), reference("linear", x, w, bias, y.qparams))
        if len(shape) > 1:
            theirs = torch.ao.nn.quantized.functional.linear(x.to_torch(), w.to_torch(), bias, 0.2, 77)
            assert within_a_quantum(y, theirs)
    own = qF.linear(x, w, b)
    assert own.qparams == x.qparams
    assert torch.equal(own.int_repr(), reference("linear", x, w, b, x.qparams))


# ---------------------------------------------------------------- functions that keep the input's parameters

SAME: list[tuple[str, str, tuple[int, ...], tuple[Any, ...], dict[str, Any]]] = [
    ("S143", "adaptive_avg_pool2d", (2, 3, 7, 8), (3,), {}),
    ("S143", "adaptive_avg_pool2d", (2, 3, 7, 8), ((None, 2),), {}),
    ("S144", "avg_pool2d", (2, 3, 7, 8), (2,), {}),
    ("S144", "avg_pool2d", (2, 3, 7, 8), (3, 2, 1, True, False), {}),
    ("S144", "avg_pool2d", (2, 3, 7, 8), ((2, 3),), {"divisor_override": 5}),
    ("S145", "avg_pool3d", (2, 3, 4, 7, 8), (2,), {}),
    ("S145", "avg_pool3d", (2, 3, 4, 7, 8), ((2, 3, 2), 2, 1, True, False), {}),
    ("S145", "avg_pool3d", (2, 3, 4, 7, 8), (2,), {"divisor_override": 5}),
    ("S149", "interpolate", (2, 3, 7, 8), (), {"size": (9, 5)}),
    ("S149", "interpolate", (2, 3, 7, 8), (), {"scale_factor": 2.0, "mode": "bilinear"}),
    ("S149", "interpolate", (2, 3, 7, 8), (), {"size": (9, 5), "mode": "bilinear", "align_corners": True}),
    ("S149", "interpolate", (2, 3, 3, 7, 8), (), {"scale_factor": 2.0}),
    ("S151", "max_pool2d", (2, 3, 7, 8), (2,), {}),
    ("S151", "max_pool2d", (2, 3, 7, 8), (3, 2, 1, 1, True), {}),
    ("S152", "relu", (3, 4), (), {}),
    ("S156", "hardtanh", (3, 4), (), {}),
    ("S156", "hardtanh", (3, 4), (-0.2, 0.7), {}),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "shape", "args", "kwargs"),
    [pytest.param(*rest, marks=pytest.mark.inventory(row), id=f"{rest[0]}-{i}") for i, (row, *rest) in enumerate(SAME)],
)
def test_same_parameters(name: str, shape: tuple[int, ...], args: Any, kwargs: Any) -> None:
    x = make(*shape)
    y = getattr(qF, name)(x, *args, **kwargs)
    assert y.qparams == x.qparams
    assert_nearest(y, x, lambda v: getattr(F, name)(v, *args, **kwargs))
    peer = getattr(torch.ao.nn.quantized.functional, name, torch.relu)
    # torch.ao's averages round half away where ours go to the even, and its bilinear works on integers: one apart.
    assert within_a_quantum(y, peer(x.to_torch(), *args, **kwargs))


def assert_nearest(y: QTensor, x: QTensor, function: Any) -> None:
    real = function((x.int_repr().double() - x.q_zero_point()) * float(torch.tensor(x.q_scale())))
    want = (real / float(torch.tensor(y.q_scale())) + y.q_zero_point()).clamp(y.dtype.qmin, y.dtype.qmax)
    assert y.shape == want.shape
    assert (y.int_repr().double() - want).abs().max() <= 0.5 + 1e-4


@pytest.mark.inventory("S151")
def test_max_pool2d_is_exact_and_refuses_indices() -> None:
    x = make(2, 3, 7, 8)
    y = qF.max_pool2d(x, 3, 2, 1)
    assert torch.equal(y.int_repr().float(), F.max_pool2d(x.int_repr().float(), 3, 2, 1))
    with pytest.raises(QfxError):
        qF.max_pool2d(x, 3, return_indices=True)


@pytest.mark.inventory("S152", "S156")
def test_in_place() -> None:
    for name in ("relu", "hardtanh", "leaky_relu"):
        x = make(3, 4)
        want = getattr(qF, name)(x)
        assert getattr(qF, name)(x, inplace=True) is x
        assert torch.equal(x, want)


# ---------------------------------------------------------------- functions with parameters of their own


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "kwargs", "float_function"),
    [
        pytest.param("elu", {}, F.elu, marks=pytest.mark.inventory("S153", "S219")),
        pytest.param("elu", {"alpha": 0.3}, lambda v: F.elu(v, 0.3), marks=pytest.mark.inventory("S153")),
        pytest.param("hardswish", {}, F.hardswish, marks=pytest.mark.inventory("S155", "S219")),
        ("celu", {"alpha": 1.3}, lambda v: F.celu(v, 1.3)),
        ("leaky_relu", {"negative_slope": 0.2}, lambda v: F.leaky_relu(v, 0.2)),
    ],
)
@pytest.mark.parametrize("zero_point", [0, 128, 255])
def test_own_parameters(name: str, kwargs: Any, float_function: Any, zero_point: int) -> None:
    x = QTensor(torch.arange(256).to(torch.uint8), QParams(SCALE, zero_point, qfx.quint8))
    y = getattr(qF, name)(x, scale=0.03, zero_point=40, **kwargs)
    assert y.qparams == QParams(0.03, 40, qfx.quint8)
    assert_nearest(y, x, float_function)
    peer = getattr(torch.ao.nn.quantized.functional, name)
    assert within_a_quantum(y, peer(x.to_torch(), scale=0.03, zero_point=40, **kwargs))


@pytest.mark.inventory("S154")
def test_hardsigmoid() -> None:
    x = QTensor(torch.arange(256).to(torch.uint8), QParams(SCALE, 100, qfx.quint8))
    y = qF.hardsigmoid(x)
    assert y.qparams == QParams(1 / 256, 0, qfx.quint8)
    assert_nearest(y, x, F.hardsigmoid)


def test_clamp_and_threshold() -> None:
    x = make(30)
    assert_nearest(qF.clamp(x, -0.5, 0.6), x, lambda v: v.clamp(-0.5, 0.6))
    assert_nearest(qF.threshold(x, 0.1, -0.5), x, lambda v: F.threshold(v, 0.1, -0.5))


@pytest.mark.parametrize(
    ("name", "instead", "kwargs"),
    [
        pytest.param("upsample", {}, {}, marks=pytest.mark.inventory("S157")),
        pytest.param(
            "upsample_bilinear", {"mode": "bilinear", "align_corners": True}, {}, marks=pytest.mark.inventory("S158")
        ),
        pytest.param("upsample_nearest", {"mode": "nearest"}, {}, marks=pytest.mark.inventory("S159")),
    ],
)
def test_old_names_warn(name: str, instead: Any, kwargs: Any) -> None:
    x = make(2, 3, 4, 5)
    with pytest.warns(DeprecationWarning, match=f"{name} is deprecated: call interpolate"):
        y = getattr(qF, name)(x, scale_factor=2.0, **kwargs)
    assert torch.equal(y, qF.interpolate(x, scale_factor=2.0, **instead))


# ---------------------------------------------------------------- arithmetic


@pytest.mark.filterwarnings("ignore")
@pytest.mark.inventory("S218", "S219")
@pytest.mark.parametrize("name", ["add", "sub", "mul", "add_relu", "mul_relu"])
@pytest.mark.parametrize("shapes", [((2, 3, 4, 5), (2, 3, 4, 5)), ((2, 3, 4, 5), (5,)), ((3, 1), (2, 1, 4))], ids=str)
def test_arithmetic(name: str, shapes: Any) -> None:
    x, y = make(*shapes[0]), make(*shapes[1], scale=0.02, zero_point=30)
    z = getattr(qF, name)(x, y, 0.07, 110)
    assert z.qparams == QParams(0.07, 110, qfx.quint8)
    op, activation = TABLE[name.removesuffix("_relu")], ("clamp", 0.0, None) if "relu" in name else None
    assert op.integer is not None
    assert torch.equal(z.int_repr(), op.integer(x.array, y.array, activation=activation, out=z.qparams))
    if name != "sub" and shapes[0] == shapes[1]:
        peer = getattr(torch.ops.quantized, name)
        assert within_a_quantum(z, peer(x.to_torch(), y.to_torch(), 0.07, 110))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [qfx.quint8, qfx.qint8], ids=lambda d: d.name)
@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 0.33, 10.0, -10.0])
def test_numbers(value: float, dtype: QDType) -> None:
    x = make(50, zero_point=100 if dtype is qfx.quint8 else -28, dtype=dtype)
    for name in ("add_scalar", "mul_scalar"):
        ours = getattr(qF, name)(x, value)
        theirs = getattr(torch.ops.quantized, name)(x.to_torch(), value)
        assert ours.q_zero_point() == theirs.q_zero_point()
        assert ours.q_scale() == pytest.approx(theirs.q_scale(), rel=1e-6)  # theirs goes through float32
        assert within_a_quantum(ours, theirs)
    exact = x.dequantize().double() * value
    assert torch.allclose(qF.mul_scalar(x, value).dequantize().double(), exact, rtol=1e-6, atol=0)


def test_cat() -> None:
    a, b = make(2, 3), make(2, 3, scale=0.02, zero_point=30)
    own = qF.cat([a, b])
    assert own.qparams == a.qparams
    assert torch.equal(
        own, qfx.quantize_per_tensor(torch.cat([a.dequantize(), b.dequantize()]), SCALE, ZERO, qfx.quint8)
    )
    given = qF.cat([a, b], 1, 0.1, 7)
    assert (given.q_scale(), given.q_zero_point(), given.shape) == (0.1, 7, (2, 6))
    with pytest.raises(InputError, match="no tensors"):
        qF.cat([])


def test_norms_and_matmul() -> None:
    x = make(2, 4, 5, 6)
    w, b = torch.randn(4), torch.randn(4)
    for y, function in (
        (qF.layer_norm(x, [6], None, None, 1e-5, 0.03, 128), lambda v: F.layer_norm(v, [6])),
        (qF.group_norm(x, 2, w, b, 1e-5, 0.05, 128), lambda v: F.group_norm(v, 2, w.double(), b.double())),
        (qF.instance_norm(x, None, None, 1e-5, 0.03, 128), F.instance_norm),
        (qF.matmul(x, x.transpose(2, 3), 0.3, 128), lambda v: v @ v.transpose(2, 3)),
    ):
        assert_nearest(y, x, function)
    factor = qfx.quantize_per_tensor(w, 0.02, 0, qfx.qint8)
    y = qF.batch_norm(x, factor, b, 0.1, 128)
    want = reference_affine(x, factor, b, y.qparams)
    assert torch.equal(y.int_repr(), want)


def reference_affine(x: QTensor, factor: QTensor, shift: Tensor, out: QParams) -> Tensor:
    op = TABLE["channel_affine"]
    assert op.integer is not None
    return op.integer(x.array, factor.array, integer_bias(shift.expand(4), x, factor), out=out)


# ---------------------------------------------------------------- bad input

CALLS: dict[str, tuple[Any, ...]] = {
    "adaptive_avg_pool2d": (1,),
    "adaptive_avg_pool3d": (1,),
    "avg_pool2d": (1,),
    "avg_pool3d": (1,),
    "max_pool1d": (1,),
    "max_pool2d": (1,),
    "interpolate": (4,),
    "upsample": (4,),
    "upsample_nearest": (4,),
    "upsample_bilinear": (4,),
    "relu": (),
    "hardtanh": (),
    "clamp": (0.0, 1.0),
    "threshold": (0.0, 1.0),
    "hardsigmoid": (),
    "hardswish": (0.1, 0),
    "elu": (0.1, 0),
    "celu": (0.1, 0),
    "leaky_relu": (),
    "conv1d": (None, None),
    "conv2d": (None, None),
    "conv3d": (None, None),
    "linear": (None,),
    "add": (None, 0.1, 0),
    "add_relu": (None, 0.1, 0),
    "sub": (None, 0.1, 0),
    "mul": (None, 0.1, 0),
    "mul_relu": (None, 0.1, 0),
    "matmul": (None, 0.1, 0),
    "add_scalar": (1.0,),
    "mul_scalar": (1.0,),
    "batch_norm": (None, None, 0.1, 0),
    "layer_norm": ([4], None, None, 1e-5, 0.1, 0),
    "group_norm": (1, None, None, 1e-5, 0.1, 0),
    "instance_norm": (None, None, 1e-5, 0.1, 0),
}


@pytest.mark.inventory("S143", "S144", "S145", "S149", "S150", "S152")
@pytest.mark.parametrize("name", CALLS)
def test_floats_are_refused(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with pytest.raises(InputError, match="where a QTensor belongs") as caught:
            getattr(qF, name)(torch.randn(2, 3, 4, 4), *CALLS[name])
    assert "quantize_per_tensor" in str(caught.value)


def test_every_function_is_tried_with_floats() -> None:
    assert set(CALLS) | {"cat"} == set(qF.__all__)


@pytest.mark.parametrize("spatial", [pytest.param(n, marks=pytest.mark.inventory(row)) for n, row in ROWS.items()])
@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda f, x, w: f(x, w.dequantize(), None), InputError, "weight of torch.float32"),
        (lambda f, x, w: f(x, x, None), QuantizationError, "weight of qfx.quint8"),
        (lambda f, x, w: f(x, w, None, dtype=qfx.qint32), QuantizationError, "qint32"),
        (lambda f, x, w: f(x, w, None, dtype=torch.float32), QuantizationError, "float32"),
        (lambda f, x, w: f(x, w, torch.ones(4).int()), InputError, "bias of torch.int32"),
        (lambda f, x, w: f(x, w, None, stride=(1, 2, 3, 4)), InputError, "[123] dims"),
        (lambda f, x, w: f(x, w, None, scale=-1.0), QuantizationError, "-1.0 is not a scale"),
        (lambda f, x, w: f(x, w, None, zero_point=300), QuantizationError, "Zero point 300"),
        (lambda f, x, w: f(x, w[..., 0], None), InputError, "conv does not run"),
        (
            lambda f, x, w: f(qfx.quantize_per_tensor(x.dequantize(), 0.1, 0, qfx.qint32), w, None),
            QuantizationError,
            "qint32",
        ),
    ],
)
def test_bad_convolutions(spatial: int, call: Any, error: type[Exception], match: str) -> None:
    function = getattr(qF, f"conv{spatial}d")
    with pytest.raises(error, match=match) as caught:
        call(function, make(2, 3, *[8] * spatial), weight(4, 3, *[3] * spatial, per_channel=False))
    assert caught.value.remedy


@pytest.mark.inventory("S150")
@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda x, w: qF.linear(x, w[..., 0, 0]), InputError, "linear does not run"),
        (lambda x, w: qF.linear(qfx.quantize_per_tensor(torch.randn(2, 3), 0.1, 0, qfx.qint32), w), QfxError, "qint32"),
        (lambda x, w: qF.avg_pool2d(x, 9), InputError, "avg_pool does not run"),
    ],
)
def test_bad_calls(call: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match) as caught:
        call(make(2, 3, 8, 8), weight(4, 3, 3, 3, per_channel=False))
    assert caught.value.remedy


@pytest.mark.inventory("S174", "S042")
def test_a_network_written_by_hand() -> None:
    torch.manual_seed(0)
    image, w1, b1, w2 = torch.randn(2, 3, 8, 8), torch.randn(8, 3, 3, 3) / 3, torch.randn(8), torch.randn(5, 8) / 3
    x = qfx.quantize_per_tensor(image, 0.03, 128, qfx.quint8)
    q1 = qfx.quantize_per_channel(w1, w1.flatten(1).abs().amax(1) / 127, [0] * 8, 0, qfx.qint8)
    q2 = qfx.quantize_per_tensor(w2, float(w2.abs().max()) / 127, 0, qfx.qint8)
    y = qF.relu(qF.conv2d(x, q1, b1, padding=1, scale=0.06, zero_point=128))
    y = torch.flatten(qF.adaptive_avg_pool2d(F.max_pool2d(y, 2), 1), 1)
    y = qF.linear(y, q2, None, 0.03, 128)
    want = F.relu(F.conv2d(image, w1, b1, padding=1))
    want = F.adaptive_avg_pool2d(F.max_pool2d(want, 2), 1).flatten(1) @ w2.T
    assert (y.q_scale(), y.q_zero_point()) == (0.03, 128)
    assert (y.dequantize() - want).abs().max() < 0.1 * want.abs().max()
