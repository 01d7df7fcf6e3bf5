"""A batch norm without running statistics normalizes by its input's, in evaluation too: weight standardization."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import qfx


class Standardized(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(flat, None, None, training=True, momentum=0.0, eps=1e-5).reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias)


@pytest.mark.parametrize("frontend", ["symbolic", "export", "torchscript"])
def test_a_weight_standardized_by_a_batch_norm_is_a_constant(frontend: str) -> None:
    model, x = nn.Sequential(Standardized(3, 8, 3), nn.ReLU()).eval(), torch.randn(2, 3, 8, 8)
    fused = qfx.fuse_fx(model, x, frontend=frontend)
    torch.testing.assert_close(fused(x), model(x), rtol=1e-5, atol=1e-5)
    assert [r.op for r in qfx.quantize_fx(model, {"": qfx.get_default_qconfig()}, [x], frontend=frontend).report] == [
        "conv"
    ]
