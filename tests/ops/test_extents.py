"""What is known of lengths without inputs, from code around a reshape and layers that read a value; and its cost."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import qfx
from qfx.frontends import capture, normalize
from qfx.ops import TABLE, is_op
from qfx.ops.extents import extent_of, operand_rank, origin_of, rank_of


class Read(nn.Module):
    """A function of an input of which nothing is known but what its code and its layers say."""

    def __init__(self, function: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.function, self.linear, self.norm = function, nn.Linear(12, 6), nn.LayerNorm(12)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def unpacked(net: Read, x: Tensor) -> Tensor:
    b, t, c = x.shape
    return net.linear(x).view(b, t, c // 4, -1)


def read_by_norm(net: Read, x: Tensor) -> Tensor:
    b, t, c = x.size()
    return net.norm(x).view(b, t, c // 4, -1)


def indexed(net: Read, x: Tensor) -> Tensor:
    shape = x.shape
    return net.linear(x).view(shape[0], shape[1], 3, -1)


def swapped(net: Read, x: Tensor) -> Tensor:
    b, t, _ = x.shape
    return net.linear(x).view(t, b, 3, -1)


def halved(net: Read, x: Tensor) -> Tensor:
    b, t, _ = x.shape
    return net.linear(x).view(b, t // 2, 3, -1)


@pytest.mark.parametrize(
    ("function", "last"), [(unpacked, 2), (read_by_norm, 4), (indexed, None), (swapped, 2), (halved, None)]
)
def test_the_rest_of_a_reshape(function: Callable[[Any, Tensor], Any], last: int | None) -> None:
    normal = normalize(capture(Read(function)))
    (view,) = (node for node in normal.graph.nodes if is_op(node, "reshape"))
    assert extent_of(view, -1) == last
    x = torch.randn(2, 4, 12)
    assert last in (None, normal(x).shape[-1])


def test_unpacked_sizes_tell_the_rank_of_what_they_are_of() -> None:
    normal = normalize(capture(Read(unpacked)))
    (x,) = normal.graph.find_nodes(op="placeholder")
    assert (rank_of(x), extent_of(x, 2), extent_of(x, 1)) == (3, 12, None)
    assert rank_of(_placeholder(indexed)) is None


def _placeholder(function: Callable[[Any, Tensor], Any]) -> fx.Node:
    (x,) = normalize(capture(Read(function))).graph.find_nodes(op="placeholder")
    return x


def test_a_slice_from_a_length_of_a_value_of_unknown_rank() -> None:
    normal = normalize(capture(Read(lambda net, x: torch.relu(x)[:, (x.shape[1] + 1) // 2 :])))
    (half,) = (node for node in normal.graph.nodes if is_op(node, "slice"))
    assert (rank_of(half), extent_of(half, 1), operand_rank(half, 2), operand_rank(half, 1)) == (None, None, 2, None)
    assert origin_of(half, 0) == (half, 0)


def test_a_graph_deeper_than_pythons_stack_is_looked_through() -> None:
    graph = fx.Graph()
    node = graph.placeholder("x")
    for _ in range(3000):
        node = graph.call_function(TABLE["transpose"].fn, (node,), {"dim0": 1, "dim1": 2})
    assert rank_of(node) is None
    graph.find_nodes(op="placeholder")[0].meta["rank"] = 4
    assert rank_of(node) == 4


# ---------------------------------------------------------------- how much is computed


class Residual(nn.Module):
    """A layer beside a way around it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return torch.relu(x + y)


class Heads(nn.Module):
    """Linear attention, which takes the shape of its operand apart."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
        return self.out((q @ (k.transpose(-2, -1) @ v)).transpose(1, 2).reshape(b, t, c))


class Shuffled(nn.Module):
    """Half of the channels through a convolution; at each step, expressions of lengths have twice the operands."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        kept, changed = x.chunk(2, 1)
        y = torch.cat([kept, self.conv(changed)], 1)
        n, c, h, w = y.shape
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class Resized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(self.conv(x), size=x.shape[2:])


class Turned(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(-1, -2)


BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "convolutions": lambda: Residual(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())),
    "layers of any rank": lambda: Residual(nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.GELU())),
    "attention": lambda: Residual(Heads()),
    "shuffles": Shuffled,
    "sizes": lambda: Residual(Resized()),
    "nothing that tells a rank": lambda: Residual(Turned()),
}


def calls_about_shapes(block: Callable[[], nn.Module], depth: int) -> int:
    """How many functions about shapes are called while a net of ``depth`` blocks is prepared."""
    net = nn.Sequential(*(block() for _ in range(depth)), nn.Linear(8, 8)).eval()
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call" and bool(_ABOUT_SHAPES.search(frame.f_code.co_filename))

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        qfx.prepare_fx(net, {"": qfx.get_default_qconfig()})
    finally:
        sys.setprofile(before)
    return calls


_ABOUT_SHAPES = re.compile(r"qfx/ops/(extents|dims|\w+/rows)\.py$|qfx/patterns/symbolic_shape\.py$")


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_a_net_of_twice_the_depth_is_twice_the_work(block: Callable[[], nn.Module]) -> None:
    calls_about_shapes(block, 2)  # what a process does once
    calls = [calls_about_shapes(block, depth) for depth in (4, 8, 16)]
    assert calls[2] - calls[1] < 2.2 * (calls[1] - calls[0]), calls
