"""Small networks that together use what the large ones do; ``from tests.nets import ...``.

Each takes float32 [n, 3, 32, 32] and is returned in eval mode with batch norm statistics that are not the trivial ones.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


def settle(net: nn.Module, *shape: int) -> nn.Module:
    """Runs the net in training mode on noise so that its batch norms have statistics, and returns it in eval mode."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _ in range(3):
            net.train()(torch.randn(shape or (8, 3, 32, 32), generator=generator))
    return net.eval()


class ConvBnReluNet(nn.Module):
    """conv-bn-relu twice, pooling, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24)
        self.relu, self.pool, self.fc = nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.fc(torch.flatten(self.pool(x), 1))


class ResidualNet(nn.Module):
    """Two residual blocks, one of them with a projection."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.conv1, self.bn1 = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32)
        self.project = nn.Conv2d(16, 32, 1, stride=2)
        self.fc = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(self.stem(x), 2)
        x = F.relu(self.bn1(self.conv1(x)) + x)
        x = F.relu(self.bn2(self.conv2(x)) + self.project(x))
        return self.fc(x.mean((2, 3)))


class MobileNet(nn.Module):
    """An inverted residual with ReLU6, depthwise convolution and squeeze-and-excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(3, 24, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU6())
        self.depthwise = nn.Sequential(
            nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(24, 24, 3, stride=2, groups=24, bias=False), nn.BatchNorm2d(24)
        )
        self.squeeze, self.excite = nn.Conv2d(24, 8, 1), nn.Conv2d(8, 24, 1)
        self.contract = nn.Conv2d(24, 16, 1)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.hardswish(self.depthwise(self.expand(x)))
        gate = torch.sigmoid(self.excite(F.silu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        x = self.contract(x * gate)
        return self.fc(x.mean((2, 3)))


class DenseNet(nn.Module):
    """Concatenation before batch norm, average pooling between."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 12, 3, padding=1)
        self.norm, self.second = nn.BatchNorm2d(12), nn.Conv2d(12, 12, 3, padding=1)
        self.last, self.fc = nn.BatchNorm2d(24), nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.avg_pool2d(self.first(x), 2)
        x = torch.cat([x, self.second(F.relu(self.norm(x)))], 1)
        return self.fc(F.adaptive_avg_pool2d(F.relu(self.last(x)), 1).flatten(1))


NETS = {net.__name__: net for net in (ConvBnReluNet, ResidualNet, MobileNet, DenseNet)}


def small_net(name: str) -> nn.Module:
    """A net of ``NETS`` with seeded weights, in eval mode."""
    torch.manual_seed(2)
    return settle(NETS[name]())
