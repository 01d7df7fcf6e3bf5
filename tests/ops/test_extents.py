"""What is known of lengths without inputs: what code around a reshape and the layers that read a value say of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

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
