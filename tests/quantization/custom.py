"""A module that is quantized by classes of its user's own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import qfx
from qfx.nn import quantized


class Custom(nn.Module):
    """Float; keeps what it was told to."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


class Observed(nn.Module):
    """What is calibrated."""

    def __init__(self, linear: nn.Module) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)

    @classmethod
    def from_float(cls, module: Custom) -> Observed:
        assert module.qconfig is not None
        return cls(module.linear)


class Quantized(nn.Module):
    """What runs: QTensors in and out."""

    def __init__(self, linear: nn.Module) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(x, qfx.QTensor)
        return self.linear(x)

    @classmethod
    def from_observed(cls, module: Observed) -> Quantized:
        module.linear.qconfig = module.qconfig
        module.linear.activation_post_process = module.activation_post_process
        return cls(quantized.Linear.from_float(module.linear))


class Dynamic(Quantized):
    """Quantizes at each call."""

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)

    @classmethod
    def from_observed(cls, module: Observed) -> Dynamic:
        module.linear.qconfig = module.qconfig
        return cls(quantized.dynamic.Linear.from_float(module.linear))


class Net(nn.Module):
    """Layers before and after the custom one, which is called ``calls`` times."""

    def __init__(self, calls: int = 1) -> None:
        super().__init__()
        self.first, self.custom, self.last = nn.Linear(6, 12), Custom(), nn.Linear(12, 4)
        self.calls, self.labels = calls, ["a", "b"]

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for _ in range(self.calls):
            x = self.custom(x)
        return self.last(x)


def net(calls: int = 1) -> Net:
    torch.manual_seed(0)
    return Net(calls).eval()


X = torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
