"""Dynamic attention: what it makes of its projections is what torch makes, whatever the options and masks."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qfx
import qfx.nn.quantized.dynamic as nnqd
from qfx.errors import InputError
from qfx.quantization import float16_dynamic_qconfig

BATCH, TARGET, SOURCE, WIDTH, HEADS = 3, 4, 5, 8, 2

LAYERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "batch first": {"batch_first": True},
    "no bias": {"bias": False},
    "other keys": {"kdim": 6, "vdim": 10},
    "learned key": {"add_bias_kv": True},
    "zero key": {"add_zero_attn": True},
    "all": {"batch_first": True, "kdim": 6, "add_bias_kv": True, "add_zero_attn": True},
}
BOOLEAN = torch.ones(TARGET, SOURCE, dtype=torch.bool).triu(2)
EACH_HEAD = torch.randn(BATCH * HEADS, TARGET, SOURCE, generator=torch.Generator().manual_seed(5))
PADDING = torch.arange(SOURCE) >= torch.tensor([[5], [3], [4]])
CALLS: dict[str, dict[str, Any]] = {
    "weights": {},
    "no weights": {"need_weights": False},
    "weights of heads": {"average_attn_weights": False},
    "boolean mask": {"attn_mask": BOOLEAN},
    "boolean mask, no weights": {"attn_mask": BOOLEAN, "need_weights": False},
    "causal": {"attn_mask": BOOLEAN, "is_causal": True},
    "float mask": {"attn_mask": torch.arange(20.0).reshape(TARGET, SOURCE) / 9},
    "a mask a head": {"attn_mask": EACH_HEAD},
    "padding": {"key_padding_mask": PADDING},
    "both": {"attn_mask": BOOLEAN, "key_padding_mask": PADDING, "need_weights": False},
}


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def layer_of(name: str) -> nn.MultiheadAttention:
    layer = nn.MultiheadAttention(WIDTH, HEADS, **LAYERS[name]).eval()
    for parameter in layer.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.5)
    return layer


def inputs(layer: nn.MultiheadAttention, batched: bool = True) -> list[Tensor]:
    sizes = ((TARGET, WIDTH), (SOURCE, layer.kdim), (SOURCE, layer.vdim))
    if not batched:
        return [torch.randn(length, features) for length, features in sizes]
    if layer.batch_first:
        return [torch.randn(BATCH, length, features) for length, features in sizes]
    return [torch.randn(length, BATCH, features) for length, features in sizes]


def with_float_projections(layer: nn.MultiheadAttention) -> nnqd.MultiheadAttention:
    """The quantized layer, its four linear layers float ones: nothing is rounded."""
    made = nnqd.MultiheadAttention.from_float(layer)
    packed = layer.in_proj_weight
    own = [layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight]
    weights = own if packed is None else list(packed.chunk(3))
    biases = [None] * 3 if layer.in_proj_bias is None else list(layer.in_proj_bias.chunk(3))
    for name, weight, bias in zip(("linear_Q", "linear_K", "linear_V"), weights, biases, strict=True):
        linear = nn.Linear(weight.shape[1], WIDTH, bias is not None)
        linear.load_state_dict({"weight": weight, **({"bias": bias} if bias is not None else {})})
        setattr(made, name, linear)
    made.out_proj = layer.out_proj
    return made


def agree(got: Any, want: Any) -> None:
    for a, b in zip(got, want, strict=True):
        assert (a is None) == (b is None)
        if b is not None:
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", LAYERS)
def test_what_it_makes_of_its_projections_is_what_torch_makes(name: str, call: str) -> None:
    layer = layer_of(name)
    made, given = with_float_projections(layer), inputs(layer)
    agree(made(*given, **CALLS[call]), layer(*given, **CALLS[call]))


@pytest.mark.parametrize("call", ["weights", "no weights", "weights of heads", "boolean mask"])
@pytest.mark.parametrize("name", LAYERS)
def test_one_sequence_without_a_batch(name: str, call: str) -> None:
    layer = layer_of(name)
    given = inputs(layer, batched=False)
    agree(with_float_projections(layer)(*given, **CALLS[call]), layer(*given, **CALLS[call]))


@pytest.mark.parametrize("dtype", ["int8", "float16"])
@pytest.mark.parametrize("name", LAYERS)
def test_it_is_near_the_float_layer_and_its_state_loads(name: str, dtype: str) -> None:
    layer = layer_of(name)
    layer.qconfig = float16_dynamic_qconfig if dtype == "float16" else None
    made, given = nnqd.MultiheadAttention.from_float(layer), inputs(layer)
    got, want = made(*given)[0], layer(*given)[0]
    # four layers in a row, each of which may lose a 127th; float16 has 11 bits
    assert (got - want).norm() < (0.05 if dtype == "int8" else 0.002) * want.norm()
    kind = torch.float16 if dtype == "float16" else qfx.qint8
    blank = nnqd.MultiheadAttention(WIDTH, HEADS, **LAYERS[name], dtype=kind).eval()
    file = io.BytesIO()
    torch.save(made.state_dict(), file)
    file.seek(0)
    blank.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(blank(*given)[0], got)
    whole = layer.in_proj_weight
    assert (made.in_proj_weight is None) == (whole is None)
    if whole is not None:
        assert made.in_proj_weight.shape == whole.shape
        assert (made.in_proj_weight - whole).abs().max() <= 0.51 * whole.abs().max() / 127
    agree([made.in_proj_bias], [layer.in_proj_bias])


WRONG: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "no tensors": ([None, None, None], {}),
    "ranks": ([torch.randn(4, 8), torch.randn(4, 3, 8), torch.randn(4, 3, 8)], {}),
    "lengths": ([torch.randn(4, 3, 8), torch.randn(5, 3, 8), torch.randn(4, 3, 8)], {}),
    "features": ([torch.randn(4, 3, 7)] * 3, {}),
    "mask": ([torch.randn(4, 3, 8)] * 3, {"attn_mask": torch.zeros(4, 5)}),
    "padding": ([torch.randn(4, 3, 8)] * 3, {"key_padding_mask": torch.zeros(4, 3)}),
    "causal": ([torch.randn(4, 3, 8)] * 3, {"is_causal": True}),
}


@pytest.mark.parametrize("name", WRONG)
def test_inputs_that_do_not_fit_are_refused(name: str) -> None:
    args, kwargs = WRONG[name]
    with pytest.raises(InputError):
        nnqd.MultiheadAttention.from_float(layer_of("plain"))(*args, **kwargs)


def test_heads_that_do_not_divide_the_features_are_refused() -> None:
    with pytest.raises(InputError, match="heads"):
        nnqd.MultiheadAttention(8, 3)
