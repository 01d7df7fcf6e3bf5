"""Observers and fake quantization live where the tensors of their module do."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from qfx.quantization import fuse_modules, get_default_qat_qconfig, get_default_qconfig, prepare, prepare_qat


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))


@pytest.mark.inventory("S184")
@pytest.mark.parametrize("training", [True, False])
def test_what_prepare_adds_is_on_the_device_of_the_model(training: bool) -> None:
    model = fuse_modules(net().train(training), [["0", "1", "2"]]).to("meta")
    model.qconfig = get_default_qat_qconfig("qnnpack") if training else get_default_qconfig("qnnpack")
    prepared = prepare_qat(model) if training else prepare(model)
    added = {k: t for k, t in prepared.state_dict().items() if "activation_post_process" in k or "fake_quant" in k}
    assert len(added) > 4
    assert {t.device.type for t in added.values()} == {"meta"}


@pytest.mark.inventory("S184")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("before", [True, False])
def test_a_training_step_on_cuda(before: bool) -> None:
    model = net().train()
    model.qconfig = get_default_qat_qconfig("qnnpack")
    prepared = prepare_qat(model.cuda()) if before else prepare_qat(model).cuda()
    x = torch.randn(8, 3, 4, 4, device="cuda")
    prepared(x).square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in prepared.parameters())
