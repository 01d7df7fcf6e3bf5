from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qfx.nn.quantized.dynamic as nnqd
from qfx.errors import InputError, QConfigError
from qfx.quantization import (
    default_dynamic_qconfig,
    float16_dynamic_qconfig,
    per_channel_dynamic_qconfig,
    quantize_dynamic,
)


class Recurrent(nn.Module):
    """Every kind of layer that is swapped, and others."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.conv = nn.Embedding(20, 16), nn.LayerNorm(16), nn.Conv1d(16, 16, 1)
        self.lstm = nn.LSTM(16, 12, 2, bidirectional=True)
        self.cells = nn.ModuleList([nn.LSTMCell(24, 10), nn.GRUCell(10, 10), nn.RNNCell(10, 10)])
        self.fc = nn.Sequential(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 5))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.norm(self.embed(tokens))
        x = self.conv(x.permute(1, 2, 0)).permute(2, 0, 1)
        x, _ = self.lstm(x)
        h, _ = self.cells[0](x[-1])
        return self.fc(self.cells[2](self.cells[1](h)))


def tokens() -> Tensor:
    return torch.randint(0, 20, (7, 3), generator=torch.Generator().manual_seed(0))


SWAPPED = {
    "lstm": "LSTM",
    "cells.0": "LSTMCell",
    "cells.1": "GRUCell",
    "cells.2": "RNNCell",
    "fc.0": "Linear",
    "fc.2": "Linear",
}


def swapped(model: nn.Module) -> dict[str, str]:
    own = nnqd.__name__
    return {n: type(m).__name__ for n, m in model.named_modules() if type(m).__module__.startswith(own)}


def stored(model: nn.Module) -> set[torch.dtype]:
    return {t.dtype for t in model.state_dict().values() if isinstance(t, Tensor)}


def relative_error(result: Tensor, expected: Tensor) -> float:
    return float((result - expected).detach().norm() / expected.detach().norm())


@pytest.mark.inventory("S083", "S185")
def test_linear_and_recurrent_layers_are_swapped_and_no_others() -> None:
    model = Recurrent().eval()
    quantized = quantize_dynamic(model)
    assert swapped(quantized) == SWAPPED
    assert swapped(model) == {}
    assert (type(quantized.conv), type(quantized.norm)) == (nn.Conv1d, nn.LayerNorm)
    assert torch.int8 in stored(quantized)
    expected = model(tokens()).detach()
    # int8 weights lose at most half of a 127th of a layer's range; a handful of layers stay below a twentieth.
    assert relative_error(quantized(tokens()), expected) < 0.05
    assert torch.equal(copy.deepcopy(quantized)(tokens()), quantized(tokens()))


@pytest.mark.inventory("S083")
def test_in_place() -> None:
    model = Recurrent().eval()
    assert quantize_dynamic(model, inplace=True) is model
    assert swapped(model) == SWAPPED


@pytest.mark.inventory("S083")
@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ({nn.Linear}, {"fc.0", "fc.2"}),
        ({nn.LSTM, nn.RNNCell}, {"lstm", "cells.2"}),
        ({"fc.0", "cells"}, {"fc.0", "cells.0", "cells.1", "cells.2"}),
        ({"fc": default_dynamic_qconfig, "fc.2": None}, {"fc.0"}),
        ({nn.LSTMCell: per_channel_dynamic_qconfig}, {"cells.0"}),
        ({"": default_dynamic_qconfig, nn.Linear: None}, set(SWAPPED) - {"fc.0", "fc.2"}),
        (set(), set()),
    ],
)
def test_the_spec_names_classes_or_modules(spec: Any, names: set[str]) -> None:
    assert set(swapped(quantize_dynamic(Recurrent().eval(), spec))) == names


@pytest.mark.inventory("S083", "S222", "S097")
def test_float16_weights() -> None:
    model = Recurrent().eval()
    expected = model(tokens()).detach()
    for given in ({"dtype": torch.float16}, {"qconfig_spec": {"": float16_dynamic_qconfig}}):
        quantized = quantize_dynamic(model, **given)
        assert swapped(quantized) == SWAPPED
        assert torch.float16 in stored(quantized)
        assert torch.int8 not in stored(quantized)
        assert relative_error(quantized(tokens()), expected) < 1e-2


@pytest.mark.inventory("S222")
def test_float16_weights_that_overflow_saturate_with_a_warning() -> None:
    layer = nn.Sequential(nn.Linear(4, 3)).eval()
    with torch.no_grad():
        layer[0].weight[0, 0] = 1e6
    with pytest.warns(UserWarning, match="65504"):
        result = quantize_dynamic(layer, dtype=torch.float16)(torch.ones(1, 4))
    assert bool(result.isfinite().all())
    assert float(result[0, 0].detach()) == pytest.approx(65504, rel=1e-3)


@pytest.mark.inventory("S185")
@pytest.mark.parametrize("dtype", ["qint8", torch.float16])
@pytest.mark.parametrize("grad", [True, False])
def test_a_transformer_in_one_call(dtype: Any, grad: bool) -> None:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation="gelu")
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    quantized = quantize_dynamic(model, dtype=dtype)
    linear = ("linear1", "linear2", *(f"self_attn.{name}" for name in ("linear_Q", "linear_K", "linear_V", "out_proj")))
    wanted = {f"layers.{i}.{name}": "Linear" for i in (0, 1) for name in linear}
    assert swapped(quantized) == {**wanted, **{f"layers.{i}.self_attn": "MultiheadAttention" for i in (0, 1)}}
    assert stored(quantized) - {torch.float32} >= {torch.int8 if dtype == "qint8" else torch.float16}
    assert (torch.int8 in stored(quantized)) == (dtype == "qint8")
    x = torch.randn(2, 9, 16)
    with torch.set_grad_enabled(grad):
        assert relative_error(quantized(x), model(x)) < 0.02
    assert quantized.train().training


@pytest.mark.inventory("S083")
class TestBadInput:
    @pytest.mark.parametrize("dtype", [torch.float32, "quint8", "int4", None])
    def test_another_dtype(self, dtype: Any) -> None:
        with pytest.raises(QConfigError, match="quantize_dynamic does not make"):
            quantize_dynamic(Recurrent(), dtype=dtype)

    def test_a_name_that_the_model_does_not_have(self) -> None:
        with pytest.raises(QConfigError, match="names 'head'"):
            quantize_dynamic(Recurrent(), {"head"})

    def test_a_model_elsewhere(self) -> None:
        with pytest.raises(InputError, match="is on meta"):
            quantize_dynamic(nn.Sequential(nn.Linear(2, 2, device="meta")))
