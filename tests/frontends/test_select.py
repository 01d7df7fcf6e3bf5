"""Which frontend captures a model, and what is said about it."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
import torch.fx
import torch.nn.functional as F
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


class Halves(nn.Module):
    """Drops a row of odd images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x[:, :, :-1] if x.shape[2] % 2 else x)


def test_an_export_that_auto_chose_keeps_the_size_of_images_and_takes_no_other() -> None:
    net = Halves().eval()
    quantized = qfx.quantize_fx(net, EVERYTHING, [X])
    assert "the sizes of images are those of the examples" in quantized.report.frontend_reason
    assert quantized(X[:3]).shape == (3, 4, 30, 30)
    with pytest.raises(InputError, match=r"\(4, 3, 31, 31\), but the model takes \(any, 3, 32, 32\)"):
        quantized(X[:, :, 1:, 1:])
    file = io.BytesIO()
    qfx.save(quantized, file)
    file.seek(0)
    with pytest.raises(InputError, match="takes"):
        qfx.load(file)(X[:, :, 1:, 1:])


def test_export_keeps_the_sizes_of_images_free_when_asked_for() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    quantized = qfx.quantize_fx(net, EVERYTHING, [X], frontend="export")
    smaller = X[:, :, 5:, 3:]
    assert qfx.compare(net, quantized, [smaller])
    assert quantized(smaller).shape == (4, 4)


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.out = nn.MultiheadAttention(16, 4, batch_first=True), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.attention(x, x, x, need_weights=False)[0])


TOKENS = torch.randn(3, 7, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("net", [Attends(), nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)])
def test_auto_enters_attention_by_export(net: nn.Module) -> None:
    quantized = qfx.quantize_fx(net.eval(), EVERYTHING, [TOKENS])
    assert quantized.report.frontend == "export"
    found = [r.op for r in quantized.report if r.decision == "int8"]
    assert found.count("attention") == 1
    assert found.count("linear") >= 3
    assert quantized(TOKENS[:1, :5]).shape == net(TOKENS[:1, :5]).shape  # batch and sequence stay free


@pytest.mark.parametrize(
    "net",
    [
        Attends(),
        nn.TransformerEncoderLayer(16, 4, 32, batch_first=True),
        nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2, enable_nested_tensor=False),
    ],
)
def test_attention_that_was_not_entered_says_how_to_enter_it(net: nn.Module) -> None:
    """Followed to its end, the remedy leaves no layer in float."""
    prepared = qfx.prepare_fx(net.eval(), EVERYTHING)
    prepared(TOKENS)
    left = [r for r in qfx.convert_fx(prepared).report if "no table op for torch.nn" in r.reason]
    assert [r.reason.partition("; ")[2] for r in left] == ["pass example_inputs, so that export takes it apart"]
    asked = qfx.prepare_fx(net, EVERYTHING, example_inputs=(TOKENS,))
    asked(TOKENS)
    assert all(r.decision == "int8" for r in qfx.convert_fx(asked).report.layers())


@pytest.mark.parametrize(
    "entry", [{"object_type": [(nn.MultiheadAttention, None)]}, {"module_name": [("attention", None)]}]
)
def test_attention_that_is_to_stay_float_does(entry: dict[str, Any]) -> None:
    quantized = qfx.quantize_fx(Attends().eval(), {**EVERYTHING, **entry}, [TOKENS])
    assert [r.module_path for r in quantized.report if r.decision == "int8"] == ["out"]


@torch.fx.wrap
def projected(x: Tensor, weight: Tensor) -> Tensor:
    return F.relu(F.linear(x, weight)) if x.shape[-1] > 1 else x


class Projects(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 16))

    def forward(self, x: Tensor) -> Tensor:
        return projected(x, self.weight)


def test_auto_enters_a_wrapped_function_with_weights_by_export() -> None:
    quantized = qfx.quantize_fx(Projects().eval(), EVERYTHING, [TOKENS])
    assert quantized.report.frontend == "export"
    assert [r.op for r in quantized.report if r.decision == "int8"] == ["linear"]


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


class AsksForATuple(nn.Module):
    """A cell whose results are no tuple while they are traced."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.cell, self.last = nn.Linear(4, 4), nn.LSTMCell(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = self.cell(self.first(x))
        return self.last(state[0] if isinstance(state, tuple) else state)


def test_a_trace_that_does_not_run_is_not_taken() -> None:
    net, x = AsksForATuple().eval(), torch.randn(3, 4)
    quantized = qfx.quantize_fx(net, {"": qfx.get_default_qconfig()}, [x])
    assert (quantized(x) - net(x)).abs().max() < 0.1
    with pytest.raises(CaptureError, match="does not run on the example inputs") as caught:
        qfx.quantize_fx(net, {"": qfx.get_default_qconfig()}, [x], frontend="symbolic")
    assert caught.value.remedy
