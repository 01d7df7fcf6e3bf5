"""What calls of the fuzzer of inputs take: models, programs and tensors, made anew where calls change them."""

from __future__ import annotations

import functools
import io
from typing import Any

import torch
from torch import Tensor, nn

import qfx
from qfx import quantization as Q
from qfx.runtime import Executable, ProgramBuilder, Session, steps
from qfx.runtime.writing import write

SHAPE = (4, 3, 6, 6)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))


class Kept(nn.Module):
    """Takes the place of a layer, and calls it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)

    @classmethod
    def from_float(cls, module: nn.Module) -> Kept:
        return cls(module)


def images() -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))


@functools.cache
def float_net() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


@functools.cache
def quantized() -> Any:
    return qfx.quantize_fx(float_net(), {"": qfx.get_default_qconfig()}, [images()])


@functools.cache
def with_torch() -> Any:
    """A quantized model that torch runs a part of."""

    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cumsum(self.conv(x), 1)

    torch.manual_seed(0)
    return qfx.quantize_fx(Parts().eval(), {"": qfx.get_default_qconfig()}, [images()])


def prepared() -> Any:
    return qfx.prepare_fx(float_net(), {"": qfx.get_default_qconfig()}, (images(),))


@functools.cache
def executable() -> Executable:
    builder = ProgramBuilder()
    x, y = builder.value("x", "f32", [-1] * 4), builder.value("y", "u8", [-1] * 4)
    builder.step("quantize", "q", [x], y, ints={"perm": [0, 1, 2, 3], "zero_point": 0}, floats={"scale": 0.1})
    return Executable(builder.build([x], [y]))


@functools.cache
def summing() -> Executable:
    """A running sum."""
    builder = ProgramBuilder()
    x, state = (builder.value(name, "f32", [-1, -1]) for name in ("x", "state"))
    (total,) = write(builder, "next", steps.add_f32(x, state), [-1, -1])
    (y,) = write(builder, "y", steps.add_f32(total, total), [-1, -1])
    builder.state(state, total)
    return Executable(builder.build([x, state], [y, total]))


def session() -> Session:
    return Session(summing())


def codes() -> Any:
    return qfx.quantize_per_tensor(images(), 0.1, 3, qfx.quint8)


@functools.cache
def written() -> bytes:
    file = io.BytesIO()
    qfx.save(quantized(), file)
    return file.getvalue()


def calibrated() -> Any:
    model = prepared()
    model(images())
    return model


@functools.cache
def trained() -> Any:
    """A model in evaluation mode after a training step's ranges."""
    model = qfx.prepare_qat_fx(float_net(), {"": qfx.get_default_qat_qconfig()}, (images(),))
    model(images())
    return model.eval()


@functools.cache
def comparison() -> Any:
    return qfx.compare(float_net(), quantized(), [images()], progress=False)


@functools.cache
def costs() -> Any:
    return qfx.sensitivity(float_net(), {"": qfx.get_default_qconfig()}, [images()], progress=False)


def layers(training: bool = False) -> nn.Module:
    """A model of eager mode, with a qconfig."""
    model = nn.Sequential(Q.QuantStub(), nn.Conv2d(3, 4, 3), nn.ReLU(), Q.DeQuantStub()).train(training)
    model.qconfig = qfx.get_default_qat_qconfig() if training else qfx.get_default_qconfig()
    return model


def observed() -> nn.Module:
    """What eager mode prepared and calibrated."""
    model = Q.prepare(layers())
    model(images())
    return model


def one_layer(layer: nn.Module) -> nn.Module:
    """``layer`` as prepare leaves it, having seen values."""
    torch.manual_seed(0)
    layer = layer.eval()
    layer.qconfig = qfx.get_default_qconfig()
    layer.activation_post_process = layer.qconfig.activation()
    layer.activation_post_process(images())
    return layer


def weights(*shape: int) -> Any:
    return qfx.quantize_per_tensor(torch.ones(shape), 0.05, 0, qfx.qint8)


def dynamic_qconfigs() -> dict[str, Any]:
    return {"": qfx.default_dynamic_qconfig}


def static_qconfigs() -> dict[str, Any]:
    return {"": qfx.get_default_qconfig()}
