"""What is fused for training computes what the float modules do, in training and in evaluation."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import qfx

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def layers(dims: int, bias: bool, normalized: bool, activated: bool) -> nn.Sequential:
    torch.manual_seed(dims)
    found: list[nn.Module] = [CONVS[dims](3, 4, 3, padding=1, bias=bias)]
    found += [NORMS[dims](4)] if normalized else []
    found += [nn.ReLU()] if activated else []
    return nn.Sequential(*found)


@pytest.mark.inventory("S211", "S212", "S213")
@pytest.mark.parametrize(("normalized", "activated"), [(False, True), (True, False), (True, True)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dims", CONVS)
def test_graph_mode_fusion_keeps_the_float_result(dims: int, bias: bool, normalized: bool, activated: bool) -> None:
    net = layers(dims, bias, normalized, activated)
    x = torch.randn(4, 3, *[6] * dims)
    model = qfx.prepare_qat_fx(net, {"": qfx.get_default_qat_qconfig()}, (x,))
    observed = [node for node in model.graph.nodes if node.op == "call_function"]
    assert len(observed) == 1, "the layers are one node"
    model(x)
    wanted = copy.deepcopy(net)
    wanted.load_state_dict(model.float_state_dict())
    model.apply(qfx.disable_fake_quant)
    for training in (True, False):
        torch.testing.assert_close(model.train(training)(x), wanted.train(training)(x), rtol=1e-5, atol=1e-5)
    assert model.state_dict().keys() >= net.state_dict().keys()
