"""Gradients stop at integers, and say so."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from qfx.errors import UnsupportedError
from qfx.memory import is_watched


class _Refusal(torch.autograd.Function):
    """The identity, whose backward raises."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, probe: Tensor, what: str) -> Tensor:
        ctx.what = what
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise UnsupportedError(
            f"backward() reaches {ctx.what}, which passes no gradient on.",
            why="A tensor that requires gradients was quantized; only the forward pass is defined on integers.",
            remedy="Train with fake quantization (qfx.quantization.prepare_qat), or quantize x.detach().",
        )


def refuse_gradient(value: Tensor, what: str = "a quantized tensor") -> Tensor:
    """``value`` as part of an autograd graph through which ``backward()`` raises instead of giving no gradient."""
    if not torch.is_grad_enabled():
        return value
    made: Tensor = _Refusal.apply(value, torch.empty(0, requires_grad=True), what)  # type: ignore[no-untyped-call]
    return made


def without_gradient(layer: str, result: Tensor, *inputs: Tensor) -> Tensor:
    """The ``result`` of a dynamically quantized ``layer``, whose ``backward()`` raises if an input wants a gradient."""
    if not severs(*inputs) or is_watched():  # who watches sees an operator, which refuses itself
        return result
    return refuse_gradient(result, f"a dynamically quantized {layer}")


def severs(*values: Any) -> bool:
    """Whether quantizing ``values`` cuts an autograd graph, or an operand among them comes from where one was cut.

    Raises:
        UnsupportedError: The graph is one of torch.func, which can't be told later.
    """
    if not any(map(_severs, values)):
        return False
    if torch._C._are_functorch_transforms_active():
        raise UnsupportedError(
            "torch.func asks for a derivative through quantized values.",
            why="Only the forward pass is defined on integers.",
            remedy="Train with fake quantization (qfx.quantization.prepare_qat), or quantize x.detach().",
        )
    return True


def _severs(value: Any) -> bool:
    severed: bool | None = getattr(value, "severed", None)
    if severed is not None:  # a QTensor, which requires no gradient itself
        return severed
    return torch.is_grad_enabled() and isinstance(value, Tensor) and value.requires_grad
