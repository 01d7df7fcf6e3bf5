"""What the runtime does not take stays float, told in the report; a later call that exceeds a limit names a way out."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import qfx
from qfx.errors import InputSumsError, RuntimeLoadError
from qfx.runtime import ProgramBuilder
from qfx.runtime.limits import LONGEST_PRODUCT, MOST_DIMS, MOST_FEATURES

DEFAULT = {"": qfx.get_default_qconfig()}


def test_the_limits_are_the_runtime_s() -> None:
    builder = ProgramBuilder()
    builder.value("x", "u8", (1,) * MOST_DIMS)
    with pytest.raises(RuntimeLoadError):
        builder.value("y", "u8", (1,) * (MOST_DIMS + 1))
    assert LONGEST_PRODUCT * 255 * 255 < 2**31 <= (LONGEST_PRODUCT + 1) * 255 * 255


# ---------------------------------------------------------------- long products


class Product(nn.Module):
    """A product of two inputs."""

    def __init__(self, multiply: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.multiply = multiply

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.multiply(a, b)


LONG = 40_000
PRODUCTS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Any, Any]] = {
    "matrices": (lambda a, b: a @ b, lambda k: (2, k), lambda k: (k, 2)),
    "transposed": (lambda a, b: a @ b.mT, lambda k: (2, k), lambda k: (3, k)),
    "transposed first": (lambda a, b: a.mT @ b, lambda k: (k, 2), lambda k: (k, 3)),
    "batches": (torch.bmm, lambda k: (2, 2, k), lambda k: (2, k, 2)),
    "vectors": (lambda a, b: a @ b, lambda k: (k,), lambda k: (k,)),
    "vector and matrix": (lambda a, b: a @ b, lambda k: (k,), lambda k: (k, 2)),
    "einsum": (lambda a, b: torch.einsum("bik,bjk->bij", a, b), lambda k: (1, 2, k), lambda k: (1, 2, k)),
    "flattened": (lambda a, b: a.flatten(1) @ b, lambda k: (2, 4, k // 4), lambda k: (k, 2)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_seen_to_be_too_long_stays_float(name: str) -> None:
    multiply, first, second = PRODUCTS[name]
    net, inputs = Product(multiply).eval(), (torch.randn(first(LONG)), torch.randn(second(LONG)))
    model = qfx.quantize_fx(net, DEFAULT, [inputs])
    (record,) = [r for r in model.report if r.op == "matmul"]
    assert record.decision == "float"
    assert "32 bits" in record.reason
    assert torch.allclose(model(*inputs), net(*inputs), rtol=1e-3, atol=0.1)


@pytest.mark.parametrize("name", ["matrices", "transposed", "batches", "vectors"])
def test_a_later_product_that_is_too_long_names_a_remedy_that_works(name: str) -> None:
    multiply, first, second = PRODUCTS[name]
    net = Product(multiply).eval()
    short, long = ((torch.randn(first(k)), torch.randn(second(k))) for k in (40, 150_000))
    model = qfx.quantize_fx(net, DEFAULT, [short])
    assert [r.decision for r in model.report if r.op == "matmul"] == ["int8"]
    with pytest.raises(InputSumsError, match="could leave s32") as error:
        model(*long)
    assert "example_inputs" in str(error.value)
    assert "qconfig None" in str(error.value)
    assert error.value.source is not None
    again = qfx.quantize_fx(net, DEFAULT, [short], example_inputs=long)
    function = torch.bmm if name == "batches" else operator.matmul
    without = qfx.quantize_fx(net, {**DEFAULT, "object_type": [(function, None)]}, [short])
    for other in (again, without):
        assert torch.allclose(other(*long), net(*long), rtol=1e-3, atol=0.5)


@pytest.mark.parametrize("name", ["matrices", "batches", "vectors", "vector and matrix"])
def test_an_eager_product_that_is_too_long_is_computed_in_float_too(name: str) -> None:
    multiply, first, second = PRODUCTS[name]
    x, y = (qfx.quantize_per_tensor(torch.randn(shape(LONG)), 0.02, 128, qfx.quint8) for shape in (first, second))
    scale = 4.0
    made = qfx.nn.quantized.functional.matmul(x, y, scale, 128)
    want = multiply(x.dequantize().double(), y.dequantize().double())
    assert float((made.dequantize() - want).abs().max()) <= 0.51 * scale


WIDE = 140_000


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("make", [lambda n: nn.Linear(n, 3), lambda n: nn.Conv1d(2, 3, n // 2)])
def test_layers_of_too_many_weights_stay_float(make: Callable[[int], nn.Module], dense: bool) -> None:
    layer = make(WIDE)
    assert isinstance(layer.weight, Tensor)
    with torch.no_grad():
        layer.weight.copy_(torch.ones_like(layer.weight) if dense else torch.randn(layer.weight.shape) ** 9)
    net = nn.Sequential(layer).eval()
    x = torch.randn(2, WIDE) if isinstance(layer, nn.Linear) else torch.randn(1, 2, WIDE // 2)
    model = qfx.quantize_fx(net, DEFAULT, [x])
    assert [r.decision for r in model.report] == (["float"] if dense else ["int8"])
    want = net(x).detach()
    assert float((model(x) - want).abs().max()) <= 0.05 * float(want.abs().max())


@pytest.mark.parametrize("cls", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_of_too_many_features_stay_float(cls: type[nn.Module]) -> None:
    net, x = nn.Sequential(cls(MOST_FEATURES + 1, 1)).eval(), torch.randn(2, 1, MOST_FEATURES + 1)
    model = qfx.quantize_fx(net, {"": qfx.default_dynamic_qconfig}, example_inputs=x)
    assert [r.decision for r in model.report if r.is_layer] == ["float"]
    assert model(x)[0].shape == net(x)[0].shape


# ---------------------------------------------------------------- many dims


class Many(nn.Module):
    """A linear layer under a function."""

    def __init__(self, function: Callable[[Tensor], Tensor], features: int = 2) -> None:
        super().__init__()
        self.linear, self.function = nn.Linear(features, features), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.linear(x))


EIGHT, NINE = (2,) * 8, (2,) * 9
DIMS: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "input": (torch.relu, NINE),
    "input of more": (lambda y: y + 1, (1,) * 6 + (2,) * 5),
    "reshape": (lambda y: y.reshape(*NINE).tanh() * 2, (256, 2)),
    "reshape and back": (lambda y: y.reshape(*NINE).permute(*range(8, -1, -1)).flatten() * 3, (256, 2)),
    "unsqueeze": (lambda y: y.unsqueeze(0).relu(), EIGHT),
    "stack": (lambda y: torch.stack([y, y.tanh()]), EIGHT),
    "shuffle": (lambda y: F.channel_shuffle(y, 2), EIGHT),
    "softmax": (lambda y: y.reshape(*NINE).softmax(-1), (256, 2)),
    "broadcast": (lambda y: y.reshape(*EIGHT, 1) + y[:2, 0], (128, 2)),
    "product": (lambda y: y.unflatten(0, (1, 2)) @ y.unflatten(0, (1, 2)).mT, EIGHT),
    "expand": (lambda y: y.expand(3, *EIGHT).mean(0), EIGHT),
    "none": (lambda y: y.mean((0, 2, 4)), EIGHT),
}


@pytest.mark.parametrize("name", DIMS)
def test_values_of_many_dims_run(name: str) -> None:
    function, shape = DIMS[name]
    net, x = Many(function).eval(), torch.randn(shape)
    model = qfx.quantize_fx(net, DEFAULT, [x])
    assert model(x).shape == net(x).shape
    assert torch.allclose(model(x), net(x), atol=0.2)
    kept = [r for r in model.report if "dimensions" in r.reason]
    assert bool(kept) == (name != "none")
    assert all(r.decision == "float" for r in kept)


@pytest.mark.parametrize("dynamic", [False, True])
def test_many_dims_of_a_model_prepared_without_inputs_name_a_remedy_that_works(dynamic: bool) -> None:
    net, x = Many(torch.relu).eval(), torch.randn(NINE)
    qconfig = {"": qfx.default_dynamic_qconfig} if dynamic else DEFAULT

    def quantized(example: Any) -> Tensor:
        prepared = qfx.prepare_fx(net, qconfig, example)
        if not dynamic:
            prepared(x)
        return qfx.convert_fx(prepared)(x)

    with pytest.raises(qfx.QfxError, match="dimensions") as error:
        quantized(None)
    assert "example_inputs" in str(error.value.remedy)
    assert torch.allclose(quantized(x), net(x))
    assert np.prod(NINE) == x.numel()
