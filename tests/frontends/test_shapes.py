"""Shape propagation: shapes, dtypes, the batch dim, and inputs that do not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import qfx
from qfx.errors import InputError
from qfx.frontends import capture, normalize, propagate_shapes


def shaped(model: nn.Module, inputs: Any) -> fx.GraphModule:
    return propagate_shapes(normalize(capture(model)), inputs)


def facts(graph_module: fx.GraphModule, name: str) -> tuple[Any, ...]:
    (node,) = [node for node in graph_module.graph.nodes if node.name == name]
    return node.meta["shape"], node.meta["dtype"], node.meta["batch_dim"]


class Heads(nn.Module):
    """Several ranks, an integer result, a transposed batch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Any:
        y = self.conv(x)
        return y.mean((2, 3)).transpose(0, 1), y.argmax(1), self.conv.weight.sum((1, 2, 3)).exp()


def test_shapes_dtypes_and_the_batch_dim() -> None:
    graph_module = shaped(Heads(), torch.randn(2, 3, 8, 9))
    assert facts(graph_module, "conv") == ((2, 4, 6, 7), torch.float32, 0)
    assert facts(graph_module, "transpose") == ((4, 2), torch.float32, 1)
    assert facts(graph_module, "argmax") == ((2, 6, 7), torch.int64, 0)
    assert facts(graph_module, "conv_weight") == ((4, 3, 3, 3), torch.float32, None)


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x[:1]


def test_island_that_needs_values_is_run() -> None:
    graph_module = shaped(nn.Sequential(nn.Conv2d(3, 4, 3), Branching()), (torch.randn(1, 3, 8, 8),))
    assert facts(graph_module, "_1")[0] == (1, 4, 6, 6)


def test_island_runs_without_its_values() -> None:
    graph_module = shaped(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 2, 2, 2)), torch.randn(1, 3, 8, 8))
    assert facts(graph_module, "_1") == ((1, 2, 12, 12), torch.float32, 0)


class Remembering(nn.Module):
    """Control flow on a shape makes it an island; it keeps what it computed for the last shape."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), 2.0))
        self.ramp = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.ramp.shape[0]:
            self.ramp = self.scale * torch.arange(x.shape[-1], device=x.device)
        return x * self.ramp


def test_an_island_keeps_nothing_of_a_run_without_data() -> None:
    graph_module = shaped(nn.Sequential(nn.Conv2d(3, 4, 3), Remembering()), torch.randn(1, 3, 8, 8))
    assert facts(graph_module, "_1")[0] == (1, 4, 6, 6)
    (island,) = [module for module in graph_module.modules() if isinstance(module, Remembering)]
    assert island.ramp.device.type == "cpu"
    x = torch.randn(2, 3, 8, 8)
    weight, bias = graph_module.get_parameter("0.weight"), graph_module.get_parameter("0.bias")
    expected = nn.functional.conv2d(x, weight, bias) * 2 * torch.arange(6)
    assert torch.allclose(graph_module(x), expected, atol=1e-5)


class FixedBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x).reshape(2, -1)


def test_model_of_one_batch_size_has_no_batch_dim() -> None:
    graph_module = shaped(FixedBatch(), torch.randn(2, 3, 8))
    assert facts(graph_module, "reshape") == ((2, 24), torch.float32, None)


class TwoInputs(nn.Module):
    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return left + right


@pytest.mark.parametrize("inputs", [(torch.ones(2), torch.ones(2)), {"right": torch.ones(2), "left": torch.ones(2)}])
def test_inputs_by_position_and_name(inputs: Any) -> None:
    assert facts(shaped(TwoInputs(), inputs), "add")[0] == (2,)


@pytest.mark.parametrize("inputs", [torch.ones(2), (torch.ones(2),) * 3, {"left": torch.ones(2)}, {"x": 1, "left": 2}])
def test_wrong_number_or_names_of_inputs(inputs: Any) -> None:
    with pytest.raises(InputError, match="left"):
        shaped(TwoInputs(), inputs)


def test_inputs_that_do_not_fit_name_the_line() -> None:
    with pytest.raises(InputError, match=r"shapes \[\(2, 4, 8, 8\)\]") as caught:
        shaped(Heads(), torch.randn(2, 4, 8, 8))
    assert caught.value.where == "conv"
    assert caught.value.source is not None
    assert "y = self.conv(x)" in caught.value.source


@pytest.mark.parametrize(("chunks", "index"), [(1, -1), (2, -1), (3, -1), (3, -2), (5, -1), (5, -4), (3, 0)])
def test_the_last_chunks_are_counted_as_torch_does(chunks: int, index: int) -> None:
    """torch makes fewer chunks than asked for where pieces of that length are enough."""

    class Chunked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x).chunk(chunks, 2)[index]

    net = Chunked().eval()
    model = qfx.quantize_fx(net, {"": qfx.get_default_qconfig()}, [torch.rand(8, 3, 8, 4) * 2 - 1])
    for height in (4, 5, 7, 8, 9, 13):
        x = torch.rand(2, 3, height, 4) * 2 - 1  # within the range that calibration saw
        want = net(x)
        assert model(x).shape == want.shape
        assert torch.allclose(model(x), want, atol=0.1)
