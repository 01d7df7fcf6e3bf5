"""What is built around a network runs around the quantized one as it did: pipelines, and sentence-transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qfx.integrations import load_encoder, quantize_encoder
from tests.integrations.nets import PATCHES, SIZES, TEXTS, made, sentence_transformer

TASKS = {
    "feature-extraction": "BertModel",
    "text-classification": "BertForSequenceClassification",
    "fill-mask": "BertForMaskedLM",
    "token-classification": "BertForTokenClassification",
}
MASKED = [text.replace("the", "[MASK]", 1) for text in TEXTS if "the" in text]


def scores(found: Any) -> torch.Tensor:
    """Every number in what a pipeline returns, in order."""
    if isinstance(found, dict):
        return scores(found["score"])
    if isinstance(found, (list, tuple)):
        return torch.cat([scores(part) for part in found])
    return torch.tensor([float(found)])


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_pipelines_run_unchanged(hf: Any, tokenizer: Any, tmp_path: Path, task: str) -> None:
    net = made(TASKS[task], "BertConfig", **SIZES)
    pipe = hf.pipeline(task, model=net, tokenizer=tokenizer, device="cpu")
    texts = MASKED if task == "fill-mask" else TEXTS
    options = {"top_k": SIZES["vocab_size"]} if task == "fill-mask" else {}
    want = pipe(texts, **options)
    quantized = quantize_encoder(pipe, texts)
    assert type(quantized) is type(pipe)
    assert pipe.model is net
    got = quantized(texts, **options)
    assert torch.cosine_similarity(scores(want), scores(got), 0) > 0.99
    assert len(quantized(texts, batch_size=4, **options)) == len(texts)
    quantized.save_pretrained(tmp_path)
    again = hf.pipeline(task, model=load_encoder(tmp_path), tokenizer=str(tmp_path), device="cpu")
    assert torch.equal(scores(again(texts, **options)), scores(got))


@pytest.mark.slow
def test_a_pipeline_takes_images(hf: Any) -> None:
    pil = pytest.importorskip("PIL.Image")
    settings = {key: SIZES[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
    net = made("ViTForImageClassification", "ViTConfig", **settings, **PATCHES, num_labels=5)
    processor = hf.ViTImageProcessor(size={"height": 32, "width": 32})
    pipe = hf.pipeline("image-classification", model=net, image_processor=processor, device="cpu")
    random = np.random.default_rng(0)
    images = [pil.fromarray(random.integers(0, 255, (40, 40, 3), dtype=np.uint8)) for _ in range(4)]
    quantized = quantize_encoder(pipe, images)
    labels = [[part["label"] for part in found] for found in (pipe(images)[0], quantized(images)[0])]
    assert len(labels[1]) == 5
    assert set(labels[0]) == set(labels[1])
    assert torch.allclose(scores(pipe(images)), scores(quantized(images)), atol=0.05)


def test_sentences_are_encoded_unchanged(tmp_path: Path) -> None:
    whole = sentence_transformer(tmp_path / "float")
    want = whole.encode(TEXTS)
    quantized = quantize_encoder(whole, TEXTS)
    assert type(quantized) is type(whole)
    got = quantized.encode(TEXTS)
    assert np.array_equal(whole.encode(TEXTS), want)
    assert got.shape == want.shape
    assert torch.cosine_similarity(torch.tensor(got), torch.tensor(want)).min() > 0.995
    assert quantized.encode(TEXTS[0]).shape == want[0].shape
    assert quantized.max_seq_length == whole.max_seq_length
    quantized.save_pretrained(str(tmp_path / "int8"))
    again = load_encoder(tmp_path / "int8")
    assert type(again) is type(whole)
    assert np.array_equal(again.encode(TEXTS), got)
    loaded = type(whole)(str(tmp_path / "float"), device="cpu")  # as before: nothing of the class is changed for good
    assert np.array_equal(loaded.encode(TEXTS), want)


@pytest.mark.slow
def test_pairs_are_scored_unchanged(tmp_path: Path) -> None:
    whole = sentence_transformer(tmp_path / "float", "CrossEncoder", "BertForSequenceClassification")
    pairs = [(TEXTS[0], text) for text in TEXTS]
    quantized = quantize_encoder(whole, pairs)
    assert type(quantized) is type(whole)
    assert np.allclose(quantized.predict(pairs), whole.predict(pairs), atol=0.05)
    quantized.save_pretrained(str(tmp_path / "int8"))
    assert np.array_equal(load_encoder(tmp_path / "int8").predict(pairs), quantized.predict(pairs))


@pytest.mark.slow
def test_words_are_weighed_unchanged(tmp_path: Path) -> None:
    whole = sentence_transformer(tmp_path / "float", "SparseEncoder", "BertForMaskedLM")
    quantized = quantize_encoder(whole, TEXTS)
    assert type(quantized) is type(whole)
    want, got = whole.encode(TEXTS).to_dense(), quantized.encode(TEXTS).to_dense()
    assert torch.cosine_similarity(want, got).min() > 0.995
    quantized.save_pretrained(str(tmp_path / "int8"))
    assert torch.equal(load_encoder(tmp_path / "int8").encode(TEXTS).to_dense(), got)
