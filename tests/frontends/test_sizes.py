"""Sizes in Python arithmetic: every spelling through every frontend, at other sizes than the examples'."""

from __future__ import annotations

import importlib.util
import math  # noqa: F401  (of the expressions, as is F)
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: F401
from torch import Tensor, nn

import qfx
from qfx.errors import CaptureError
from qfx.frontends import normalize, record_shapes
from qfx.frontends.select import as_module, capture

X = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
OTHERS = [torch.randn(2, 3, 12, 12), torch.randn(4, 3, 16, 16), torch.randn(1, 3, 14, 20)]
EVERYTHING = {"": qfx.get_default_qconfig()}

EVERYWHERE = {
    "pool of all": "F.avg_pool2d(y, y.size()[2:])",
    "pool of all, shape": "F.avg_pool2d(y, y.shape[2:])",
    "pool of all, from the right": "F.avg_pool2d(y, y.shape[-2:])",
    "pool of all, one by one": "F.avg_pool2d(y, (y.size(2), y.size(3)))",
    "pool of all, with a stride": "F.avg_pool2d(y, y.size()[2:], stride=1)",
    "pool of all, max": "F.max_pool2d(y, y.size()[2:])",
    "pool of a half": "F.avg_pool2d(y, (y.size(2) // 2, y.size(3) // 2))",
    "pool of a row": "F.avg_pool2d(y, [2, y.shape[-1]])",
    "pool of a column, max": "F.max_pool2d(y, (y.shape[2], 1))",
    "stride": "F.avg_pool2d(y, 2, stride=y.shape[2] // 4)",
    "padding": "F.max_pool2d(y, 4, padding=y.shape[2] // y.shape[2])",
    "dilation": "F.max_pool2d(y, 2, dilation=y.shape[1] // 8)",
    "stride of a convolution": "F.conv2d(y, W, stride=y.shape[2] // 6)",
    "padding of a convolution": "F.conv2d(y, W, padding=y.shape[2] // 12)",
    "adaptive": "F.adaptive_avg_pool2d(y, (y.size(2) // 2, y.size(3) // 2))",
    "adaptive, its own": "F.adaptive_avg_pool2d(y, y.shape[2:])",
    "adaptive, max": "F.adaptive_max_pool2d(y, (y.size(2) // 2, y.size(3) // 2))",
    "reciprocal": "y * (1 / y.shape[1])",
    "reciprocal of a free size": "y * (1 / y.shape[2])",
    "quotient": "y / y.shape[2]",
    "product": "y * y.shape[2]",
    "sum": "y + y.shape[2]",
    "difference": "y.shape[3] - y",
    "square root": "y / (y.size(-1) ** 0.5)",
    "reciprocal of a square root": "y * (y.size(-1) ** -0.5)",
    "power of a constant size": "y * y.shape[1] ** 2",
    "area": "(y.flatten(2) @ y.flatten(2).transpose(1, 2)) / (y.shape[2] * y.shape[3])",
    "interpolate": "F.interpolate(F.avg_pool2d(y, 2), size=y.shape[2:])",
    "interpolate, bilinear": 'F.interpolate(F.avg_pool2d(y, 2), size=y.shape[-2:], mode="bilinear")',
    "interpolate, twice": "F.interpolate(y, size=(y.shape[2] * 2, y.shape[3] * 2))",
    "pad": "F.pad(y, (0, y.shape[3] % 5, 0, y.shape[2] % 5))",
    "pad to a multiple": "F.pad(y, (0, -y.shape[3] % 8, 0, -y.shape[2] % 8))",
    "view": "y.view(y.size(0), -1)",
    "view, all sizes": "y.reshape(y.size(0), y.size(1) * y.size(2) * y.size(3))",
    "numel": "y.sum() / y.numel()",
    "expand": "y.mean((2, 3), keepdim=True).expand(y.size())",
    "layer norm": "F.layer_norm(y, y.shape[1:])",
    "group norm": "F.group_norm(y, y.shape[1] // 4)",
    "split": "torch.cat(y.split(y.shape[1] // 2, 1), 2)",
    "part": "y[:, :, 1 : y.shape[2] - 1]",
    "center": "y[:, :, (y.shape[2] - 4) // 2 : (y.shape[2] - 4) // 2 + 4]",
    "narrow": "y.narrow(2, 1, y.shape[2] - 2)",
    "zeros": "torch.cat([y, y.new_zeros(y.shape[0], 1, y.shape[2], y.shape[3])], 1)",
    "roll": "torch.roll(y, y.shape[2] // 2, 2)",
    "roll by numbers": "torch.roll(y, (-5, 3), (2, -1))",
    "roll past the end": "y.roll(-40, 3) + y.roll(40, 2)",
    "roll of all": "y.roll(7)",
    "differences": "torch.diff(y) + y.diff(dim=2, append=y[:, :, :1])[..., 1:]",
    "differences from the first": "torch.diff(y, dim=3, prepend=y[..., :2], append=y[..., -1:])",
    "repeat interleaved": "torch.repeat_interleave(y, 3, 1)",
    "repeat interleaved, a free size": "y.repeat_interleave(2, -1)",
    "repeat interleaved, all": "y.repeat_interleave(2)",
    "windows": "y.unfold(2, 3, 2) + y.unfold(-2, 1, 1)[:, :, 2::2].expand(-1, -1, -1, -1, 3)",
    "windows of images": "F.unfold(y, (3, 2), dilation=(1, 2), padding=(0, 1), stride=(2, 1))",
}
"""What a trace follows too."""

PYTHON = {
    "square root by math": "y / math.sqrt(y.size(-1))",
    "logarithm": "y * math.log(y.shape[2])",
    "reciprocal of an area": "y * (1.0 / math.sqrt(y.shape[1] * y.shape[2]))",
    "ceil": "y[:, :, : math.ceil(y.shape[2] / 2)]",
    "floor": "y[:, :, : math.floor(y.shape[2] / 2)]",
    "round": "y[:, :, : round(y.shape[2] / 2)]",
    "greatest": "y / max(y.shape[2], y.shape[3])",
    "greatest of all": "y / max(y.shape)",
    "least": "F.adaptive_avg_pool2d(y, min(y.shape[2], y.shape[3]))",
    "product by math": "y.reshape(y.size(0), math.prod(y.shape[1:]))",
    "numel of a shape": "y.sum() / y.shape.numel()",
    "numel of a part of a shape": "y.view(y.size(0), y.shape[1:].numel())",
    "unpacked part": "y.reshape(*y.shape[:2], -1)",
    "list of a part": "y.reshape(list(y.shape[:2]) + [-1])",
    "same padding": "F.pad(y, (0, max((math.ceil(y.shape[3] / 3) - 1) * 3 + 3 - y.shape[3], 0)))",
    "repeat interleaved by a size": "y.repeat_interleave(y.shape[2] // 6, 2)",
    "scale factor": "F.interpolate(F.max_pool2d(y, 2), scale_factor=y.shape[2] / (y.shape[2] // 2))",
}
"""What a trace of torch fixes at the example's sizes."""

FIXED = {
    "whole number": "y[:, :, : int(y.shape[2] * 0.5)]",
    "float": "y * float(y.shape[2])",
    "range": "sum([y[:, i] for i in range(y.shape[1])])",
    "range of a free size": "torch.stack([y[:, :, i] for i in range(y.shape[2])], -1)",
    "branch": "y * 2 if y.shape[2] > 4 else y",
    "length": "y.flatten(len(y.shape) - 2)",
}
"""What symbolic tracing refuses, with the remedy to export."""

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:.*recompute_scale_factor"),
]
W = torch.ones(8, 8, 1, 1) / 8


class Sizes(nn.Module):
    """A convolution, and an expression of its result."""

    def __init__(self, code: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        # In the globals of this file, where a tracer finds the names of a model's code.
        self.function = eval(f"lambda y: {code}", globals())

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.function(self.conv(x))
        return result


def made(code: str) -> nn.Module:
    torch.manual_seed(0)
    return Sizes(code).eval()


def normal(net: Any, **options: Any) -> nn.Module:
    return normalize(record_shapes(capture(net, example=((X,), {}), strict=True, **options), (X,), {}))


def agree(found: nn.Module, net: Any, inputs: list[Tensor]) -> None:
    with torch.no_grad():
        for x in inputs:
            torch.testing.assert_close(found(x), net(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", {**EVERYWHERE, **PYTHON})
def test_symbolic_tracing_leaves_them_free(name: str) -> None:
    net = made({**EVERYWHERE, **PYTHON}[name])
    agree(normal(net, frontend="symbolic"), net, [X, *OTHERS])


@pytest.mark.parametrize("name", EVERYWHERE)
def test_a_trace_leaves_free_what_torch_does(name: str) -> None:
    with torch.no_grad():
        trace: Any = torch.jit.trace(made(EVERYWHERE[name]), X)
    agree(normal(trace), trace, [X, *OTHERS])
    agree(normal(torch.jit.freeze(trace)), trace, [X, *OTHERS])


@pytest.mark.parametrize("name", {**EVERYWHERE, **PYTHON, **FIXED})
def test_an_export_computes_the_same(name: str) -> None:
    net = made({**EVERYWHERE, **PYTHON, **FIXED}[name])
    agree(normal(net, frontend="export"), net, [X])


@pytest.mark.parametrize("name", ["pool of all", "reciprocal of a square root", "pad", "same padding", "whole number"])
def test_so_does_a_program(name: str) -> None:
    net = made({**EVERYWHERE, **PYTHON, **FIXED}[name])
    program = torch.export.export(net, (X,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    agree(normal(as_module(program)), net, [X, OTHERS[0]])


@pytest.mark.parametrize("name", FIXED)
def test_what_needs_a_number_is_refused_by_symbolic_tracing(name: str) -> None:
    with pytest.raises(CaptureError, match="can't be traced"):
        normal(made(FIXED[name]), frontend="symbolic")


SCRIPT = """
import math  # noqa: F401  (of the expressions, as is F)
import torch
import torch.nn.functional as F  # noqa: F401

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 1)
        self.register_buffer("W", torch.ones(8, 8, 1, 1) / 8)

    def forward(self, x):
        y = self.conv(x)
        W = self.W
        return {code}
"""
SCRIPTED = {
    **EVERYWHERE,
    **{name: PYTHON[name] for name in ("square root by math", "reciprocal of an area", "ceil", "greatest")},
}
NOT_SCRIPTED = {"pool of all, from the right", "scale factor"}


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", [name for name in SCRIPTED if name not in NOT_SCRIPTED])
def test_scripted_code_leaves_them_free(name: str, frozen: bool, tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text(SCRIPT.format(code=SCRIPTED[name]))
    spec = importlib.util.spec_from_file_location("net", path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(0)
    scripted: Any = torch.jit.script(module.Net().eval())
    given = torch.jit.freeze(scripted) if frozen else scripted
    agree(normal(given), scripted, [X, *OTHERS])


@pytest.mark.parametrize("name", ["pool of all", "reciprocal", "area", "pool of a half", "pad to a multiple"])
def test_the_quantized_model_takes_other_sizes(name: str) -> None:
    net = made(EVERYWHERE[name])
    quantized = qfx.quantize_fx(net, EVERYTHING, [X, *OTHERS])
    with torch.no_grad():
        for x in (X, *OTHERS):
            wanted = net(x)
            assert (quantized(x) - wanted).norm() < 0.03 * wanted.norm()


def test_a_pool_of_all_is_a_step_of_the_program() -> None:
    for code in ("pool of all", "pool of all, one by one", "pool of all, max"):
        quantized = qfx.quantize_fx(made(EVERYWHERE[code]), EVERYTHING, [X], frontend="symbolic")
        assert [part.executable is not None for part in quantized.compiled.segments] == [True]


MOVES = [name for name in {**EVERYWHERE, **PYTHON} if name.startswith(("roll", "repeat", "differences", "windows"))]


@pytest.mark.parametrize("name", MOVES)
def test_moves_by_sizes_are_steps_of_the_program(name: str) -> None:
    net = made({**EVERYWHERE, **PYTHON}[name])
    quantized = qfx.quantize_fx(net, EVERYTHING, [X, *OTHERS], frontend="symbolic")
    assert [part.executable is not None for part in quantized.compiled.segments] == [True]
    for x in OTHERS:
        want, got = net(x).detach(), quantized(x)
        assert got.shape == want.shape
        assert float((got - want).abs().max()) < 0.03 * float(want.abs().max())


LAYERS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.GroupNorm(2, 8), (4, 8, 12, 12)), (nn.GroupNorm(2, 8, affine=False), (4, 8, 12)), (nn.GroupNorm(2, 8), (4, 8)),
    (nn.InstanceNorm2d(8), (4, 8, 12, 12)), (nn.InstanceNorm1d(8, affine=True), (4, 8, 12)),
    (nn.InstanceNorm2d(8, track_running_stats=True), (4, 8, 12, 12)), (nn.LocalResponseNorm(2), (4, 8, 12, 12)),
    (nn.BatchNorm1d(8), (4, 8)), (nn.BatchNorm2d(8, affine=False), (4, 8, 12, 12)), (nn.LayerNorm(12), (4, 8, 12)),
    (nn.RMSNorm(12), (4, 8, 12)), (nn.AvgPool2d(3, 2, 1, ceil_mode=True), (4, 8, 12, 12)),
    (nn.MaxPool1d(2), (4, 8, 12)), (nn.AdaptiveAvgPool2d(3), (4, 8, 12, 12)), (nn.AdaptiveMaxPool1d(3), (4, 8, 12)),
    (nn.LPPool2d(2, 2), (4, 8, 12, 12)), (nn.ReflectionPad2d(1), (4, 8, 12, 12)), (nn.ReplicationPad1d(2), (4, 8, 12)),
    (nn.CircularPad2d(1), (4, 8, 12, 12)), (nn.ConstantPad1d(1, 0.5), (4, 8, 12)),
    (nn.Upsample(scale_factor=2), (4, 8, 12, 12)), (nn.PixelShuffle(2), (4, 8, 12, 12)),
]  # fmt: skip


@pytest.mark.parametrize("form", ["script", "freeze(script)", "freeze(trace)"])
@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=[str(layer) for layer, _ in LAYERS])
def test_layers_of_frozen_and_scripted_models(layer: nn.Module, shape: tuple[int, ...], form: str) -> None:
    before = {2: nn.Linear(8, 8), 3: nn.Conv1d(8, 8, 1), 4: nn.Conv2d(8, 8, 1)}[len(shape)]
    net, x = nn.Sequential(before, layer).eval(), torch.randn(shape)
    given: Any = torch.jit.trace(net, x) if "trace" in form else torch.jit.script(net)
    given = torch.jit.freeze(given) if "freeze" in form else given
    found = normalize(record_shapes(capture(given, example=((x,), {}), strict=True), (x,), {}))
    with torch.no_grad():
        for inputs in (x, x[:3]):
            torch.testing.assert_close(found(inputs), net(inputs), rtol=1e-4, atol=1e-5)


def test_a_size_that_an_attribute_can_not_depend_on_is_told() -> None:
    report = qfx.quantize_fx(made(EVERYWHERE["stride"]), EVERYTHING, [X], frontend="symbolic").report
    assert "its stride depends on a size" in {record.reason for record in report}
