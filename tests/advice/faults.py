"""Networks with a planted fault that quantization trips over, and the SQNR of what they are converted to."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qfx

CHANNELS = 8


class Chain(nn.Module):
    """Three convolutions and a classifier of pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(4, CHANNELS, 3, padding=1), nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.c, self.fc = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.Linear(CHANNELS, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.c(F.relu(self.b(F.relu(self.a(x))))))
        return self.fc(x.permute(0, 2, 3, 1))


def inputs(count: int = 2) -> list[Tensor]:
    """Batches whose last channel is zero but for one pixel."""
    generator = torch.Generator().manual_seed(5)
    batches = []
    for _ in range(count):
        x = torch.randn(4, 4, 12, 12, generator=generator)
        x[:, 3] = 0.0
        x[:, 3, 4, 4] = 1.0
        batches.append(x)
    return batches


def plain() -> Chain:
    """No fault."""
    torch.manual_seed(0)
    return Chain().eval()


def with_large_weight() -> Chain:
    """``b`` has one weight 1000 times as large as the others, which multiplies a channel that is always zero."""
    net = plain()
    with torch.no_grad():
        net.a.weight[0] = 0.0
        net.a.bias[0] = -1.0
        net.b.weight[0, 0] *= 1000.0
    return net


def with_outlier() -> Chain:
    """``a`` gives one value a picture 500 times as large as the others, which ``b`` multiplies with zero."""
    net = plain()
    with torch.no_grad():
        net.a.weight[1] = 0.0
        net.a.weight[1, 3, 1, 1] = 500.0
        net.b.weight[:, 1] = 0.0
    return net


def sqnr(net: nn.Module, qconfig_dict: dict[str, Any], batches: list[Tensor], *, simulated: bool = False) -> float:
    """dB of the outputs of the int8 model that ``qconfig_dict`` makes of ``net``, on its calibration data.

    Args:
        net: The float model.
        qconfig_dict: How to quantize it.
        batches: The data.
        simulated: Run the QDQ graph in float arithmetic, not the int8 program.
    """
    model = qfx.quantize_fx(net, qconfig_dict, batches)
    run = model.run_graph if simulated else model
    signal = noise = 0.0
    with torch.no_grad():
        for x in batches:
            want = net(x).double()
            signal += float(want.square().sum())
            noise += float((run(x).double() - want).square().sum())
    return 10 * math.log10(signal / noise)
