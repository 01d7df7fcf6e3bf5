"""RMS norms, however they are written, are one step of the program that computes what torch does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import qfx

FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "llama": lambda x, w: w * (x.to(torch.float32) * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)),
    "converted back": lambda x, w: (
        w * (x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)
    ),
    "weight last": lambda x, w: (x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6)) * w,
    "gemma": lambda x, w: (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)) * (1.0 + w.float()),
    "root": lambda x, w: x / torch.sqrt(torch.mean(x**2, dim=2, keepdim=True) + 1e-6) * w,
    "reciprocal": lambda x, w: w * (x * torch.reciprocal((x.pow(2).mean(-1, True) + 1e-6).sqrt())),
    "power": lambda x, w: w * (x * torch.pow(x.pow(2).mean(-1, keepdim=True) + 1e-6, -0.5)),
    "no weight": lambda x, w: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6),
    "function": lambda x, w: torch.rms_norm(x, (16,), w),
}


class Normed(nn.Module):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.first, self.last, self.form = nn.Linear(16, 16), nn.Linear(16, 16), form
        self.gain = nn.Parameter(torch.rand(16) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(FORMS[self.form](self.first(x), self.gain))


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_one_step(form: str) -> None:
    x = torch.randn(4, 7, 16, generator=torch.Generator().manual_seed(0))
    net = Normed(form).eval()
    model = qfx.quantize_fx(net, {"": qfx.get_default_qconfig()}, [x])
    assert [record.op for record in model.report] == ["linear", "rms_norm", "linear"]
    with torch.no_grad():
        want = net(x)
    assert float((model(x) - want).square().mean() / want.square().mean()) < 1e-3


def test_a_mean_over_another_dim_is_none() -> None:
    class Columns(Normed):
        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            return self.last(y * torch.rsqrt(y.pow(2).mean(1, keepdim=True) + 1e-6))

    model = qfx.quantize_fx(Columns("llama").eval(), {"": qfx.get_default_qconfig()}, [torch.randn(4, 7, 16)])
    assert "rms_norm" not in [record.op for record in model.report]
