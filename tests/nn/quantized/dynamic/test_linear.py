"""The dynamic Linear: its integers, its distance from the float layer, its edges, its state."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qfx
from qfx.errors import ConversionError, InputError, QuantizationError, UnsupportedError
from qfx.nn.quantized import dynamic
from qfx.ops import arithmetic
from qfx.quantization import MinMaxObserver, QConfigDynamic, float16_dynamic_qconfig, per_tensor_dynamic_qconfig
from qfx.quantization import per_channel_dynamic_qconfig as per_channel

pytestmark = pytest.mark.inventory("S138")
AFFINE = QConfigDynamic(weight=MinMaxObserver.with_args(dtype=qfx.qint8, qscheme=qfx.per_tensor_affine))
QCONFIGS = {"per tensor": per_tensor_dynamic_qconfig, "per channel": per_channel, "affine": AFFINE}


def layer(qconfig: Any = None, inputs: int = 37, outputs: int = 21, bias: bool = True, seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    made = nn.Linear(inputs, outputs, bias=bias).eval().requires_grad_(False)
    made.weight += 0.05  # so that an affine observer finds a zero point
    made.qconfig = qconfig
    return made


def by_hand(q: dynamic.Linear, x: Tensor) -> Tensor:
    """The formula of the class, in int64 and float32."""
    flat = x.reshape(-1, x.shape[-1])
    scaled = flat.split(1) if bool(q.state_dict()["input_per_row"]) else (flat,)
    return torch.cat([with_one_scale(q, part) for part in scaled]).reshape(*x.shape[:-1], -1)


def with_one_scale(q: dynamic.Linear, x: Tensor) -> Tensor:
    state = q.state_dict()
    scale, zero_point = arithmetic.affine_qparams(float(x.min()), float(x.max()), 0, 255)
    step, zero = torch.tensor(scale), torch.tensor(zero_point)
    codes = arithmetic.quantize(x, step, zero, 0, 255) - zero_point
    rows = state["weight"].shape[:1]
    weights = state["weight"].to(torch.int64) - state["weight_zero_point"].expand(rows)[:, None]
    y = (codes @ weights.T).float() * (step * state["weight_scale"].expand(rows))
    return y if "bias" not in state else y + state["bias"]


@pytest.mark.parametrize("name", QCONFIGS)
@pytest.mark.parametrize("shape", [(37,), (1, 37), (5, 37), (2, 3, 37), (0, 37)])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_the_formula_bit_for_bit(name: str, shape: tuple[int, ...], bias: bool) -> None:
    q = dynamic.Linear.from_float(layer(QCONFIGS[name], bias=bias))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(3)) * 3
    wanted = by_hand(q, x) if x.numel() else torch.zeros(*shape[:-1], 21)
    assert torch.equal(q(x), wanted)


@pytest.mark.parametrize("name", QCONFIGS)
def test_is_within_the_steps_of_both_roundings_of_the_float_layer(name: str) -> None:
    mod = layer(QCONFIGS[name])
    q, x = dynamic.Linear.from_float(mod), torch.randn(64, 37)
    state = q.state_dict()
    zero_point = state["weight_zero_point"].expand(21)[:, None]
    weight = (state["weight"] - zero_point) * state["weight_scale"].expand(21)[:, None]
    axes = -1 if q.per_row else (0, 1)
    step = (x.amax(axes, True).clamp(min=0) - x.amin(axes, True).clamp(max=0)) / 255
    # The zero point is rounded too: a value at the range's end is off by up to a whole step.
    bound = x.abs() @ (weight - mod.weight).abs().T + step * weight.abs().sum(1)
    assert bool(((q(x) - mod(x)).abs() <= bound + 1e-5).all())


def test_float16_weights_are_rounded_and_nothing_else() -> None:
    mod = layer(float16_dynamic_qconfig)
    q, x = dynamic.Linear.from_float(mod), torch.randn(6, 37)
    assert q.state_dict()["weight"].dtype is torch.float16
    wanted = x.double() @ mod.weight.half().double().T + mod.bias.double()
    # float32 sums of 37 products and a bias: at most 38 roundings of the sum of magnitudes.
    bound = 38 * 2.0**-24 * (x.double().abs() @ mod.weight.half().double().abs().T + mod.bias.double().abs())
    assert bool(((q(x).double() - wanted).abs() <= bound).all())


@pytest.mark.parametrize("value", [0.0, 2.5, -2.5])
def test_a_batch_of_one_value(value: float) -> None:
    q = dynamic.Linear.from_float(layer(per_channel))
    x = torch.full((3, 37), value)
    assert torch.equal(q(x), by_hand(q, x))


def test_the_range_is_that_of_the_call() -> None:
    q = dynamic.Linear.from_float(layer(per_tensor_dynamic_qconfig))
    x = torch.randn(4, 37)
    together, alone = q(torch.cat([x, 1000 * x])), q(x)
    assert not torch.equal(together[:4], alone)
    assert torch.equal(q(x), alone)


@pytest.mark.parametrize("eager", [True, False])
def test_a_row_does_not_depend_on_its_neighbours(eager: bool) -> None:
    x = torch.randn(6, 37) * 10.0 ** torch.arange(-3, 3)[:, None]
    q = dynamic.Linear.from_float(layer()) if eager else in_graph_mode(qfx.default_dynamic_qconfig)
    together = q(x)
    for row, y in zip(x, together, strict=True):
        assert torch.equal(q(row[None])[0], y)


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan")])
@pytest.mark.parametrize(
    ("qconfig", "rows"), [(per_tensor_dynamic_qconfig, [True, True]), (per_channel, [False, True])]
)
@pytest.mark.parametrize("eager", [True, False])
def test_what_is_not_finite_gives_nan(value: float, qconfig: QConfigDynamic, rows: list[bool], eager: bool) -> None:
    """A scale holds for the whole tensor or for a row, and there is none."""
    q, x = dynamic.Linear.from_float(layer(qconfig)) if eager else in_graph_mode(qconfig), torch.randn(2, 37)
    assert bool(q(x).isfinite().all())
    x[1, 3] = value
    y = q(x)
    assert y.isnan().all(-1).tolist() == y.isnan().any(-1).tolist() == rows


def in_graph_mode(qconfig: QConfigDynamic) -> qfx.QuantizedModel:
    return qfx.quantize_fx(nn.Sequential(layer()), {"": qconfig}, example_inputs=(torch.randn(2, 37),))


def test_strides_do_not_matter() -> None:
    q, x = dynamic.Linear.from_float(layer()), torch.randn(37, 6)
    assert torch.equal(q(x.T), q(x.T.contiguous()))


@pytest.mark.parametrize("qconfig", [per_tensor_dynamic_qconfig, per_channel, AFFINE, float16_dynamic_qconfig])
def test_state_survives(qconfig: QConfigDynamic) -> None:
    q, x = dynamic.Linear.from_float(layer(qconfig)), torch.randn(4, 37)
    y = q(x)
    half = qconfig is float16_dynamic_qconfig
    names = {"weight", "bias"} | (set() if half else {"weight_scale", "weight_zero_point", "input_per_row"})
    assert set(q.state_dict()) == names
    assert all(type(t) is Tensor for t in q.state_dict().values())
    file = io.BytesIO()
    torch.save(q.state_dict(), file)
    file.seek(0)
    fresh = dynamic.Linear(37, 21, dtype=q.dtype)
    assert torch.equal(fresh(x), torch.zeros(4, 21))
    fresh.load_state_dict(torch.load(file, weights_only=True))
    for other in (fresh, copy.deepcopy(q), pickle.loads(pickle.dumps(q))):
        assert torch.equal(other(x), y)


def test_weight_and_bias_can_be_read_and_replaced() -> None:
    q, other = dynamic.Linear.from_float(layer(per_channel)), dynamic.Linear.from_float(layer(AFFINE, seed=1))
    assert q.weight().dtype is qfx.qint8
    assert q.weight().qparams.axis == 0
    x = torch.randn(3, 37)
    before = q(x)
    q.set_weight_bias(*other._weight_bias())
    assert torch.equal(q(x), other(x))
    assert not torch.equal(q(x), before)
    q.set_weight_bias(other.weight(), None)
    assert q.bias() is None
    with pytest.raises(QuantizationError, match="dtype"):
        q.set_weight_bias(torch.zeros(21, 37), None)
    with pytest.raises(QuantizationError, match="21"):
        dynamic.Linear(3, 21).set_weight_bias(other.weight(), None)


def test_repr() -> None:
    assert repr(dynamic.Linear(3, 4)) == "Linear(in_features=3, out_features=4, dtype=qfx.qint8)"
    assert "dtype=qfx.qint8, per_row=False" in repr(dynamic.Linear.from_float(layer(per_tensor_dynamic_qconfig)))
    assert "dtype=torch.float16, bias=False" in repr(dynamic.Linear(3, 4, bias_=False, dtype=torch.float16))


def test_mistakes() -> None:
    q = dynamic.Linear.from_float(layer())
    for bad in (torch.randn(2, 36), torch.tensor(1.0), torch.randn(2, 37).double(), [1.0]):
        with pytest.raises(InputError):
            q(bad)
    with pytest.raises(UnsupportedError, match="qint8"):
        dynamic.Linear(3, 4, dtype=qfx.quint8)
    with pytest.raises(UnsupportedError):
        dynamic.Linear(3, 4, dtype=torch.float64)
    with pytest.raises(ConversionError, match="Conv2d"):
        dynamic.Linear.from_float(nn.Conv2d(3, 4, 1))
    with pytest.raises(UnsupportedError, match="float64"):
        q.double()
    with pytest.raises(UnsupportedError, match="gradient"):
        q(torch.randn(2, 37, requires_grad=True)).sum().backward()
    with pytest.raises(QuantizationError, match="float16"):
        q.load_state_dict(dynamic.Linear(37, 21, dtype=torch.float16).state_dict())
    big = layer(float16_dynamic_qconfig)
    big.weight[0, 0] = 1e6
    with pytest.warns(UserWarning, match="65504"):
        assert dynamic.Linear.from_float(big).weight()[0, 0] == 65504
    big.weight[0, 0] = float("inf")
    with pytest.raises(ConversionError, match="finite"):
        dynamic.Linear.from_float(big)
