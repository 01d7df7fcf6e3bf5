"""What profile() says of the arithmetic."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import qfx
from qfx.models import QuantizedModel
from qfx.quantization import default_dynamic_qconfig


def quantized() -> tuple[QuantizedModel, torch.Tensor]:
    """Convolution, depthwise convolution, pooling, linear; and its input of two images."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    ).eval()
    x = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    return qfx.quantize_fx(net, {"": qfx.get_default_qconfig()}, calibration=[x]), x


def test_multiply_accumulates_are_those_of_the_layers() -> None:
    model, x = quantized()
    steps = model.profile(x, repeats=2).parts[0].steps
    assert [s.macs for s in steps if s.macs] == [2 * 6 * 6 * 8 * 27, 2 * 6 * 6 * 8 * 9, 2 * 8 * 5]
    for step in steps:
        assert (step.gmacs is None) == (step.share_of_peak is None) == (step.macs == 0)


def test_matrix_products_count_too() -> None:
    class Products(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 8), nn.Linear(6, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.a(x) @ self.b(x).transpose(1, 2)

    x = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0))
    model = qfx.quantize_fx(Products().eval(), {"": qfx.get_default_qconfig()}, calibration=[x])
    steps = model.profile(x, repeats=2).parts[0].steps
    assert [(s.op, s.macs) for s in steps if s.macs][-1] == ("matmul", 3 * 5 * 5 * 8)
    assert all(s.share_of_peak for s in steps if s.macs)


class Attending(nn.Module):
    """A layer, attention of five queries to seven keys, and an LSTM."""

    def __init__(self, *, causal: bool) -> None:
        super().__init__()
        self.causal, self.layer, self.lstm = causal, nn.Linear(8, 8), nn.LSTM(8, 6, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k = (y.unflatten(-1, (2, 4)).transpose(1, 2) for y in (self.layer(x[:, :5]), x))
        attended = F.scaled_dot_product_attention(q, k, k, is_causal=self.causal)
        made: torch.Tensor = self.lstm(attended.transpose(1, 2).flatten(2))[0]
        return made


@pytest.mark.parametrize(("causal", "pairs"), [(False, 5 * 7), (True, 1 + 2 + 3 + 4 + 5)])
@pytest.mark.parametrize("qconfig", [default_dynamic_qconfig, qfx.get_default_qconfig()], ids=["dynamic", "static"])
def test_attention_and_recurrent_layers_count_before_anything_runs(qconfig: Any, causal: bool, pairs: int) -> None:
    x = torch.randn(3, 7, 8, generator=torch.Generator().manual_seed(0))
    model = qfx.quantize_fx(Attending(causal=causal).eval(), {"": qconfig}, calibration=[x])
    (program,) = model.explain().parts
    of_lstm = 4 * 6 * (8 + 6)
    assert [s.macs for s in program.steps if s.macs] == [3 * 5 * 8 * 8, 3 * 2 * pairs * (4 + 4), 3 * 5 * of_lstm]


def test_rates_follow_from_the_times_and_stand_in_the_table() -> None:
    model, x = quantized()
    explanation = model.profile(x, repeats=2)
    first = next(s for s in explanation.parts[0].steps if s.macs)
    assert first.gmacs == 1e-3 * first.macs / first.microseconds
    assert 0 < first.share_of_peak < 1
    assert f"{first.share_of_peak:.0%}" in str(explanation)
    assert model.explain().parts[0].steps[0].gmacs is None


def test_passes_over_rows_are_called_by_the_modules_in_them() -> None:
    class Mlp(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.up, self.act, self.down = nn.LayerNorm(32), nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32)
            self.mix = nn.MultiheadAttention(32, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.norm(x)
            return self.mix(y, y, y, need_weights=False)[0] + self.down(self.act(self.up(x)))

    x = torch.randn(3, 5, 32, generator=torch.Generator().manual_seed(0))
    for qconfig, last in ((qfx.get_default_qconfig(), "quantize"), (default_dynamic_qconfig, "rotate")):
        model = qfx.quantize_fx(Mlp().eval(), {"": qconfig}, calibration=[x])
        steps = model.profile(x, repeats=1).parts[0].steps
        passes = {step.names[0]: step for step in steps if len(step.names) > 1}
        assert passes["act"].op == f"pointwise_f32+rotate{'+quantize' if last == 'quantize' else ''}"
        part = model.compiled.segments[0]
        assert part.places[passes["act"].names[0]][0] == "act"
        assert {name for step in steps for name in step.names} >= {"norm", "act"}
