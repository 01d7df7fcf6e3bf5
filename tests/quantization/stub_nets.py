"""Small networks as torchvision writes them for eager quantization: stubs, modules for additions, lists to fuse."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import qfx.nn.quantized as nnq
from qfx.quantization import DeQuantStub, QuantStub
from tests.nets import settle


class Residual(nn.Module):
    """ResNet's basic block."""

    def __init__(self, inputs: int, outputs: int, stride: int, functional: Any) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1, self.relu1 = nn.BatchNorm2d(outputs), nn.ReLU()
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.down = None
        if stride != 1 or inputs != outputs:
            self.down = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.skip = functional()

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.skip.add_relu(y, x if self.down is None else self.down(x))

    def lists(self) -> list[list[str]]:
        """Names to fuse."""
        shortcut = [["down.0", "down.1"]] if self.down is not None else []
        return [["conv1", "bn1", "relu1"], ["conv2", "bn2"], *shortcut]


class Inverted(nn.Module):
    """MobileNetV2's block: expand, depthwise, project."""

    def __init__(self, inputs: int, outputs: int, stride: int, functional: Any, expand: int = 3) -> None:
        super().__init__()
        wide = inputs * expand
        self.conv = nn.Sequential(
            *((nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()) if expand > 1 else ()),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU(),
            nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.skip = functional() if stride == 1 and inputs == outputs else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y if self.skip is None else self.skip.add(x, y)

    def lists(self) -> list[list[str]]:
        """Names to fuse."""
        rows = ((0, 1, 2), (3, 4, 5), (6, 7)) if len(self.conv) == 8 else ((0, 1, 2), (3, 4))
        return [[f"conv.{i}" for i in row] for row in rows]


class StubNet(nn.Module):
    """A stem, blocks, global pooling and a classifier, between stubs. Float32 ``[n, 3, 32, 32]`` to ``[n, 10]``."""

    def __init__(self, blocks: nn.Module, width: int, stubs: tuple[Any, Any]) -> None:
        super().__init__()
        self.quant, self.dequant = stubs[0](), stubs[1]()
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        self.pool, self.blocks = nn.MaxPool2d(3, 2, 1), blocks
        self.average, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.pool(self.relu(self.bn1(self.conv1(self.quant(x))))))
        return self.dequant(self.fc(torch.flatten(self.average(x), 1)))

    def lists(self) -> list[list[str]]:
        """Names to fuse."""
        found = [["conv1", "bn1", "relu"]]
        for path, module in self.named_modules():
            if isinstance(module, (Residual, Inverted)):
                found += [[f"{path}.{name}" for name in row] for row in module.lists()]
        return found


def resnet(stubs: tuple[Any, Any] = (QuantStub, DeQuantStub), functional: Any = nnq.FloatFunctional) -> StubNet:
    """Like ResNet-18."""
    rows = ((16, 16, 1), (16, 24, 2), (24, 24, 1))
    return _settled(StubNet(nn.Sequential(*(Residual(*row, functional) for row in rows)), 24, stubs))


def mobilenet(stubs: tuple[Any, Any] = (QuantStub, DeQuantStub), functional: Any = nnq.FloatFunctional) -> StubNet:
    """Like MobileNetV2."""
    rows = ((16, 16, 1), (16, 24, 2), (24, 24, 1))
    return _settled(StubNet(nn.Sequential(*(Inverted(*row, functional) for row in rows)), 24, stubs))


def resnet18() -> StubNet:
    """ResNet-18's blocks, for small images."""
    widths = [(64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)]
    inputs = [16, *(width for width, _ in widths)]
    blocks = [Residual(i, *row, nnq.FloatFunctional) for i, row in zip(inputs, widths, strict=False)]
    return _settled(StubNet(nn.Sequential(*blocks), 512, (QuantStub, DeQuantStub)))


def mobilenet_v2() -> StubNet:
    """MobileNetV2's blocks, for small images."""
    blocks, inputs = [], 16
    groups = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expand, outputs, count, stride in groups:
        for k in range(count):
            blocks.append(Inverted(inputs, outputs, stride if k == 0 else 1, nnq.FloatFunctional, expand))
            inputs = outputs
    return _settled(StubNet(nn.Sequential(*blocks), 320, (QuantStub, DeQuantStub)))


def _settled(net: StubNet) -> StubNet:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            spread = 0.5 if parameter.dim() < 2 else (2.0 / parameter[0].numel()) ** 0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
            if "bn" in name and name.endswith("weight"):
                parameter.add_(1.0)
    settle(net)
    return net


def images(batch: int = 4, seed: int = 0) -> Tensor:
    """Smooth random images."""
    noise = torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(noise, scale_factor=4, mode="bilinear", align_corners=False)
