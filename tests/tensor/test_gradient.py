"""Gradients stop at integers, with an error and not in silence."""

from __future__ import annotations

import pytest
import torch

import qfx
from qfx.eager import run_op
from qfx.errors import UnsupportedError
from qfx.ir.types import QParams

pytestmark = pytest.mark.inventory("S171")


def quantized(x: torch.Tensor) -> qfx.QTensor:
    return qfx.quantize_per_tensor(x, 0.1, 10, qfx.quint8)


CALLS = {
    "nothing": lambda q: q,
    "view": lambda q: q.view(-1)[1:],
    "relu": torch.relu,
    "run_op": lambda q: run_op("add", q, q, out=QParams(0.2, 3, qfx.quint8)),
    "max": lambda q: q.max(),
    "clone": lambda q: q.clone(),
    "copy_": lambda q: quantized(torch.zeros(2, 3)).copy_(q),
}


@pytest.mark.parametrize("name", CALLS)
def test_backward_through_integers_raises(name: str) -> None:
    x = torch.randn(2, 3, requires_grad=True)
    loss = CALLS[name](quantized(x * 2)).dequantize().sum() + x.sum()
    with pytest.raises(UnsupportedError, match="passes no gradient"):
        loss.backward()


@pytest.mark.parametrize("into", ["copy_", "setitem"])
def test_values_written_into_another_tensor(into: str) -> None:
    x, q = torch.randn(2, 3, requires_grad=True), quantized(torch.zeros(2, 3))
    if into == "copy_":
        q.copy_(x)
    else:
        q[0] = x[0]
    with pytest.raises(UnsupportedError, match="passes no gradient"):
        q.dequantize().sum().backward()


def test_float_result_of_an_int8_op() -> None:
    w = qfx.quantize_per_tensor(torch.randn(4, 3), 0.1, 0, qfx.qint8)
    y = run_op("linear", quantized(torch.randn(2, 3, requires_grad=True)), w, None)
    with pytest.raises(UnsupportedError, match="passes no gradient"):
        y.sum().backward()


def test_nothing_is_attached_where_no_gradient_was_asked_for() -> None:
    assert not quantized(torch.randn(3)).dequantize().requires_grad
    with torch.no_grad():
        assert not quantized(torch.randn(3, requires_grad=True)).dequantize().requires_grad


@pytest.mark.parametrize(
    "call",
    [
        lambda q: q.backward(),
        lambda q: q.requires_grad_(),
        lambda q: setattr(q, "requires_grad", True),
        lambda q: q.register_hook(print),
    ],
)
def test_asking_for_gradients_raises(call: object) -> None:
    with pytest.raises(UnsupportedError) as caught:
        call(quantized(torch.randn(3)))  # type: ignore[operator]
    assert "prepare_qat" in str(caught.value)


def test_requires_grad_false_is_what_it_is() -> None:
    q = quantized(torch.randn(3))
    assert q.requires_grad_(False) is q
    q.requires_grad = False
    assert not q.requires_grad
