"""Every keyword of every float layer, given to the quantized layer of the same name."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import nn

import qfx.nn.quantized as nnq
from qfx.errors import ConversionError
from qfx.nn.quantized.layer import QuantizedLayer, WeightedLayer
from qfx.ops.arithmetic import quantize
from qfx.quantization import get_default_qconfig, prepare
from tests.nn.quantized.layers import codes

NAMES = [
    name
    for name in nnq.__all__
    if inspect.isclass(getattr(nnq, name)) and issubclass(getattr(nnq, name), QuantizedLayer) and hasattr(nn, name)
]
REQUIRED: dict[str, tuple[Any, ...]] = {"Linear": (8, 6), "LayerNorm": ((8, 5),), "GroupNorm": (4, 8)}
OTHER: dict[str, Any] = {
    "alpha": 0.3,
    "approximate": "tanh",
    "beta": 2.0,
    "device": "cpu",
    "dilation": 2,
    "dtype": torch.float32,
    "eps": 0.1,
    "groups": 2,
    "momentum": 0.3,
    "negative_slope": 0.3,
    "padding": 1,
    "padding_mode": "reflect",
    "stride": 2,
    "threshold": 0.5,
}
"""A value that is not the default; for a boolean keyword it is the other one."""
UNEXPRESSED = {(f"BatchNorm{dims}d", "track_running_stats") for dims in (1, 2, 3)}
"""Batch norms without statistics normalize by the batch, which integers can't follow."""


def keywords(name: str) -> list[tuple[str, Any]]:
    parameters = inspect.signature(getattr(nn, name)).parameters.values()
    found = [p for p in parameters if p.default is not p.empty]
    return [(p.name, not p.default if isinstance(p.default, bool) else OTHER[p.name]) for p in found]


CASES = [(name, *keyword) for name in NAMES for keyword in keywords(name)]


def required(name: str) -> tuple[Any, ...]:
    return REQUIRED.get(name, (8, 6, 3) if "Conv" in name else (8,) if "Norm" in name else ())


def shape(name: str) -> tuple[int, ...]:
    if name == "Linear":
        return (3, 8)
    return (3, 8, *(7, 6, 5)[: int(name[-2])]) if name.endswith("d") else (3, 8, 5)


@pytest.mark.inventory("S217")
@pytest.mark.parametrize(("name", "keyword", "value"), CASES, ids=str)
def test_each_keyword_is_the_float_layers(name: str, keyword: str, value: Any) -> None:
    given = {keyword: value, **({"padding": 1} if keyword == "padding_mode" else {})}
    if keyword == "bias" and "Instance" in name:
        given["affine"] = True
    cls, layer = getattr(nnq, name), getattr(nn, name)(*required(name), **given)
    if (name, keyword) in UNEXPRESSED:
        with pytest.raises(ConversionError, match="can't be quantized"):
            cls(*required(name), **given)
        return
    for what, tensor in [*layer.named_parameters(), *layer.named_buffers()]:
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, *((0.5, 2.5) if "var" in what else (-1.0, 1.0)))
    layer.eval().qconfig = get_default_qconfig()
    prepared, x = prepare(layer), codes(*shape(name))
    prepared(x.dequantize())

    module = cls(*required(name), **given, scale=0.1, zero_point=2)
    assert module.extra_repr().startswith(layer.extra_repr())
    assert getattr(module, keyword, None) == getattr(layer, keyword, None) or keyword == "bias"
    state = cls.from_float(prepared).state_dict()
    assert {n for n, t in layer.state_dict().items() if t.is_floating_point()} <= set(state)
    assert ("bias" in state) == ("bias" in layer.state_dict())
    module.load_state_dict(state)
    if isinstance(module, WeightedLayer):
        with torch.no_grad():
            layer.weight.copy_(module.weight().dequantize())
    expected = layer(x.dequantize())
    result = module(x)
    scale, zero_point = torch.tensor(result.q_scale()), torch.tensor(result.q_zero_point())
    wanted = quantize(expected, scale, zero_point, 0, 255)
    assert int((result.int_repr().long() - wanted).abs().max()) <= 1
