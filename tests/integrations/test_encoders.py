"""Encoders of each kind: the same class, the same result's class, close values, whatever the call's form."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from qfx.integrations import quantize_encoder
from tests.integrations.nets import PATCHES, POSITIONS, SIZES, TEXTS, made

TEXT: dict[str, tuple[str, str, dict[str, Any]]] = {
    "BERT": ("BertForSequenceClassification", "BertConfig", SIZES),
    "RoBERTa": ("RobertaModel", "RobertaConfig", {**SIZES, "type_vocab_size": 1}),
    "MPNet": ("MPNetModel", "MPNetConfig", SIZES),
    "DistilBERT": (
        "DistilBertModel", "DistilBertConfig",
        {"vocab_size": SIZES["vocab_size"], "dim": 32, "n_layers": 1, "n_heads": 4, "hidden_dim": 64},
    ),
    "ALBERT": ("AlbertModel", "AlbertConfig", {**SIZES, "embedding_size": 16}),
    "ELECTRA": ("ElectraModel", "ElectraConfig", {**SIZES, "embedding_size": 16}),
    "T5's encoder": (
        "T5EncoderModel", "T5Config",
        {"vocab_size": SIZES["vocab_size"], "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 4},
    ),
    "CLIP's text part": (
        "CLIPTextModel", "CLIPTextConfig", {**SIZES, "eos_token_id": 3, "bos_token_id": 2, "pad_token_id": 0},
    ),
    "GPT-2, whole texts": (
        "GPT2Model", "GPT2Config",
        {"vocab_size": SIZES["vocab_size"], "n_embd": 32, "n_layer": 1, "n_head": 4, "use_cache": False},
    ),
}  # fmt: skip
SQUARE = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64, **PATCHES}
OTHERS: dict[str, tuple[str, str, dict[str, Any], str, tuple[int, ...]]] = {
    "ViT": ("ViTForImageClassification", "ViTConfig", SQUARE, "pixel_values", (3, 32, 32)),
    "CLIP's image part": ("CLIPVisionModel", "CLIPVisionConfig", SQUARE, "pixel_values", (3, 32, 32)),
}
QUICK = ("BERT", "ViT")


def _kinds(table: dict[str, Any]) -> list[Any]:
    return [pytest.param(*row, id=name, marks=() if name in QUICK else pytest.mark.slow) for name, row in table.items()]


def agree(model: Any, quantized: Any, **call: Tensor) -> None:
    """The results are of one class, have the same parts, and are close."""
    with torch.no_grad():
        want, got = model(**call), quantized(**call)
    assert type(got) is type(want)
    assert list(got) == list(want)
    for name, value in want.items():
        assert got[name].shape == value.shape
        assert torch.cosine_similarity(got[name].flatten(), value.flatten(), 0) > 0.995, name  # 20 dB
        assert torch.equal(getattr(got, name), got[name])


@pytest.mark.parametrize(("model", "config", "settings"), _kinds(TEXT))
def test_text_encoders_take_any_texts(model: str, config: str, settings: dict[str, Any]) -> None:
    net = made(model, config, **settings)
    quantized = quantize_encoder(net)
    assert isinstance(quantized, type(net))
    assert type(quantized).__name__ == model
    assert inspect.signature(quantized.forward) == inspect.signature(net.forward)
    assert not quantized.training
    assert (quantized.device, quantized.dtype) == (net.device, net.dtype)
    assert quantized.config.to_dict() == net.config.to_dict()
    generator = torch.Generator().manual_seed(1)
    for rows, length in ((1, 7), (3, 11), (2, 1), (1, 1), (5, 2)):
        ids = torch.randint(5, SIZES["vocab_size"], (rows, length), generator=generator)
        ids[:, -1] = 3
        agree(net, quantized, input_ids=ids)
        mask = torch.ones_like(ids)
        mask[0, length - length // 3 :] = 0
        agree(net, quantized, input_ids=ids, attention_mask=mask)
        assert torch.equal(quantized(ids)[0], quantized(input_ids=ids, return_dict=False)[0])
        assert torch.equal(quantized(ids.int(), attention_mask=mask.bool())[0], quantized(ids, attention_mask=mask)[0])


@pytest.mark.parametrize(("model", "config", "settings", "name", "shape"), _kinds(OTHERS))
def test_other_encoders_take_any_batch(
    model: str, config: str, settings: dict[str, Any], name: str, shape: tuple[int, ...]
) -> None:
    net = made(model, config, **settings)
    quantized = quantize_encoder(net)
    for rows in (1, 3):
        agree(net, quantized, **{name: torch.randn(rows, *shape, generator=torch.Generator().manual_seed(1))})


def test_sample_texts_make_it_static(bert: Any, tokenizer: Any) -> None:
    quantized = quantize_encoder(bert, TEXTS, tokenizer)
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    agree(bert, quantized, **inputs)
    assert _has_ranges(quantized)
    layers = [record for record in quantized.quantized_model.report.layers() if record.op == "linear"]
    assert layers
    assert all(record.decision == "int8" for record in layers)


def _has_ranges(quantized: Any) -> bool:
    """Whether activations have scales from calibration."""
    return any(key.endswith(".scale") for key in quantized.quantized_model.state_dict())


def test_batches_say_what_calls_have(bert: Any) -> None:
    embedded = torch.randn(32, 9, 32, generator=torch.Generator().manual_seed(2))
    quantized = quantize_encoder(bert, batches=[{"inputs_embeds": part} for part in embedded.split(8)])
    for part in (embedded, embedded[:1, :4]):
        agree(bert, quantized, inputs_embeds=part)


@pytest.mark.slow
def test_hidden_states_are_given_where_the_config_asks(bert: Any) -> None:
    net = copy.deepcopy(bert)
    net.config.output_hidden_states = True
    quantized = quantize_encoder(net)
    ids = torch.randint(5, SIZES["vocab_size"], (2, 6), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        want = net(ids)
    got = quantized(ids, output_hidden_states=True)
    assert list(got) == list(want)
    assert [h.shape for h in got.hidden_states] == [h.shape for h in want.hidden_states]
    assert "hidden_states" not in quantized(ids, output_hidden_states=False)


def test_without_samples_nothing_is_calibrated(quantized: Any) -> None:
    assert not _has_ranges(quantized)


def test_copies_and_pickles_are_the_same(quantized: Any) -> None:
    ids = torch.randint(5, SIZES["vocab_size"], (2, 6), generator=torch.Generator().manual_seed(1))
    for twin in (copy.deepcopy(quantized), pickle.loads(pickle.dumps(quantized))):
        assert type(twin) is type(quantized)
        assert torch.equal(twin(ids)[0], quantized(ids)[0])


def test_the_float_model_stays_as_it_was(bert: Any, quantized: Any) -> None:
    before = {name: value.clone() for name, value in bert.state_dict().items()}
    ids = torch.randint(5, SIZES["vocab_size"], (1, POSITIONS), generator=torch.Generator().manual_seed(1))
    quantized.config.id2label = {0: "another"}
    quantized(ids)
    assert bert.config.id2label != {0: "another"}
    assert not bert.training
    assert "forward" not in vars(bert)
    assert all(torch.equal(value, before[name]) for name, value in bert.state_dict().items())
