"""A small network with stubs for the tests of eager mode."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import qfx.nn.quantized as nnq
from qfx.quantization import (
    DeQuantStub,
    QuantStub,
    fuse_modules,
    get_default_qconfig,
    get_observer_dict,
)

QCONFIG = get_default_qconfig()


OTHER = get_default_qconfig("qnnpack")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quant = QuantStub()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
        self.skip = nnq.FloatFunctional()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 5)
        self.dequant = DeQuantStub()

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(self.quant(x))
        x = self.skip.add(self.conv(x), x)
        return self.dequant(self.fc(x.mean((2, 3))))


def net(qconfig: Any = QCONFIG, training: bool = False) -> Net:
    model = Net().train(training)
    model.qconfig = qconfig
    fuse_modules(model, ["features.0", "features.1", "features.2"], inplace=True)
    return model


def data() -> Tensor:
    return torch.randn(8, 3, 8, 8)


OBSERVED = ["quant", "features.0", "skip", "conv", "fc"]


def observers(model: nn.Module) -> list[str]:
    found: dict[str, nn.Module] = {}
    get_observer_dict(model, found)
    return [name.removesuffix(".activation_post_process") for name in found]
