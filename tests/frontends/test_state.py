"""Models that change their own buffers: refused or kept float, by every frontend; never captured without the change."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qfx
from qfx.errors import CaptureError
from qfx.frontends import torchscript

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
EVERYTHING = {"": qfx.get_default_qconfig()}


class Stateful(nn.Module):
    """A convolution and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.register_buffer("state", torch.zeros(3))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.int64))


class AddsInPlace(Stateful):
    def forward(self, x: Tensor) -> Tensor:
        self.state.add_(x.mean())
        return self.conv(x) + self.state[0]


class AddsANumber(Stateful):
    def forward(self, x: Tensor) -> Tensor:
        self.state.add_(1)
        return self.conv(x) + self.state[0]


class Augments(Stateful):
    def forward(self, x: Tensor) -> Tensor:
        self.state += x.mean()
        return self.conv(x) + self.state[0]


class Replaces(Stateful):
    def forward(self, x: Tensor) -> Tensor:
        self.state = self.state + 1
        return self.conv(x) + self.state[0]


class ReplacesByAValue(Stateful):
    def forward(self, x: Tensor) -> Tensor:
        self.state = self.state * 0.9 + x.mean((0, 2, 3))
        return self.conv(x)


class WritesAnItem(Stateful):
    def forward(self, x: Tensor) -> Tensor:
        self.state[0] = x.mean()
        return self.conv(x)


class Copies(Stateful):
    def forward(self, x: Tensor) -> Tensor:
        self.state.copy_(x.mean((0, 2, 3)))
        return self.conv(x)


class Counts(Stateful):
    """Uses the counter that it has under the name of a batch norm's."""

    def forward(self, x: Tensor) -> Tensor:
        self.num_batches_tracked.add_(1)
        return self.conv(x) * self.num_batches_tracked


class Around(nn.Module):
    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.first, self.part, self.last = nn.Conv2d(3, 3, 1), part, nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.part(self.first(x)))


KINDS = [AddsInPlace, AddsANumber, Augments, Replaces, ReplacesByAValue, WritesAnItem, Copies, Counts]
FRONTENDS = ["symbolic", "export", "torchscript", "auto"]


@pytest.mark.parametrize("frontend", FRONTENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_changes_a_buffer_is_refused(kind: type[nn.Module], frontend: str) -> None:
    net = kind().eval()
    with pytest.raises(CaptureError, match=r"state|num_batches_tracked"):
        qfx.quantize_fx(net, EVERYTHING, [X], frontend=frontend)
    assert not net.state.any()


@pytest.mark.parametrize("frontend", FRONTENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_part_that_changes_a_buffer_stays_float(kind: type[nn.Module], frontend: str) -> None:
    net = Around(kind()).eval()
    quantized = qfx.quantize_fx(net, EVERYTHING, [X], frontend=frontend)
    decisions = {record.module_path: record.decision for record in quantized.report if record.module_path}
    assert decisions == {"first": "int8", "part": "float", "last": "int8"}
    (reason,) = [record.reason for record in quantized.report if record.module_path == "part"]
    assert "state" in reason or "num_batches_tracked" in reason
    assert not net.part.state.any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_that_changes_a_buffer_is_refused(kind: type[nn.Module]) -> None:
    program = torch.export.export(kind().eval(), (X,))
    with pytest.raises(CaptureError, match="changes its own state") as caught:
        qfx.quantize_fx(program, EVERYTHING, [X])
    assert "state" in str(caught.value.why) or "num_batches_tracked" in str(caught.value.why)


class NotScripted(Replaces):
    def forward(self, *inputs: Tensor) -> Tensor:
        return super().forward(inputs[0])


def test_a_model_that_could_only_be_traced_is_refused() -> None:
    with pytest.raises(CaptureError, match="neither scripted nor traced") as caught:
        torchscript.capture(Around(NotScripted()).eval(), example=((X,), {}))
    assert caught.value.where == "part"
    assert "the buffer part.state" in str(caught.value.why)


class Normalizes(nn.Module):
    """Does not change anything in evaluation; writes a value that is there already."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.register_buffer("scale", torch.ones(3, 1, 1))
        self.register_buffer("unused", torch.tensor([float("nan"), float("inf")]))
        self.last: Any = None

    def forward(self, x: Tensor) -> Tensor:
        self.scale, self.unused = torch.ones(3, 1, 1), self.unused.clone()
        self.last = self.norm(self.conv(x))
        return self.last * self.scale


def test_what_stays_the_same_is_captured() -> None:
    quantized = qfx.quantize_fx(Normalizes().eval(), EVERYTHING, [X], frontend="symbolic")
    assert {record.decision for record in quantized.report if record.op == "conv"} == {"int8"}
