"""Stubs: where a float model says that values enter and leave its quantized part."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from qfx.arguments import checked
from qfx.ir.boundary import Boundary
from qfx.quantization.qconfig import QConfig


class _Stub(nn.Identity):
    def __init__(self, qconfig: QConfig | None = None) -> None:
        super().__init__()
        if qconfig is not None:
            self.qconfig = qconfig


class QuantStub(_Stub):
    """Where float values become quantized: the identity, observed by ``prepare``, a ``Quantize`` after ``convert``.

    Args:
        qconfig: How to quantize; that of the surrounding model when left out.
    """

    boundary = Boundary.BEGIN


class DeQuantStub(_Stub):
    """Where quantized values become float: the identity until ``convert`` makes it a ``DeQuantize``.

    Args:
        qconfig: Marks the stub for conversion; that of the surrounding model when left out.
    """

    boundary = Boundary.END


class QuantWrapper(nn.Module):
    """``module`` between a QuantStub and a DeQuantStub: after conversion float in, int8 inside, float out.

    Args:
        module: The module to quantize. Its ``qconfig`` and training mode are taken over.
    """

    @checked
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        qconfig = getattr(module, "qconfig", None)
        self.quant, self.dequant, self.module = QuantStub(qconfig), DeQuantStub(qconfig), module
        if qconfig is not None:
            self.qconfig = qconfig
        self.train(module.training)

    def forward(self, x: Tensor) -> Any:
        """``module`` of ``x``, float32."""
        return self.dequant(self.module(self.quant(x)))
