"""Small models to draw; ``from tests.viz.models import ...``."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

import qfx
from tests.nets import small_net

HOSTILE = "</script><script>alert(1)</script>&'"
"""A module's name that breaks out of tags and scripts wherever it is not escaped; torch.fx takes no double quotes."""


class Sorted(nn.Module):
    """A convolution, an op outside the table, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.conv(x))
        y = torch.sort(y, dim=1).values
        return self.fc(y.mean((2, 3)))


class Named(nn.Module):
    """A module under a hostile name."""

    def __init__(self) -> None:
        super().__init__()
        self.add_module(HOSTILE, nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4)))

    def forward(self, x: Tensor) -> Tensor:
        return self.get_submodule(HOSTILE)(x)


def images(count: int = 2) -> Tensor:
    """float32 [count, 3, 32, 32]."""
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(3))


@functools.cache
def residual() -> tuple[nn.Module, qfx.PreparedModel, qfx.QuantizedModel]:
    """ResidualNet: float, prepared and quantized."""
    model = small_net("ResidualNet")
    prepared = qfx.prepare_fx(model, {"": qfx.get_default_qconfig()}, images(), adaptive_rounding=False)
    prepared(images())
    return model, prepared, qfx.convert_fx(prepared)


def quantized(model: nn.Module, x: Tensor) -> qfx.QuantizedModel:
    """``model`` calibrated on ``x``."""
    return qfx.quantize_fx(model.eval(), {"": qfx.get_default_qconfig()}, [x], adaptive_rounding=False)
