"""What is kept for later calls is made anew when anything that it depends on has changed."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import qfx
from qfx.eager import run_op
from qfx.errors import UnsupportedError
from qfx.frontends.constants import Constants
from qfx.ops.spelling import Alias
from qfx.ops.spellings import register_alias
from qfx.ops.terms import Folded, term
from qfx.tensor import QTensor

X = torch.randn(8, 4, generator=torch.Generator().manual_seed(5))


def quantized() -> qfx.QuantizedModel:
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    return qfx.quantize_fx(net, {"": qfx.get_default_qconfig()}, [X])


def _double(model: qfx.QuantizedModel, name: str) -> None:
    model.get_buffer(name).mul_(2)


def _replace(model: qfx.QuantizedModel, name: str) -> None:
    owner, _, own = name.rpartition(".")
    setattr(model.get_submodule(owner), own, model.get_buffer(name) * 2)


CHANGES: dict[str, Callable[[qfx.QuantizedModel], Any]] = {
    "weight in place": lambda m: m.get_buffer("2.weight").neg_(),
    "weight replaced": lambda m: _replace(m, "2.bias"),
    "bias in place": lambda m: _double(m, "2.bias"),
    "scale in place": lambda m: _double(m, "2.weight_scale"),
    "input scale": lambda m: _double(m, "input_1.scale"),
    "zero point": lambda m: m.get_buffer("0.zero_point").add_(1),
    "through a state_dict": lambda m: m.state_dict()["2.weight"].zero_(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_follows_its_tensors(change: str) -> None:
    model = quantized()
    before = model(X)
    CHANGES[change](model)
    twin = qfx.quantize_fx(
        nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).eval(), {"": qfx.get_default_qconfig()}, [X]
    )
    twin.load_state_dict(model.state_dict())
    assert not torch.equal(model(X), before)
    assert torch.equal(model(X), twin(X))


def test_a_model_that_nobody_changes_keeps_its_programs() -> None:
    model = quantized()
    kept = model.compiled
    model(X)
    assert model.compiled is kept
    with torch.inference_mode():
        inside = quantized()
    assert inside.compiled is inside.compiled


def image(*shape: int) -> QTensor:
    return qfx.quantize_per_tensor(torch.randn(shape), 0.05, 100, qfx.quint8)


@pytest.mark.parametrize("write", [lambda b: b.mul_(2), lambda b: setattr(b, "data", b * 2)])
def test_an_eager_op_follows_its_constants(write: Callable[[Tensor], Any]) -> None:
    x, weight, bias = image(3, 6), qfx.quantize_per_tensor(torch.randn(4, 6), 0.03, 0, qfx.qint8), torch.randn(4)
    before = run_op("linear", x, weight, bias)
    write(bias)
    assert torch.equal(run_op("linear", x, weight, bias), run_op("linear", x, weight, bias.clone()))
    assert not torch.equal(run_op("linear", x, weight, bias), before)


def test_equal_numbers_of_other_types_or_signs_are_other_arguments() -> None:
    x = qfx.quantize_per_tensor(torch.tensor([1.0, 2.0]), 0.05, 0, qfx.quint8)
    plus, minus = (run_op("rdiv_scalar", x, value=value) for value in (0.0, -0.0))
    assert not plus.signbit().any()
    assert minus.signbit().all()


def test_a_function_that_was_unknown_is_known_once_it_is_registered(registries: None) -> None:
    x = image(3)
    with pytest.raises(UnsupportedError):
        torch.digamma(x)
    register_alias(Alias("relu", torch.digamma, lambda input: term("relu", input)))
    assert torch.equal(torch.digamma(x).int_repr(), torch.relu(x).int_repr())


def test_folded_constants_are_told_apart_by_tensors_that_may_be_gone() -> None:
    constants = Constants(nn.Module(), fx.Graph())
    made = []
    for value in range(12):
        made.append(constants.fold(Folded("factor", torch.neg, (torch.full((3,), float(value)),)), ""))
        gc.collect()
    assert [float(constants.tensor(node)[0]) for node in made] == [-float(value) for value in range(12)]
    one, true = (constants.fold(Folded("number", _kind, (value,)), "") for value in (1, True))
    assert float(constants.tensor(one)) != float(constants.tensor(true))


def _kind(value: object) -> Tensor:
    return torch.tensor(float(isinstance(value, bool)))
