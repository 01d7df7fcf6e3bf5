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


@pytest.fixture(scope="session")
def hf() -> ModuleType:
    """The package transformers."""
    pytest.importorskip("transformers")
    from benchmarks.encoder_models import definitions

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return definitions()


@pytest.fixture(scope="session")
def make(hf: ModuleType) -> Any:
    """``make(model, config, **settings)``: a model of that class in eval mode, with its own random weights."""

    def made(model: str, config: str, **settings: Any) -> Any:
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net = getattr(hf, model)(getattr(hf, config)(**settings)).eval()
        for parameter in net.parameters():
            if parameter.dim() > 1:  # so that layers say something: initial weights are small beside embeddings
                torch.nn.init.normal_(parameter, std=0.5 * parameter.shape[-1] ** -0.5)
        return net

    return made


@pytest.fixture(scope="session")
def tokenizer(hf: ModuleType) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    numbers = {word: number for number, word in enumerate([*SPECIAL.values(), *WORDS])}
    made = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(token, numbers[token]) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return hf.PreTrainedTokenizerFast(tokenizer_object=made, **SPECIAL)


@pytest.fixture(scope="session")
def bert(make: Any) -> Any:
    return make("BertModel", "BertConfig", **SIZES)


@pytest.fixture(scope="session")
def quantized(bert: Any) -> Any:
    """BERT, by rows."""
    from qfx.integrations import quantize_encoder

    return quantize_encoder(bert)


@pytest.fixture(scope="session")
def folder(bert: Any, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BERT and its tokenizer as ``from_pretrained`` takes them."""
    path = tmp_path_factory.mktemp("bert")
    bert.save_pretrained(path)
    tokenizer.model_max_length = POSITIONS
    tokenizer.save_pretrained(path)
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    return path
