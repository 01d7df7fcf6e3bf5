"""What is measured of a decoder: how far its distributions are from float's, on text that calibration has not seen."""

from __future__ import annotations

import math
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from benchmarks import decoder_models, decoders, photos


def _fixed(logits: list[float]) -> object:
    return lambda ids: torch.tensor(logits).log().expand(1, ids.shape[1], len(logits))


def test_a_model_beside_itself_is_exact() -> None:
    model = _fixed([0.5, 0.25, 0.25])
    found = decoders.closeness(model, model, [torch.tensor([0, 1, 2])])
    assert (found.divergence, found.same, found.sqnr) == (0.0, 1.0, math.inf)
    assert found.perplexity == pytest.approx(4.0)


def test_the_divergence_is_from_float_and_not_to_it() -> None:
    float_, other = _fixed([0.5, 0.5]), _fixed([0.2, 0.8])
    found = decoders.closeness(other, float_, [torch.tensor([0, 1]), torch.tensor([1, 1])])
    assert found.divergence == pytest.approx(0.5 * math.log(0.5 / 0.2) + 0.5 * math.log(0.5 / 0.8))
    assert found.perplexity == pytest.approx(1 / 0.8)


def test_the_same_top_token_is_counted_over_positions() -> None:
    def model(ids: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(ids, 3).float()

    found = decoders.closeness(model, _fixed([0.6, 0.3, 0.1]), [torch.tensor([0, 1, 2, 0])])
    assert found.same == 0.5


@pytest.mark.slow
@pytest.mark.skipif(
    any(find_spec(name) is None for name in (decoder_models.PACKAGE, "gguf", "accelerate", "transformers")),
    reason="the tokenizer comes with the weights",
)
def test_evaluation_and_calibration_share_no_window() -> None:
    evaluated = decoder_models.windows(decoder_models.EVALUATED, photos.EVALUATION_SEED)
    calibrated = decoder_models.windows(decoder_models.CALIBRATED, photos.CALIBRATION_SEED)
    assert evaluated.shape == calibrated.shape == (8, decoder_models.LENGTH)
    assert not {tuple(row) for row in evaluated.tolist()} & {tuple(row) for row in calibrated.tolist()}
