"""Results that say so when somebody asks for gradients."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor

from qfx.errors import UnsupportedError


class _NoGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, name: str, result: Tensor, *inputs: Tensor) -> Tensor:
        ctx.name = name
        return result.view_as(result)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> NoReturn:
        raise UnsupportedError(
            f"There is no gradient through a dynamically quantized {ctx.name}.",
            why="It computes on rounded numbers, whose derivative is zero.",
            remedy="Train the float module, then quantize it; or run this one under torch.no_grad().",
        )


def without_gradient(name: str, result: Tensor, *inputs: Tensor) -> Tensor:
    """``result``, or where an input wants a gradient, the same with a backward that raises UnsupportedError."""
    if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
        return _NoGradient.apply(name, result, *inputs)  # type: ignore[no-untyped-call]
    return result
