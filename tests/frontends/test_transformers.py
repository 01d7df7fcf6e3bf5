"""torch's transformers: every product is quantized, with masks and without, and nothing is printed on the way."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qfx
from qfx.errors import CaptureError
from qfx.frontends import export

CAUSAL = nn.Transformer.generate_square_subsequent_mask(5)
GENERATOR = torch.Generator().manual_seed(0)


def values(length: int = 5) -> Tensor:
    return torch.randn(2, length, 16, generator=GENERATOR)


def _layer(kind: str, **options: Any) -> nn.Module:
    return getattr(nn, f"Transformer{kind}Layer")(16, 2, 32, batch_first=True, **options)


Case = tuple[Callable[[], nn.Module], Callable[[], dict[str, Tensor]], int]
CASES: dict[str, Case] = {
    "encoder": (lambda: nn.TransformerEncoder(_layer("Encoder"), 1), lambda: {"src": values()}, 4),
    "encoder, causal": (
        lambda: nn.TransformerEncoder(_layer("Encoder"), 1), lambda: {"src": values(), "mask": CAUSAL}, 4,
    ),
    "decoder": (
        lambda: nn.TransformerDecoder(_layer("Decoder"), 1), lambda: {"tgt": values(), "memory": values(7)}, 7,
    ),
    "decoder, causal": (
        lambda: nn.TransformerDecoder(_layer("Decoder", norm_first=True), 1),
        lambda: {"tgt": values(), "memory": values(7), "tgt_mask": CAUSAL},
        7,
    ),
    "decoder, another mask": (
        lambda: nn.TransformerDecoder(_layer("Decoder", activation="gelu"), 1),
        lambda: {"tgt": values(), "memory": values(7), "memory_mask": torch.eye(5, 7) * -10.0},
        7,
    ),
    "both, causal": (
        lambda: nn.Transformer(16, 2, 1, 1, 32, batch_first=True),
        lambda: {"src": values(7), "tgt": values(), "tgt_mask": CAUSAL},
        11,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_every_product_of_a_transformer_is_quantized(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    build, inputs, products = CASES[name]
    torch.manual_seed(0)
    model = build().eval()
    quantized = qfx.quantize_fx(model, {"": qfx.get_default_qconfig()}, [inputs() for _ in range(3)])
    assert sum(r.op == "linear" for r in quantized.report.decided("int8")) == products
    given = inputs()
    with torch.no_grad():
        result, expected = quantized(**given), model(**given)
    assert 10 * torch.log10(expected.square().sum() / (expected - result).square().sum()) > 25
    assert capfd.readouterr() == ("", "")


def test_a_failed_export_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2 if bool((x > 0).all()) else x

    with pytest.raises(CaptureError):
        export.capture(Branches(), example=((values(),), {}))
    assert capfd.readouterr() == ("", "")
    assert "print" not in vars(importlib.import_module("torch.export._trace"))
