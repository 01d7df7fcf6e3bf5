"""Default values of any kind work as in the float model, or are refused in words: captured, pickled, copied, stored."""

from __future__ import annotations

import copy
import enum
import inspect
import io
import math
import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qfx
from qfx.errors import QfxError

FRONTENDS = ["auto", "symbolic", "export", "torchscript"]
EVERYTHING = {"": qfx.get_default_qconfig()}
X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
TWO, THREE = (torch.full((8, 1, 1), float(value)) for value in (2, 3))


class Mode(enum.Enum):
    PLAIN = 1
    OTHER = 2


class Level(enum.IntEnum):
    PLAIN = 1
    OTHER = 2


@dataclass
class Config:
    scale: float = 2.0
    on: bool = True


PLAIN_CONFIG, RELU = Config(), nn.ReLU()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)


class Empty(Net):
    def forward(self, x: Tensor, y: Tensor = torch.zeros(0)) -> Tensor:  # noqa: B008
        return self.conv(x) if y.numel() == 0 else self.conv(x) * y


class Of(Net):
    def forward(self, x: Tensor, y: Tensor = TWO) -> Tensor:
        return self.conv(x) * y


class Several(Net):
    def forward(self, x: Tensor, y: Any = (TWO, THREE)) -> Tensor:
        return self.conv(x) * y[0] + y[1]


class Named(Net):
    def forward(self, x: Tensor, y: Any = {"scale": TWO}) -> Tensor:  # noqa: B006
        return self.conv(x) * y["scale"]


class Enum(Net):
    def forward(self, x: Tensor, y: Any = Mode.PLAIN) -> Tensor:
        return self.conv(x) if y is Mode.PLAIN else self.conv(x) + 1


class IntEnum(Net):
    def forward(self, x: Tensor, y: Any = Level.PLAIN) -> Tensor:
        return self.conv(x) if y == Level.PLAIN else self.conv(x) + 1


class Dtype(Net):
    def forward(self, x: Tensor, y: torch.dtype = torch.float32) -> Tensor:
        return self.conv(x.to(y))


class Device(Net):
    def forward(self, x: Tensor, y: torch.device = torch.device("cpu")) -> Tensor:  # noqa: B008
        return self.conv(x) + torch.ones(8, 1, 1, device=y)


class Nothing(Net):
    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.conv(x) if y is None else self.conv(x) * y


class Module(Net):
    def forward(self, x: Tensor, y: Any = RELU) -> Tensor:
        return y(self.conv(x))


class Function(Net):
    def forward(self, x: Tensor, y: Any = torch.relu) -> Tensor:
        return y(self.conv(x))


class Numpy(Net):
    def forward(self, x: Tensor, y: Any = np.float64(0.5)) -> Tensor:  # noqa: B008
        return self.conv(x) * float(y)


class Infinite(Net):
    def forward(self, x: Tensor, y: float = math.inf) -> Tensor:
        return self.conv(x).clamp(-y, y)


class NotANumber(Net):
    def forward(self, x: Tensor, y: float = math.nan) -> Tensor:
        return self.conv(x) if math.isnan(y) else self.conv(x) * y


class Data(Net):
    def forward(self, x: Tensor, y: Any = PLAIN_CONFIG) -> Tensor:
        return self.conv(x) * y.scale if y.on else self.conv(x)


class Size(Net):
    def forward(self, x: Tensor, y: Any = torch.Size([8, 1, 1])) -> Tensor:  # noqa: B008
        return self.conv(x) + torch.ones(y)


class Keyword(Net):
    def forward(self, x: Tensor, *, y: Tensor = TWO, k: float = 2.0) -> Tensor:
        return self.conv(x) * y * k


class Before(Net):
    """A default before an input without one."""

    def forward(self, x: Tensor, y: Tensor | None = None, *, z: Tensor) -> Tensor:
        return self.conv(x) + z if y is None else self.conv(x) * y + z


GIVEN: dict[type[Net], Any] = {
    Empty: THREE, Of: THREE, Several: (THREE, THREE), Named: {"scale": THREE}, Enum: Mode.OTHER, IntEnum: Level.OTHER,
    Dtype: torch.float32, Device: torch.device("cpu"), Nothing: THREE, Module: nn.Sigmoid(), Function: torch.sigmoid,
    Infinite: 1.0, NotANumber: 3.0, Data: Config(3.0), Size: torch.Size([1, 8, 8]), Keyword: THREE, Numpy: 0.25,
}  # fmt: skip


def told(error: qfx.QfxError, what: str = "") -> None:
    """Checks that a refusal says what it is about, and what to do."""
    assert what in error.what
    assert error.remedy


def copies_of(model: Any) -> list[Any]:
    """The model, and what comes back of it from pickle, deepcopy and a file."""
    found = [model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    file = io.BytesIO()
    try:
        qfx.save(model, file)
        file.seek(0)
        return [*found, qfx.load(file)]
    except QfxError:
        return found


@pytest.mark.parametrize("frontend", FRONTENDS)
@pytest.mark.parametrize("example", ["left out", "given"])
@pytest.mark.parametrize("kind", GIVEN)
def test_a_default_works_or_is_refused(kind: type[Net], example: str, frontend: str) -> None:
    net, given = kind().eval(), {"x": X, "y": GIVEN[kind]}
    try:
        quantized = qfx.quantize_fx(net, EVERYTHING, [{"x": X} if example == "left out" else given], frontend=frontend)
    except QfxError as error:
        refused = frontend != "auto" or example == "given" or kind in (Module,)
        told(error)
        assert refused
        return
    for model in copies_of(quantized):
        for inputs in ({"x": X}, given):
            expected = net(**inputs)
            try:
                found = model(**inputs)
            except QfxError as error:
                told(error)
                assert (inputs is given) == (example == "left out")
                continue
            assert (found - expected).abs().max() <= 0.1 * expected.abs().max()


def test_a_default_before_an_input_without_one() -> None:
    net = Before().eval()
    assert [p.default for p in inspect.signature(net.forward).parameters.values()][1] is None
    z = torch.ones(8, 1, 1)
    for example in ({"x": X, "z": z}, {"x": X, "y": TWO, "z": z}):
        prepared = qfx.prepare_fx(net, {"": None}, example, frontend="symbolic")
        torch.testing.assert_close(prepared(**example), net(**example), rtol=1e-4, atol=1e-5)
