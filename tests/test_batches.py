"""What stands behind the inputs of a batch: an input where the signature says so, a label where it can be one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qfx
from qfx.errors import CalibrationError

EVERYTHING = {"": qfx.get_default_qconfig()}
X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([1, 0, 3, 2])


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.l, self.k = nn.Linear(6, 6), nn.Linear(6, 6)


def flag(self: Any, x: Tensor, doubled: bool = False) -> Any:
    return self.k(self.l(x) * (2 if doubled else 1))


def number(self: Any, x: Tensor, times: int = 1) -> Any:
    return self.k(self.l(x) * times)


def decimal(self: Any, x: Tensor, times: float = 1.0) -> Any:
    return self.k(self.l(x) * times)


def word(self: Any, x: Tensor, how: str = "relu") -> Any:
    return self.k(getattr(torch, how)(self.l(x)))


def integers(self: Any, x: Tensor, shift: Tensor = torch.zeros(4, dtype=torch.int64)) -> Any:  # noqa: B008
    return self.k(self.l(x) + shift[:, None])


def needed(self: Any, x: Tensor, order: Tensor) -> Any:
    return self.k(self.l(x)[order])


def maybe_number(self: Any, x: Tensor, times: int | None = None) -> Any:
    return self.k(self.l(x) * (times or 1))


def maybe_order(self: Any, x: Tensor, order: Tensor | None = None) -> Any:
    y = self.l(x)
    return self.k(y if order is None else y[order])


def alone(self: Any, x: Tensor) -> Any:
    return self.k(self.l(x))


def of(forward: Callable[..., Any]) -> nn.Module:
    torch.manual_seed(0)
    return type("Made", (Net,), {"forward": forward})().eval()


SAID = [(flag, True), (number, 3), (decimal, 2.5), (word, "tanh"), (integers, LABELS), (needed, LABELS)]
MAYBE = [(maybe_number, 3), (maybe_order, LABELS)]


def alike(result: Tensor, wanted: Tensor) -> bool:
    return bool((result - wanted).abs().max() < 0.05 * wanted.abs().max())


@pytest.mark.parametrize(("forward", "value"), SAID, ids=lambda v: getattr(v, "__name__", None))
def test_what_the_signature_says_is_an_input_is_one(forward: Callable[..., Any], value: Any) -> None:
    net = of(forward)
    quantized = qfx.quantize_fx(net, EVERYTHING, [(X, value)])
    assert alike(quantized(X, value), net(X, value))


@pytest.mark.parametrize(("forward", "value"), SAID, ids=lambda v: getattr(v, "__name__", None))
def test_a_label_may_stand_behind_it(forward: Callable[..., Any], value: Any) -> None:
    net = of(forward)
    quantized = qfx.quantize_fx(net, EVERYTHING, [(X, value, LABELS)])
    assert alike(quantized(X, value), net(X, value))


@pytest.mark.parametrize(("forward", "value"), MAYBE, ids=lambda v: getattr(v, "__name__", None))
def test_integers_where_an_input_may_be_left_out_are_a_label_of_a_batch(
    forward: Callable[..., Any], value: Any
) -> None:
    net = of(forward)
    quantized = qfx.quantize_fx(net, EVERYTHING, [(X, value)])
    assert alike(quantized(X), net(X))


@pytest.mark.parametrize(("forward", "value"), [*SAID, *MAYBE], ids=lambda v: getattr(v, "__name__", None))
def test_example_inputs_are_inputs(forward: Callable[..., Any], value: Any) -> None:
    net = of(forward)
    quantized = qfx.quantize_fx(net, EVERYTHING, [(X, value)], example_inputs=(X, value))
    assert alike(quantized(X, value), net(X, value))


@pytest.mark.parametrize("label", [3, LABELS, "a file name", None], ids=["int", "integers", "str", "None"])
def test_a_value_behind_all_inputs_is_a_label(label: Any) -> None:
    net = of(alone)
    assert alike(qfx.quantize_fx(net, EVERYTHING, [(X, label)])(X), net(X))
    with pytest.raises(CalibrationError, match="at most one label"):
        qfx.quantize_fx(net, EVERYTHING, [(X, label, label)])


@pytest.mark.parametrize("value", [True, 3])
def test_sensitivity_and_comparison_take_the_same_inputs(value: Any) -> None:
    net = of(flag if value is True else number)
    ranked = qfx.sensitivity(net, EVERYTHING, [(X, value)], progress=False)
    assert len(ranked)
    quantized = qfx.quantize_fx(net, EVERYTHING, [(X, value)])
    assert len(qfx.compare(net, quantized, [(X, value)], progress=False))
