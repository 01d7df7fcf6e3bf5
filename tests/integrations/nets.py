"""Small transformers with random weights, a tokenizer of a few words, and texts of them."""

from __future__ import annotations

import importlib
import logging
import warnings
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
TEXTS = [
    "the cat sat on the mat", "a dog ran under the road", "it was cold", "and then it was warm and the cat ran",
    "the dog sat", "a cold mat on the road", "it ran", "then the warm cat sat under a mat and it was cold",
    "the road was warm and the dog ran",
]  # fmt: skip
WORDS = sorted({word for text in TEXTS for word in text.split()})
POSITIONS = 24
SIZES = {
    "vocab_size": len(SPECIAL) + len(WORDS), "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": POSITIONS,
}  # fmt: skip
PATCHES = {"image_size": 32, "patch_size": 8}


def _require(package: str) -> None:
    """Skip the test where ``package`` is not installed; one that is there and does not import fails it."""
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


def definitions() -> ModuleType:
    """The package transformers; the test is skipped where it is not installed."""
    _require("transformers")
    from benchmarks import encoder_models

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = encoder_models.definitions()
        _ = package.PreTrainedModel, package.pipeline  # what they import has warnings of its own
        return package


def made(model: str, config: str, **settings: Any) -> Any:
    """A model of that class in eval mode, with random weights of such a size that every layer says something."""
    hf = definitions()
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = getattr(hf, model)(getattr(hf, config)(**settings)).eval()
    for parameter in net.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.5 * parameter.shape[-1] ** -0.5)
    return net


def word_tokenizer() -> Any:
    """A tokenizer of ``WORDS``."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    numbers = {word: number for number, word in enumerate([*SPECIAL.values(), *WORDS])}
    made = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(token, numbers[token]) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return definitions().PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=POSITIONS, **SPECIAL)


def sentence_transformer(folder: Path, kind: str = "SentenceTransformer", model: str = "BertModel") -> Any:
    """A model of sentence-transformers around a small BERT, by way of ``folder``."""
    _require("sentence_transformers")
    definitions()  # which it imports, too
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = importlib.import_module("sentence_transformers")
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    made(model, "BertConfig", **SIZES).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return getattr(package, kind)(str(folder), device="cpu")
