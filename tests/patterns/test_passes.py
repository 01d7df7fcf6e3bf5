"""The passes on networks as people write them: what is left after fold and fuse."""

from __future__ import annotations

from collections import Counter

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from qfx import patterns
from qfx.frontends import capture, normalize, propagate_shapes
from qfx.ops import op_of
from tests.nets import DenseNet, MobileNet, ResidualNet, settle

PASSES = (
    patterns.eliminate_identities,
    patterns.fold_batch_norm,
    patterns.fold_scales,
    patterns.fold_padding,
    patterns.fuse_activations,
    patterns.fuse_residuals,
    patterns.eliminate_dead_code,
)


def shown(node: fx.Node) -> str | None:
    """The row of a node; "+" with a residual, "!" with an activation."""
    op = op_of(node)
    if op is None:
        return None
    residual = op.name in ("conv", "linear") and len(node.args) > 3
    return op.name + "+" * residual + "!" * (node.kwargs.get("activation") is not None)


def optimized(model: nn.Module, x: Tensor) -> Counter[str]:
    """What is left of the model's graph, whose value is checked."""
    graph_module = normalize(capture(model))
    for rewrite in PASSES:
        graph_module = rewrite(graph_module)
    with torch.no_grad():
        expected = model.eval()(x)
        torch.testing.assert_close(graph_module(x), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert not any("opaque_reason" in node.meta for node in graph_module.graph.nodes)
    read = {str(node.target) for node in graph_module.graph.nodes if node.op == "get_attr"}
    assert set(graph_module.state_dict()) == read
    return Counter(name for node in graph_module.graph.nodes if (name := shown(node)) is not None)


IMAGES = torch.randn(2, 3, 32, 32)


def test_residual_net() -> None:
    assert optimized(settle(ResidualNet()), IMAGES) == {
        "conv!": 1, "conv+!": 2, "conv": 1, "max_pool": 1, "mean": 1, "linear": 1,
    }  # fmt: skip


def test_mobile_net() -> None:
    left = optimized(settle(MobileNet()), IMAGES)
    assert left == {
        "conv!": 1, "conv": 4, "hardswish": 1, "silu": 1, "sigmoid": 1, "mul": 1, "mean": 2, "linear": 1,
    }  # fmt: skip


def test_dense_net() -> None:
    left = optimized(settle(DenseNet()), IMAGES)
    assert left["relu"] == 0
    assert left["cat"] > 0
    assert left["channel_affine"] == 0


class ShuffleUnit(nn.Module):
    """ShuffleNetV2's unit: split, two convolutions on a half, cat, shuffle written by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2)
        self.a, self.b, self.bn = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        kept, x = self.stem(x).chunk(2, dim=1)
        x = torch.cat((kept, self.bn(self.b(F.relu(self.a(x))))), 1)
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)


def test_channel_shuffle() -> None:
    assert optimized(settle(ShuffleUnit()), IMAGES) == {
        "conv": 2, "conv!": 1, "slice": 2, "cat": 1, "channel_shuffle": 1,
    }  # fmt: skip


class ConvNeXtBlock(nn.Module):
    """A linear pair behind a permutation, layer scale, residual."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depthwise = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 8, 7, padding=3, groups=8)
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 32), nn.Linear(32, 8)
        self.gamma = nn.Parameter(torch.rand(8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.down(F.gelu(self.up(y))).permute(0, 3, 1, 2)
        return x + y.mul(self.gamma.reshape(1, -1, 1, 1))


def test_layer_scale_goes_into_the_linear() -> None:
    left = optimized(ConvNeXtBlock(), IMAGES)
    assert left["mul"] == left["channel_affine"] == 0
    assert left["linear"] == 2


class Preprocess(nn.Module):
    """Mean and deviation as buffers, in front of a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.rand(1, 3, 1, 1))
        self.register_buffer("std", torch.rand(1, 3, 1, 1) + 0.5)
        self.conv = nn.Conv2d(3, 4, 3)
        self.scale = nn.Parameter(torch.tensor(0.7))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv((x - self.mean) / self.std) * self.scale


def test_constants_of_one_item_go_into_the_convolution() -> None:
    left = optimized(Preprocess(), IMAGES)
    assert left["mul_scalar"] == left["div"] == 0
    assert left["conv"] == 1


def test_residual_of_seen_shapes() -> None:
    model = nn.Sequential(nn.Linear(8, 8))
    graph_module = propagate_shapes(normalize(capture(Skip(model))), (torch.randn(3, 8),))
    fused = patterns.fuse_residuals(graph_module)
    assert [shown(node) for node in fused.graph.nodes if shown(node)] == ["linear+"]
    unknown = patterns.fuse_residuals(normalize(capture(Skip(model))))
    assert [shown(node) for node in unknown.graph.nodes if shown(node)] == ["linear", "add"]


class Skip(nn.Module):
    """``x + inner(x)``."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)
