"""What measures a quantized model captures its float model as it was captured when it was quantized."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

import qfx

DEFAULT = {"": qfx.get_default_qconfig()}
X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))


def model_of(frontend: str) -> tuple[Any, dict[str, str]]:
    """A model that ``"auto"`` captures by ``frontend``, or a module and the argument that asks for it."""
    torch.manual_seed(1)
    layers = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))
    net = nn.Sequential(*layers).eval()
    if frontend == "torchscript":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.jit.trace(net, X), {}
    if frontend == "ExportedProgram":
        return torch.export.export(net, (X,)), {}
    return net, {"frontend": frontend}


@pytest.mark.parametrize("frontend", ["symbolic", "export", "torchscript", "ExportedProgram"])
def test_a_model_is_compared_ranked_and_advised_on_as_it_was_captured(frontend: str) -> None:
    net, asked = model_of(frontend)
    quantized = qfx.quantize_fx(net, DEFAULT, [X], **asked)
    compared = qfx.compare(net, quantized, [X])
    assert [r.op for r in compared if r.quantization is not None] == ["input", "conv+clamp", "flatten", "linear"]
    ranked = {s.name for s in qfx.sensitivity(net, DEFAULT, [X], **asked)}
    assert ranked == {r.name for r in compared if r.op != "flatten"}
    suggested = qfx.suggest(net, quantized, [X], trials=1)
    assert all(s.sqnr_after > s.sqnr_before for s in suggested)
