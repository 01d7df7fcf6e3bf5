"""Real sentences to calibrate and evaluate with: the descriptions of data sets that scikit-learn ships, as tokens."""

from __future__ import annotations

import functools
import re
from typing import Any

import torch

from benchmarks import encoder_weights
from benchmarks.photos import EVALUATION_SEED, TIMING_SEED, folder

LENGTH = 128
EVALUATED = 50
_JOINED = 8  # sentences that fill LENGTH tokens


@functools.cache
def sentences() -> tuple[str, ...]:
    """Every plain English sentence of the descriptions, always in the same order."""
    pages = [path.read_text(encoding="utf-8") for path in sorted(folder("sklearn", "datasets", "descr").glob("*.rst"))]
    parts = re.split(r"(?<=[.!?])\s+|\n\s*\n", "\n\n".join(pages))
    return tuple(dict.fromkeys(part for part in (re.sub(r"\s+", " ", p).strip() for p in parts) if _is_plain(part)))


def _is_plain(text: str) -> bool:
    return 40 < len(text) < 240 and text[0].isupper() and text.endswith(".") and not re.search(r"[:=*|`_]", text)


def texts(count: int, seed: int) -> list[str]:
    """``count`` texts: for evaluation the first sentences, for timing longer ones, else those left in a drawn order.

    Evaluation and calibration share no sentence; texts for timing fill ``LENGTH`` tokens.
    """
    if seed == EVALUATION_SEED:
        return _cycled(sentences()[:EVALUATED], count)
    others = sentences()[EVALUATED:]
    order = torch.randperm(len(others), generator=torch.Generator().manual_seed(seed)).tolist()
    if seed == TIMING_SEED:
        return [" ".join(others[order[(_JOINED * i + j) % len(order)]] for j in range(_JOINED)) for i in range(count)]
    return _cycled([others[i] for i in order], count)


def _cycled(found: tuple[str, ...] | list[str], count: int) -> list[str]:
    return [found[i % len(found)] for i in range(count)]


@functools.cache
def _tokenizer(encoder: str) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(encoder_weights.place(encoder) / "tokenizer.json"))
    padding = tokenizer.padding or {"pad_id": 0, "pad_token": "[PAD]"}
    tokenizer.enable_padding(length=LENGTH, pad_id=padding["pad_id"], pad_token=padding["pad_token"])
    tokenizer.enable_truncation(LENGTH)
    return tokenizer


def tokens(count: int, seed: int, encoder: str = encoder_weights.MINILM) -> tuple[torch.Tensor, torch.Tensor]:
    """Token numbers of the named encoder's tokenizer and the mask of real tokens, int64 [count, 128] both."""
    encoded = _tokenizer(encoder).encode_batch(texts(count, seed))
    return torch.tensor([e.ids for e in encoded]), torch.tensor([e.attention_mask for e in encoded])
