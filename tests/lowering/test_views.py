"""Views of one value, each in an order of its own, in one program: products and joins of them are the graph's."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import qfx
from qfx.lowering.compiled import fetch_codes
from qfx.lowering.interpreter import interpret_integers
from tests.fuzz.graphs import grow
from tests.fuzz.networks import QCONFIGS, Plan, check, require_as_near_as_graph


class OfOneMap(nn.Module):
    """A function of the result of a convolution or of a linear layer."""

    def __init__(self, layer: nn.Module, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.function = layer, function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x))


MAPS: dict[str, Callable[[Tensor], Tensor]] = {
    "flat beside its transpose": lambda y: torch.cat([y.flatten(1), y.transpose(2, 3).flatten(1)], 1),
    "flat beside three permutations": lambda y: torch.cat(
        [y.flatten(1), y.permute(0, 3, 1, 2).flatten(1), y.permute(0, 2, 3, 1).flatten(1), y.mT.flatten(1)], 1
    ),
    "times its transpose": lambda y: y @ y.mT,
    "its transpose times it": lambda y: y.mT @ y,
    "times itself": lambda y: y @ y,
    "means of rows and of columns": lambda y: y.flatten(2).mean(1) - y.mT.flatten(2).mean(1),
    "added to its transpose": lambda y: y + y.mT,
    "multiplied by a rotation of dims": lambda y: y * y.permute(0, 1, 3, 2),
    "stacked with its transpose": lambda y: torch.stack([y, y.mT, y], 1),
    "joined with its transpose": lambda y: torch.cat([y, y.mT], 2),
    "pixels times pixels of the transpose": lambda y: y.flatten(2).mT @ y.mT.flatten(2),
    "slices of both orders": lambda y: y[:, :, 1:].flatten(1)[:, :30] - y.mT[:, :, 1:].flatten(1)[:, :30],
    "attention of channels and of pixels": lambda y: (
        (y.flatten(2) @ y.flatten(2).mT) + (y.mT.flatten(2) @ y.flatten(2).mT)
    ),
    "maxima along each dim": lambda y: y.amax(3) + y.mT.amax(3) + y.amax(2),
    "expanded halves": lambda y: y[:, :1].expand(-1, 4, -1, -1) - y.mT[:, :4],
    "unflattened": lambda y: y.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2) + y,
}


FLAT: dict[str, Callable[[Tensor], Tensor]] = {
    "pixels": lambda y: y.flatten(2).mT,
    "pixels of a permutation": lambda y: y.permute(0, 2, 3, 1).flatten(1, 2),
    "images and their pixels": lambda y: y.permute(0, 2, 3, 1).flatten(0, 2),
    "one dim": lambda y: y.flatten(1, 1).permute(0, 2, 3, 1),
}


@pytest.mark.parametrize("name", FLAT)
def test_dims_that_lie_behind_each_other_are_flattened_where_they_are(name: str) -> None:
    net = nn.Sequential(OfOneMap(nn.Conv2d(3, 8, 1), FLAT[name]), nn.Linear(8, 8)).eval()
    x = torch.randn(2, 3, 6, 5)
    model = qfx.quantize_fx(net, {"": qfx.get_default_qconfig()}, [x])
    (part,) = model.explain().parts
    assert {step.op for step in part.steps} == {"quantize", "conv"}  # type: ignore[union-attr]
    assert torch.equal(model(x), interpret_integers(model.graph_module(), (x,)).output)


@pytest.mark.parametrize("name", MAPS)
def test_views_of_a_map_are_those_of_the_graph(name: str) -> None:
    net = OfOneMap(nn.Conv2d(3, 8, 1), MAPS[name]).eval()
    x = torch.randn(2, 3, 6, 6)
    model = qfx.quantize_fx(net, {"": qfx.get_default_qconfig()}, [x])
    want = interpret_integers(model.graph_module(), (x,))
    got = fetch_codes(model.compiled, (x,))
    assert [node for node in got if not torch.equal(got[node], want.codes[node].to(torch.int16))] == []
    assert torch.equal(model(x), want.output)
    require_as_near_as_graph(OneResult(net), OneResult(model), x)


class OneResult(nn.Module):
    """A model's result as a tuple, which random networks return."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.model(x),)

    def run_graph(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.model.run_graph(x),)


@pytest.mark.parametrize("seed", range(8))
def test_random_graphs_of_moves_and_products(seed: int) -> None:
    rng = random.Random(seed)
    shape = [(4, 6, 5, 5), (3, 4, 6, 6), (3, 7, 7), (2, 3, 4, 3, 4)][seed % 4]
    net = grow(rng, ("moves", "products"), shape, 20, free_batch=seed % 2 == 0)
    inputs = [torch.randn(shape) for _ in range(2)]
    others = [torch.randn(1, *shape[1:])] if seed % 2 == 0 else []
    check(Plan(net, inputs, others, QCONFIGS[seed % 4], "symbolic"))
