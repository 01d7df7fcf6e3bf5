"""Which frontend captures a model, and what is said about it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import qfx
from qfx.errors import CaptureError, InputError
from tests.nets import ConvBnReluNet

X = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
EVERYTHING = {"": qfx.get_default_qconfig()}


class ShapeBranch(nn.Module):
    """Symbolic tracing fails on the branch; export knows the shape."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if x.shape[1] == 3 else x


def test_auto_traces_a_plain_module() -> None:
    report = qfx.quantize_fx(ConvBnReluNet().eval(), EVERYTHING, [X]).report
    assert (report.frontend, report.frontend_reason) == ("symbolic", "the default")
    assert "captured by symbolic: the default" in str(report)


def test_auto_exports_what_can_not_be_traced_and_says_why() -> None:
    quantized = qfx.quantize_fx(ShapeBranch().eval(), EVERYTHING, [X])
    assert quantized.info["frontend"] == "export"
    assert "symbolic tracing failed" in quantized.report.frontend_reason
    assert quantized(X[:2]).shape == (2, 4, 30, 30)


def test_without_example_inputs_the_failure_of_tracing_is_told() -> None:
    with pytest.raises(CaptureError, match="can't be traced"):
        qfx.prepare_fx(ShapeBranch().eval(), EVERYTHING)


def test_a_frontend_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match="no frontend 'onnx'"):
        qfx.quantize_fx(ConvBnReluNet().eval(), EVERYTHING, [X], frontend="onnx")


def test_export_needs_example_inputs() -> None:
    with pytest.raises(CaptureError, match="needs example inputs"):
        qfx.prepare_fx(ConvBnReluNet().eval(), EVERYTHING, frontend="export")


def test_a_program_is_not_traced() -> None:
    program = torch.export.export(ConvBnReluNet().eval(), (X,))
    with pytest.raises(CaptureError, match="frontend='symbolic'"):
        qfx.quantize_fx(program, EVERYTHING, [X], frontend="symbolic")


def test_a_program_can_not_be_trained() -> None:
    program = torch.export.export(ConvBnReluNet().eval(), (X,))
    with pytest.raises(CaptureError) as caught:
        qfx.prepare_qat_fx(program, {"": qfx.get_default_qat_qconfig()}, X)
    assert "symbolic" in (caught.value.remedy or "")
