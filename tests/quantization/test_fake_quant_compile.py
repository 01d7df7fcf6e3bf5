"""Compilers, exporters and fake tensors see fake quantization as torch operations, with the kernels' values."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from qfx.quantization import (
    default_fake_quant,
    default_lsq_plus_fake_quant,
    default_pact_fake_quant,
    default_per_channel_weight_fake_quant,
    disable_observer,
)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.entry, self.weight = default_fake_quant(), default_per_channel_weight_fake_quant()
        self.learned, self.clip = default_lsq_plus_fake_quant(), default_pact_fake_quant()

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.linear(self.entry(x), self.weight(self.layer.weight), self.layer.bias)
        return self.clip(self.learned(y))


@pytest.fixture
def net() -> Net:
    """A net that has seen a batch."""
    made = Net()
    made(torch.randn(4, 8))
    return made


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_compiled_training_step_is_the_eager_one(net: Net, backend: str) -> None:
    eager, inside = copy.deepcopy(net), copy.deepcopy(net)
    torch.compiler.reset()
    compiled = torch.compile(inside, fullgraph=True, backend=backend)
    for factor in (1.0, 2.0, 0.5):
        x = factor * torch.randn(4, 8)
        ours, theirs = compiled(x), eager(x)
        assert torch.equal(ours, theirs)
        ours.sum().backward()
        theirs.sum().backward()
    expected = dict(eager.named_parameters())
    for name, parameter in inside.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad)
    assert all(torch.equal(v, eager.state_dict()[k]) for k, v in inside.state_dict().items())
    inside.apply(disable_observer)
    eager.apply(disable_observer)
    x = 9 * torch.randn(4, 8)
    assert torch.equal(compiled(x), eager(x))
    assert all(torch.equal(v, eager.state_dict()[k]) for k, v in inside.state_dict().items())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_an_exported_program_rounds() -> None:
    module = default_fake_quant()
    x = torch.randn(4, 8)
    module(x)
    module.disable_observer()
    exported = torch.export.export(module, (x,)).module()
    assert torch.equal(exported(3 * x), module(3 * x))


def test_a_traced_graph_rounds() -> None:
    module = default_fake_quant()
    x = torch.randn(4, 8)
    module(x)
    module.disable_observer()
    graph = make_fx(module, tracing_mode="real")(x)
    assert torch.equal(graph(3 * x), module(3 * x))


def test_fake_tensors_pass() -> None:
    module = default_fake_quant()
    module(torch.randn(4, 8))
    module.disable_observer()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        y = module(mode.from_tensor(torch.randn(4, 8)))
    assert y.shape == (4, 8)
    assert torch.equal(module.scale, copy.deepcopy(module).scale)


def test_a_device_without_memory_passes() -> None:
    module = default_fake_quant().to("meta")
    assert module(torch.empty(4, 8, device="meta")).device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("make", [default_fake_quant, default_per_channel_weight_fake_quant])
def test_cuda_computes_the_same_and_never_waits(make: type[nn.Module]) -> None:
    here, there = make(), make().cuda()
    for factor in (1.0, 2.0, 0.5):
        x = (factor * torch.randn(6, 40)).requires_grad_()
        given = x.detach().cuda().requires_grad_()
        g = torch.randn(6, 40)
        torch.cuda.synchronize()
        there(given.detach() * 0 + given)  # the switches are read once
        here(x)
        torch.cuda.set_sync_debug_mode("error")
        try:
            y = there(given)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        expected = here(x)
        torch.testing.assert_close(y.cpu(), expected)
        (ours,) = torch.autograd.grad(y, given, g.cuda())
        (theirs,) = torch.autograd.grad(expected, x, g)
        torch.testing.assert_close(ours.cpu(), theirs)
