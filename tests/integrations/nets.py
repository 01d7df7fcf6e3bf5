"""Small transformers with random weights, a tokenizer of a few words, and texts of them."""

from __future__ import annotations

import logging
import warnings
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


def definitions() -> ModuleType:
    """The package transformers; the test is skipped where it is not installed."""
    pytest.importorskip("transformers")
    from benchmarks import encoder_models

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return encoder_models.definitions()


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


def sentence_transformer(folder: Path) -> Any:
    """A ``SentenceTransformer`` of a small BERT, by way of ``folder``."""
    package = pytest.importorskip("sentence_transformers")
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    made("BertModel", "BertConfig", **SIZES).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return package.SentenceTransformer(str(folder), device="cpu")
