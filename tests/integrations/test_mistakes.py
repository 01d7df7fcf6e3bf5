"""What can't be quantized or called says what, why and what to do."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import qfx
from qfx.errors import CalibrationError, InputError, QfxError, UnsupportedError
from qfx.integrations import quantize_encoder
from tests.integrations.nets import POSITIONS, SIZES, TEXTS, made

IDS = torch.randint(5, SIZES["vocab_size"], (2, 6), generator=torch.Generator().manual_seed(1))
LONG = " ".join(["cat"] * POSITIONS)


def _training(net: Any) -> Any:
    return copy.deepcopy(net).train()


Case = tuple[type[QfxError], str, Callable[[Any, Any, Any], Any]]
OF_QUANTIZING: dict[str, Case] = {
    "another module": (InputError, "Sequential", lambda net, tok, q: quantize_encoder(nn.Sequential())),
    "training mode": (InputError, "training mode", lambda net, tok, q: quantize_encoder(_training(net))),
    "another device": (InputError, "is on meta", lambda net, tok, q: quantize_encoder(copy.deepcopy(net).to("meta"))),
    "quantized": (InputError, "quantized already", lambda net, tok, q: quantize_encoder(q)),
    "no tokenizer": (InputError, "no tokenizer", lambda net, tok, q: quantize_encoder(net, TEXTS)),
    "no texts": (CalibrationError, "no texts", lambda net, tok, q: quantize_encoder(net, [], tok)),
    "no batches": (CalibrationError, "no batches", lambda net, tok, q: quantize_encoder(net, batches=[])),
    "one text": (InputError, "one text", lambda net, tok, q: quantize_encoder(net, TEXTS[0], tok)),
    "a long text": (CalibrationError, "26 tokens.* 24", lambda net, tok, q: quantize_encoder(net, [LONG], tok)),
    "both": (InputError, "both texts and batches", lambda net, tok, q: quantize_encoder(net, TEXTS, tok, batches=[{}])),
    "no tensors": (
        CalibrationError, "Batch 0 is no call", lambda net, tok, q: quantize_encoder(net, batches=[{"input_ids": [1]}])
    ),
    "other names": (
        CalibrationError, "Batch 0 is no call", lambda net, tok, q: quantize_encoder(net, batches=[{"ids": IDS}])
    ),
    "wrong ids": (
        InputError, "does not run", lambda net, tok, q: quantize_encoder(net, batches=[{"input_ids": IDS + 1000}])
    ),
}  # fmt: skip
OF_CALLS: dict[str, Case] = {
    "a long text": (InputError, "24 at most", lambda net, tok, q: q(torch.full((1, POSITIONS + 1), 5))),
    "hidden states": (
        InputError, "config.output_hidden_states = True", lambda net, tok, q: q(IDS, output_hidden_states=True)
    ),
    "attentions": (InputError, "eager", lambda net, tok, q: q(IDS, output_attentions=True)),
    "embeddings": (InputError, "'inputs_embeds'", lambda net, tok, q: q(inputs_embeds=torch.zeros(2, 6, 32))),
    "positions": (InputError, "batches=", lambda net, tok, q: q(IDS, position_ids=IDS)),
    "nothing": (InputError, "no input_ids", lambda net, tok, q: q()),
    "a mask of another shape": (InputError, "attention_mask", lambda net, tok, q: q(IDS, attention_mask=IDS[:, :3])),
    "training": (UnsupportedError, "can't train", lambda net, tok, q: q.train()),
    "half": (UnsupportedError, "float16", lambda net, tok, q: q.half()),
    "a hub": (UnsupportedError, "hub", lambda net, tok, q: q.save_pretrained("x", push_to_hub=True)),
}  # fmt: skip


def _told(case: Case, *objects: Any) -> None:
    kind, said, do = case
    with pytest.raises(kind, match=f"(?s){said}") as caught:
        do(*objects)
    assert caught.value.remedy


@pytest.mark.parametrize("name", OF_QUANTIZING)
def test_what_can_not_be_quantized_is_told(bert: Any, tokenizer: Any, quantized: Any, name: str) -> None:
    _told(OF_QUANTIZING[name], bert, tokenizer, quantized)


@pytest.mark.parametrize("name", OF_CALLS)
def test_what_a_call_can_not_have_is_told(bert: Any, tokenizer: Any, quantized: Any, name: str) -> None:
    _told(OF_CALLS[name], bert, tokenizer, quantized)


DECODERS: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "a decoder": (
        "GPT2LMHeadModel", "GPT2Config", {"n_embd": 32, "n_layer": 1, "n_head": 4, "vocab_size": 30}, "past_key_values",
    ),
    "an encoder and a decoder": (
        "T5Model", "T5Config", {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 4}, "get_encoder",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DECODERS)
def test_decoders_are_refused(name: str) -> None:
    model, config, settings, said = DECODERS[name]
    with pytest.raises(UnsupportedError, match=said):
        quantize_encoder(made(model, config, **settings))


def test_what_changes_nothing_is_taken(quantized: Any) -> None:
    want = quantized(IDS)[0]
    assert torch.equal(quantized(IDS, output_hidden_states=False, position_ids=None, use_cache=False)[0], want)
    assert torch.equal(quantized(IDS, a_name_of_somebody=1)[0], want)


def test_parts_that_are_no_more_are_told(quantized: Any) -> None:
    with pytest.raises(AttributeError, match=r"'encoder'.*quantized_model"):
        _ = quantized.encoder
    assert isinstance(quantized.quantized_model, qfx.QuantizedModel)
