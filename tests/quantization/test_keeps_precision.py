"""half(), double() and to() of a model with quantized layers: refused before anything has changed, in copies too."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import qfx
from qfx.errors import UnsupportedError
from qfx.quantization import QuantWrapper, convert, get_default_qconfig, prepare, quantize_dynamic


class Mixed(nn.Module):
    """A float layer before the quantized one, and one around both."""

    def __init__(self, quantized: nn.Module) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.inner = nn.Sequential(nn.Linear(8, 8), quantized)

    def forward(self, x: torch.Tensor) -> Any:
        return self.inner(self.first(x))


def static() -> nn.Module:
    model = Mixed(QuantWrapper(nn.Linear(8, 8))).eval()
    model.inner[1].qconfig = get_default_qconfig()
    prepared = prepare(model)
    prepared(torch.randn(2, 8))
    return convert(prepared)


def dynamic() -> nn.Module:
    return quantize_dynamic(Mixed(nn.Linear(8, 8)).eval(), {"inner.1"})


def saved(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES: list[Callable[[nn.Module], nn.Module]] = [
    lambda m: m,
    copy.deepcopy,
    lambda m: pickle.loads(pickle.dumps(m)),
    saved,
]


@pytest.mark.parametrize("make", [static, dynamic])
@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize(
    "change",
    [nn.Module.half, nn.Module.double, nn.Module.bfloat16, lambda m: m.to(torch.float16), lambda m: m.to("meta")],
)
@pytest.mark.parametrize("part", ["", "inner"])
def test_nothing_changes(make: Any, copied: Any, change: Any, part: str) -> None:
    model = copied(make())
    x = torch.randn(3, 8)
    expected, state = model(x), copy.deepcopy(model.state_dict())
    with pytest.raises(UnsupportedError, match="can't become"):
        change(model.get_submodule(part))
    assert {k: v.dtype for k, v in model.state_dict().items()} == {k: v.dtype for k, v in state.items()}
    assert torch.equal(model(x), expected)


@pytest.mark.parametrize("make", [static, dynamic])
def test_a_copy_has_a_guard_of_its_own(make: Any) -> None:
    model = make()
    other = copy.deepcopy(model)
    other.first.double()
    with pytest.raises(UnsupportedError):
        other.half()
    assert model.first.weight.dtype is torch.float32
    assert other.to(torch.float32).first.weight.dtype is torch.float32
    assert model.float() is model
    assert model.share_memory() is model


def test_float_parts_alone_may_change() -> None:
    model = static()
    assert model.first.half().weight.dtype is torch.float16


def test_a_converted_layer_by_itself() -> None:
    model = nn.Linear(8, 8).eval()
    model.qconfig = get_default_qconfig()
    prepared = prepare(model)
    prepared(torch.randn(2, 8))
    with pytest.raises(UnsupportedError):
        convert(prepared).half()
    assert isinstance(convert(prepared), qfx.nn.quantized.Linear)
