"""Training with quantization where post-training quantization is not enough: ``make qat``, half a minute.

A small depthwise network reads handwritten digits (they come with scikit-learn). Its channels are rescaled so that it
computes the same, but their ranges differ by up to 2^8, as those of depthwise networks do once batch norms are folded.
One scale for all of them, as many accelerators want it, then fits none. The same with 4-bit weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import qfx
from qfx.quantization import FakeQuantize, MinMaxObserver, MovingAverageMinMaxObserver, PerChannelMinMaxObserver

BATCH = 64
FLOAT_EPOCHS, QAT_EPOCHS = 20, 40
OCTAVES = 4.0


@dataclass(frozen=True)
class Digits:
    """900 images to learn from and 897 to test on: float32 ``[n, 1, 8, 8]`` in 0..1, and their digits."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor

    @classmethod
    def split(cls, seed: int) -> Digits:
        data = load_digits()
        images, digits = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16.0, torch.tensor(data.target)
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
        return cls(images[order[:900]], digits[order[:900]], images[order[900:]], digits[order[900:]])

    def batches(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.x), generator=generator)
        for chosen in order[: len(order) // BATCH * BATCH].split(BATCH):
            yield self.x[chosen], self.y[chosen]

    def calibration(self) -> list[Tensor]:
        return list(self.x[:256].split(32))

    def accuracy(self, model: nn.Module) -> float:
        """Percent of the test digits."""
        with torch.no_grad():
            return 100.0 * float((model(self.test_x).argmax(1) == self.test_y).float().mean())


def separable(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    depthwise = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
    pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
    return [depthwise, nn.BatchNorm2d(inputs), nn.ReLU(), pointwise, nn.BatchNorm2d(outputs), nn.ReLU()]


def depthwise_net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        *separable(16, 24), *separable(24, 32, 2), *separable(32, 32), *separable(32, 48, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 10),
    )  # fmt: skip


def spread_channels(net: nn.Sequential, seed: int) -> None:
    """Multiply each channel in front of a depthwise layer by a power of two, and let its batch norm divide again."""
    generator = torch.Generator().manual_seed(seed)
    layers = list(net)
    with torch.no_grad():
        for i, layer in enumerate(layers):
            if isinstance(layer, nn.Conv2d) and layer.groups > 1:
                before, behind = layers[i - 2], layers[i + 1]
                factor = 2.0 ** (OCTAVES * (2.0 * torch.rand(layer.groups, generator=generator) - 1.0))
                before.weight.mul_(factor)
                before.bias.mul_(factor)
                behind.running_mean.mul_(factor)
                behind.running_var.mul_(factor.square())


def learn(
    model: nn.Module, digits: Digits, optimizer: torch.optim.Optimizer, epochs: int, ended: Callable[[float], None]
) -> None:
    """Train with one cycle of the optimizer's learning rate; ``ended`` gets each epoch's mean loss."""
    steps = epochs * (len(digits.x) // BATCH)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, optimizer.param_groups[0]["lr"], total_steps=steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        losses = []
        for x, y in digits.batches(generator):
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
            losses.append(loss.item())
        ended(sum(losses) / len(losses))


def float_network(digits: Digits, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    net = depthwise_net()
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    learn(net, digits, optimizer, FLOAT_EPOCHS, lambda loss: None)
    spread_channels(net, seed)
    return net.eval()


@dataclass(frozen=True)
class Precision:
    """How weights are stored: ``bits`` of int8, a scale for each channel or one for all."""

    bits: int
    per_channel: bool

    @property
    def title(self) -> str:
        return f"{self.bits}-bit weights, {'a scale a channel' if self.per_channel else 'one scale a tensor'}"

    def _weight(self) -> tuple[type, dict[str, object]]:
        limit = 2 ** (self.bits - 1)
        kind = PerChannelMinMaxObserver if self.per_channel else MinMaxObserver
        scheme = qfx.per_channel_symmetric if self.per_channel else qfx.per_tensor_symmetric
        return kind, {"quant_min": -limit, "quant_max": limit - 1, "dtype": qfx.qint8, "qscheme": scheme}

    def post_training(self) -> qfx.QConfig:
        kind, options = self._weight()
        return qfx.QConfig(qfx.HistogramObserver, kind.with_args(**options))

    def training(self) -> qfx.QConfig:
        kind, options = self._weight()
        activation = FakeQuantize.with_args(observer=MovingAverageMinMaxObserver, averaging_constant=0.05)
        return qfx.QConfig(activation, FakeQuantize.with_args(observer=kind, **options))


PRECISIONS = (Precision(8, per_channel=False), Precision(4, per_channel=True))


def after_training(
    net: nn.Module, digits: Digits, precision: Precision, watch: Callable[[int, float, float], None]
) -> qfx.QuantizedModel:
    """Quantization-aware training from the float network; ``watch`` gets epoch, loss and test accuracy."""
    model = qfx.prepare_qat_fx(net, {"": precision.training()}, (digits.x[:2],)).eval()
    with torch.no_grad(), model.observing():  # first ranges, before the weights move
        for batch in digits.calibration():
            model(batch)
    model.train()
    frozen = QAT_EPOCHS * 2 // 3
    stages = qfx.QATSchedule(observe_until=frozen, freeze_bn_at=frozen).attach(model)

    def ended(loss: float) -> None:
        stages.step()
        watch(stages.time, loss, digits.accuracy(model.eval()))
        model.train()

    learn(model, digits, torch.optim.Adam(model.parameters(), 5e-3), QAT_EPOCHS, ended)
    return qfx.convert_fx(model.eval(), check=(digits.test_x,))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    torch.set_num_threads(2)
    digits = Digits.split(seed)
    net = float_network(digits, seed)
    print(f"float: {digits.accuracy(net):.2f} %")
    for precision in PRECISIONS:
        print(f"\n{precision.title}")
        ptq = qfx.quantize_fx(net, {"": precision.post_training()}, digits.calibration())
        print(f"  int8 after calibration: {digits.accuracy(ptq):.2f} %")

        def watch(epoch: int, loss: float, accuracy: float) -> None:
            if epoch in (1, 2, 5) or epoch % 10 == 0:
                print(f"  epoch {epoch:2d}: loss {loss:.3f}, {accuracy:.2f} % fake-quantized")

        qat = after_training(net, digits, precision, watch)
        print(f"  int8 after training:    {digits.accuracy(qat):.2f} %")


if __name__ == "__main__":
    main()
