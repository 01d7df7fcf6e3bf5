"""Models of the PT2E flow come in with their own numbers, from every quantizer, in each of the forms that they have."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import qfx
from qfx.errors import CaptureError, ConversionError
from qfx.ir.attributes import read_qparams
from qfx.ops import qdq
from tests.imports.cases import CASES, Net, conv, images, named, rows, seeded, within
from tests.imports.peers import QUANTIZERS, Quiet, inductor, pt2e, quietly, xnnpack
from tests.nets import MobileNet, ResidualNet

pytest.importorskip("torchao")


def taken(model: Any, *inputs: Any) -> Any:
    with quietly():
        return qfx.from_pt2e(model, inputs)


def numbers(model: Any) -> set[tuple[float, int, int, int]]:
    """Scale, zero point and range of every quantized value."""
    gm = model.graph_module()
    found = [read_qparams(gm, n) for n in gm.graph.nodes if n.target is qdq.quantize]
    return {(float(q.scale), int(q.zero_point), q.qmin, q.qmax) for q in found}  # type: ignore[arg-type]


def numbers_given(model: Any) -> set[tuple[float, int, int, int]]:
    calls = [n for n in model.graph.nodes if "quantize_per_tensor.default" in str(n.target)]
    single = [n.args[1:5] for n in calls if not str(n.target).startswith("quantized_decomposed.deq")]
    return {(float(torch.tensor(scale)), int(zero), int(low), int(high)) for scale, zero, low, high in single}


def transposed() -> nn.Module:
    return nn.Sequential(nn.ConvTranspose2d(4, 6, 3, 2), nn.ReLU(), nn.Conv2d(6, 4, 1))


def quantized_layers(given: Any) -> list[Any]:
    """The layers of another tool's graph that read integers and have integers for weights."""
    layers = [n for n in given.graph.nodes if str(n.target).startswith(("aten.conv", "aten.linear"))]
    return [n for n in layers if all("dequantize" in str(n.args[i].target) for i in (0, 1))]


@pytest.mark.parametrize("quantizer", ["inductor", "xnnpack"])
@pytest.mark.parametrize("name", named())
def test_results_are_within_one_quantum_numbers_the_same_and_layers_int8(name: str, quantizer: str) -> None:
    make, inputs = CASES[name]
    given = pt2e(seeded(make), QUANTIZERS[quantizer], inputs)
    model, x = taken(given, *inputs()), inputs()
    assert (model(*x) - Quiet(given)(*x)).abs().max() <= within(model)
    assert numbers(model) == numbers_given(given)
    layers = [r for r in model.report.layers() if r.op in ("conv", "linear")]
    assert sum(r.decision == "int8" for r in layers) == len(quantized_layers(given))


@pytest.mark.parametrize(
    "make",
    [CASES["conv relu"][0], lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, 2), nn.ReLU(), nn.Conv2d(6, 4, 1))],
)
def test_weights_with_one_scale_for_all(make: Any) -> None:
    given = pt2e(seeded(make), QUANTIZERS["xnnpack per tensor"], images)
    model, x = taken(given, *images()), images()
    assert (model(*x) - Quiet(given)(*x)).abs().max() <= within(model)
    assert all(r.decision == "int8" for r in model.report.layers())


@pytest.mark.parametrize("quantizer", ["inductor", "xnnpack"])
@pytest.mark.parametrize("make", [ResidualNet, MobileNet])
def test_whole_nets(make: Any, quantizer: str) -> None:
    def inputs() -> tuple[torch.Tensor]:
        return (torch.randn(2, 3, 32, 32),)

    given = pt2e(seeded(make), QUANTIZERS[quantizer], inputs)
    model, x = taken(given, *inputs()), inputs()
    assert (model(*x) - Quiet(given)(*x)).abs().max() <= within(model)
    assert not [r for r in model.report.layers() if r.decision == "float"]


def test_an_exported_program_is_taken_as_it_is_and_as_a_file(tmp_path: Path) -> None:
    given = pt2e(seeded(CASES["add relu"][0]), xnnpack, images)
    with quietly():
        program = torch.export.export(given, images())
        file = io.BytesIO()
        torch.export.save(program, file)
        file.seek(0)
        loaded = torch.export.load(file)
    x = images()
    expected = taken(given, *images())(*x)
    for each in (program, loaded):
        with quietly():
            assert torch.equal(qfx.from_pt2e(each)(*x), expected)


def test_sizes_that_are_free_there_are_free_here() -> None:
    free = {"dynamic_shapes": ({0: torch.export.Dim("batch", min=2, max=64)},)}
    given = pt2e(seeded(CASES["global pool"][0]), inductor, images, **free)
    model, x = taken(given, *images()), torch.randn(7, 4, 8, 8)
    assert (model(x) - Quiet(given)(x)).abs().max() <= within(model)


def test_what_is_taken_over_is_saved_loaded_and_copied_as_any_model(tmp_path: Path) -> None:
    model, x = taken(pt2e(seeded(CASES["encoder"][0]), xnnpack, CASES["encoder"][1]), *CASES["encoder"][1]()), None
    x = CASES["encoder"][1]()
    qfx.save(model, tmp_path / "m.qfx")
    again = qfx.load(tmp_path / "m.qfx")
    assert torch.equal(again(*x), model(*x))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(*x), model(*x))


@pytest.mark.parametrize("quantizer", [lambda: xnnpack(is_dynamic=True), lambda: inductor(is_dynamic=True)])
def test_values_rounded_at_each_call_stay_so_in_linear_layers(quantizer: Any) -> None:
    given = pt2e(seeded(lambda: nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))), quantizer, rows)
    model, x = taken(given, *rows()), rows()
    assert [r.reason for r in model.report.layers()] == [
        "weights int8 by the tool that the model comes from, input quantized at each call"
    ] * 2
    spread = float(x[0].max() - x[0].min())
    largest = max(float(p.detach().abs().sum(1).max()) for p in given.parameters() if p.dim() == 2)
    assert (model(*x) - Quiet(given)(*x)).abs().max() <= spread / 255 * largest


def test_convolutions_of_values_rounded_at_each_call_stay_in_torch_and_right() -> None:
    given = pt2e(seeded(CASES["conv relu"][0]), lambda: inductor(is_dynamic=True), images)
    model, x = taken(given, *images()), images()
    assert torch.allclose(model(*x), Quiet(given)(*x), atol=1e-5)
    assert model.report.decided("float")


def test_a_value_that_something_reads_in_float_too_is_rounded_only_for_the_others() -> None:
    given = pt2e(seeded(CASES["read twice"][0]), inductor, images)
    x = images()
    assert (taken(given, *images())(*x) - Quiet(given)(*x)).abs().max() < 1e-4


def test_sixteen_bits_stay_in_torch() -> None:
    from torchao.quantization.pt2e.observer import MinMaxObserver
    from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer

    class Wide(Quantizer):
        def annotate(self, model: Any) -> Any:
            wide = QuantizationSpec(torch.int16, MinMaxObserver, -(2**15), 2**15 - 1, torch.per_tensor_symmetric)
            for node in model.graph.nodes:
                if str(node.target) == "aten.linear.default":
                    inputs = {node.args[0]: wide}
                    node.meta["quantization_annotation"] = QuantizationAnnotation(inputs, _annotated=True)
            return model

        def validate(self, model: Any) -> None:
            return None

    given = pt2e(seeded(lambda: nn.Sequential(nn.Linear(16, 4))), Wide, rows)
    model, x = taken(given, *rows()), rows()
    assert torch.allclose(model(*x), Quiet(given)(*x), atol=1e-6)
    assert any(r.op.startswith("quantize_per_tensor") and r.decision == "float" for r in model.report)


def test_a_graph_module_without_inputs_is_an_error() -> None:
    given = pt2e(seeded(CASES["conv"][0]), inductor, images)
    with pytest.raises(CaptureError, match="example_inputs are missing"):
        qfx.from_pt2e(given)


def test_a_scale_that_makes_no_sense_is_an_error() -> None:
    given = pt2e(seeded(lambda: Net(lambda m, x: m[0](x), conv())), xnnpack, images)
    for node in given.graph.nodes:
        if "quantize_per_tensor.default" in str(node.target):
            node.args = (node.args[0], 0.0, *node.args[2:])
    given.recompile()
    with pytest.raises(ConversionError, match=r"scale 0\.0"):
        taken(given, *images())
