"""Dumps of small graphs at three levels: what fusing, converting and lowering make of them, to read in a diff."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qfx
from qfx.ir.printer import print_graph


class Body(nn.Module):
    """Two convolutions, a linear layer, and a function of them."""

    def __init__(self, body: Callable[[Body, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.norm, self.b, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.Linear(4, 2)
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def _squeeze_excite(n: Body, x: Tensor) -> Tensor:
    x = F.hardswish(n.a(x))
    return x * torch.sigmoid(n.b(F.adaptive_avg_pool2d(x, 1)))


def _shuffle(n: Body, x: Tensor) -> Tensor:
    left, right = n.a(x).chunk(2, 1)
    x = torch.cat([left, right], 1)
    b, c, h, w = x.shape
    return n.b(x.view(b, 2, c // 2, h, w).transpose(1, 2).flatten(1, 2))


BODIES: dict[str, Callable[[Body, Tensor], Tensor]] = {
    "conv_bn_relu": lambda n, x: F.relu(n.norm(n.a(x))),
    "residual": lambda n, x: F.relu((y := F.relu(n.a(x))) + n.b(y)),
    "squeeze_excite": _squeeze_excite,
    "channel_shuffle": _shuffle,
    "dense": lambda n, x: n.b(F.relu(n.norm(F.avg_pool2d(n.a(x), 2)))),
    "padding": lambda n, x: n.b(F.pad(n.a(F.pad(x, (1, 0, 1, 0))), (1, 1), value=0.5)),
    "classifier": lambda n, x: F.softmax(n.fc(F.dropout(n.a(x).mean((2, 3)), training=False)), -1),
    "float_glue": lambda n, x: n.b(F.layer_norm(n.a(x).permute(0, 2, 3, 1), (4,)).permute(0, 3, 1, 2)),
    "float_middle": lambda n, x: n.fc(torch.linalg.vector_norm(n.b(n.a(x)), 1, dim=(2, 3))),
}


@pytest.mark.parametrize("name", BODIES)
def test_dump(name: str, golden: Callable[[str, str], None]) -> None:
    x = torch.randn(2, 3, 8, 8)
    prepared = qfx.prepare_fx(Body(BODIES[name]).eval(), {"": qfx.get_default_qconfig()}, (x,))
    prepared(x)
    quantized = qfx.convert_fx(prepared)
    levels = {"Observed": prepared.graph, "QDQ": quantized.graph, "Int8": quantized.compiled.graph}
    golden(f"{name}.txt", "\n".join(f"# {level}\n{print_graph(graph)}" for level, graph in levels.items()))
