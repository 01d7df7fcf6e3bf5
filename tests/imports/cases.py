"""Nets that end in a layer, one for each kind of op that other tools quantize, and how far results may be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qfx.ir.attributes import attribute, read_qparams
from qfx.models import QuantizedModel
from qfx.ops import qdq
from qfx.ops.calls import arguments
from qfx.ops.table import op_of


class Net(nn.Module):
    """``forward`` as a function of the layers and the input."""

    def __init__(self, run: Callable[..., Any], *layers: nn.Module) -> None:
        super().__init__()
        self.layers, self.run = nn.ModuleList(layers), run

    def forward(self, x: Tensor) -> Any:
        return self.run(self.layers, x)


def images() -> tuple[Tensor]:
    return (torch.randn(2, 4, 8, 8),)


def rows() -> tuple[Tensor]:
    return (torch.randn(2, 5, 16),)


def tokens() -> tuple[Tensor]:
    return (torch.randint(0, 20, (2, 5)),)


def conv(outputs: int = 6, inputs: int = 4, **given: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **given)


def behind(*layers: nn.Module) -> Callable[[], nn.Module]:
    """Layers between two convolutions."""
    return lambda: nn.Sequential(conv(), *layers, nn.Conv2d(6, 4, 1))


def between(*layers: nn.Module) -> Callable[[], nn.Module]:
    """Layers between two linear layers."""
    return lambda: nn.Sequential(nn.Linear(16, 8), *layers, nn.Linear(8, 4))


def joined(run: Callable[[Tensor, Tensor], Tensor], channels: int = 6) -> Callable[[], nn.Module]:
    """Two convolutions, joined in front of a third."""
    return lambda: Net(lambda m, x: m[2](run(m[0](x), m[1](x))), conv(), conv(), nn.Conv2d(channels, 4, 1))


def product() -> nn.Module:
    """A product of two activations, in front of a layer."""
    layers = nn.Linear(16, 8), nn.Linear(16, 8), nn.Linear(5, 3)
    return Net(lambda m, x: m[2](m[0](x) @ m[1](x).transpose(1, 2)), *layers)


class Encoder(nn.Module):
    """A block of BERT's, with its attention spelled out."""

    def __init__(self, width: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.table, self.heads = nn.Embedding(20, width), heads
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.up, self.down, self.classify = (
            nn.Linear(width, 4 * width),
            nn.Linear(4 * width, width),
            nn.Linear(width, 3),
        )

    def split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)
        q, k, v = self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x))
        weights = torch.softmax(q @ k.transpose(-1, -2) / 8**0.5, -1)
        y = (weights @ v).transpose(1, 2).reshape(x.shape)
        x = self.first(x + self.o(y))
        return self.classify(self.second(x + self.down(F.gelu(self.up(x))))[:, 0])


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], tuple[Tensor]]]] = {
    "conv": (lambda: nn.Sequential(conv()), images),
    "conv relu": (lambda: nn.Sequential(conv(), nn.ReLU()), images),
    "conv bn relu6": (lambda: nn.Sequential(conv(), nn.BatchNorm2d(6), nn.ReLU6(), nn.Conv2d(6, 4, 1)), images),
    "conv1d": (lambda: nn.Sequential(nn.Conv1d(5, 6, 3), nn.ReLU(), nn.Conv1d(6, 4, 1)), rows),
    "depthwise": (lambda: nn.Sequential(conv(4, groups=4), nn.ReLU6(), nn.Conv2d(4, 8, 1)), images),
    "hardtanh": (behind(nn.Hardtanh(-0.5, 0.5)), images),
    "hardswish": (behind(nn.Hardswish()), images),
    "silu": (behind(nn.SiLU()), images),
    "leaky relu": (behind(nn.LeakyReLU()), images),
    "sigmoid": (behind(nn.Sigmoid()), images),
    "elu": (behind(nn.ELU()), images),
    "dropout": (behind(nn.Dropout()), images),
    "bn alone": (behind(nn.ReLU(), nn.BatchNorm2d(6)), images),
    "group norm": (behind(nn.GroupNorm(2, 6)), images),
    "max pool": (behind(nn.ReLU(), nn.MaxPool2d(3, 2, 1)), images),
    "avg pool": (behind(nn.AvgPool2d(2)), images),
    "pad": (behind(nn.ZeroPad2d(1)), images),
    "global pool": (
        lambda: nn.Sequential(conv(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)), images
    ),
    "mean": (lambda: Net(lambda m, x: m[1](m[0](x).mean((2, 3))), conv(), nn.Linear(6, 3)), images),
    "upsample": (behind(nn.Upsample(scale_factor=2)), images),
    "pixel shuffle": (lambda: nn.Sequential(conv(8), nn.PixelShuffle(2), nn.Conv2d(2, 4, 1)), images),
    "add": (joined(torch.add), images),
    "add relu": (joined(lambda a, b: torch.relu(a + b)), images),
    "mul": (joined(torch.mul), images),
    "squeeze and excite": (joined(lambda a, b: a * F.hardsigmoid(b.mean((2, 3), keepdim=True))), images),
    "cat": (joined(lambda a, b: torch.cat([a, b], 1), 12), images),
    "chunk": (lambda: Net(lambda m, x: m[1](torch.add(*m[0](x).chunk(2, 1))), conv(8), nn.Conv2d(4, 4, 1)), images),
    "read twice": (lambda: Net(lambda m, x: m[1](torch.relu(m[0](x)) + x), conv(4), nn.Conv2d(4, 4, 1)), images),
    "linear": (lambda: nn.Sequential(nn.Linear(16, 4)), rows),
    "linear relu": (between(nn.ReLU()), rows),
    "gelu": (between(nn.GELU()), rows),
    "tanh": (between(nn.Tanh()), rows),
    "softmax": (between(nn.Softmax(-1)), rows),
    "layer norm": (between(nn.LayerNorm(8)), rows),
    "matmul": (product, rows),
    "encoder": (Encoder, tokens),
}  # fmt: skip
"""Of each what makes it, and what makes inputs."""

FEW = {"conv relu", "depthwise", "global pool", "add relu", "cat", "linear relu", "encoder"}
"""Those that run with every quantizer at each run of the tests; the others are slow."""

UNTRACEABLE = {"chunk"}
"""Nets that PyTorch's own FX mode can't trace."""


def named(*others: str) -> list[Any]:
    """The names of the nets as parameters of a test, those that are slow marked so."""
    marks: dict[bool, Any] = {True: (), False: pytest.mark.slow}
    return [pytest.param(name, marks=marks[name in FEW]) for name in CASES if name not in others]


def within(model: QuantizedModel) -> float:
    """How far results may be: one quantum of the last quantized value, through the layer that reads it.

    Where the result is quantized that is its scale; where a layer returns float32, the largest sum of its weights times
    the scale of what it reads. Where it computes in float32, so does the other tool.
    """
    gm = model.graph_module()
    last = gm.graph.output_node().all_input_nodes[0]
    if last.target is qdq.dequantize:
        return float(read_qparams(gm, last.args[0]).scale) * 1.001  # type: ignore[arg-type]
    op = op_of(last)
    assert op is not None
    given = arguments(op, last)
    if given["weight"].op == "get_attr":
        return 1e-4
    codes, scale, _ = (attribute(gm, str(n.target)) for n in given["weight"].args)
    sums = (codes.double().abs().flatten(1).sum(1) * scale.double()).max()
    return float(sums) * float(read_qparams(gm, given["x"].args[0]).scale) * 1.001


def seeded(make: Callable[[], Any], seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return make()
