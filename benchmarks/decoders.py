"""Decoders in int8 as prefill, how close to float they are: ``python -m benchmarks.decoders [way ...] [--steps]``.

Of every position of windows of text that calibration has not seen: the Kullback-Leibler divergence of the next token's
distribution from float's, the share of positions with the same most likely token, the perplexity, and the logits'
signal to noise. Then what qfx makes of the model: programs, what torch runs between them, nodes that stay float.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

import qfx
from benchmarks import decoder_models, photos
from benchmarks.encoders import describe, print_steps, steps
from benchmarks.report import header, row
from qfx.models import QuantizedModel


def _calibration() -> list[tuple[Tensor]]:
    windows = decoder_models.windows(decoder_models.CALIBRATED, photos.CALIBRATION_SEED)
    return [(pair,) for pair in windows.split(2)]  # of one alone, a capture does not know its batch


def _static(net: nn.Module) -> QuantizedModel:
    return qfx.quantize_fx(net, {"": qfx.get_default_qconfig()}, calibration=_calibration())


def _dynamic(net: nn.Module) -> QuantizedModel:
    return qfx.quantize_fx(net, {"": qfx.default_dynamic_qconfig}, example_inputs=_calibration()[0])


def _dynamic_calibrated(net: nn.Module) -> QuantizedModel:
    return qfx.quantize_fx(net, {"": qfx.default_dynamic_qconfig}, calibration=_calibration())


def _by_groups(net: nn.Module, qconfig: qfx.QConfig) -> QuantizedModel:
    return qfx.quantize_fx(net, {"": qconfig}, example_inputs=_calibration()[0])


WAYS: dict[str, Callable[[nn.Module], QuantizedModel]] = {
    "dynamic": _dynamic,
    "dynamic, calibrated": _dynamic_calibrated,
    "static": _static,
    "inputs by groups": partial(_by_groups, qconfig=qfx.per_group_dynamic_qconfig),
    "inputs and weights by groups": partial(_by_groups, qconfig=qfx.int8_groups_dynamic_qconfig),
    "the same, weights in 4 bits": partial(_by_groups, qconfig=qfx.int4_groups_dynamic_qconfig),
}

USUAL = ["dynamic", "dynamic, calibrated", "static"]


@dataclass(frozen=True)
class Closeness:
    """What a model's logits are beside float's.

    Attributes:
        divergence: Mean Kullback-Leibler divergence of the distributions from float's, nats.
        same: Share of positions with the same most likely token.
        perplexity: Of the text.
        sqnr: Of the logits, dB.
    """

    divergence: float
    same: float
    perplexity: float
    sqnr: float


def closeness(
    model: Callable[[Tensor], Tensor], reference: Callable[[Tensor], Tensor], windows: Iterable[Tensor]
) -> Closeness:
    """Of ``model``, which takes token numbers [1, tokens] to logits, beside ``reference`` over all windows [tokens]."""
    sums, positions, guesses = torch.zeros(5, dtype=torch.float64), 0, 0
    with torch.inference_mode():
        for window in windows:
            expected, found = (f(window[None])[0].double() for f in (reference, model))
            theirs, ours = expected.log_softmax(-1), found.log_softmax(-1)
            sums[0] += (theirs.exp() * (theirs - ours)).sum()
            sums[1] += (expected.argmax(-1) == found.argmax(-1)).sum()
            sums[2] -= ours[:-1].gather(1, window[1:, None]).sum()
            sums[3] += expected.square().sum()
            sums[4] += (found - expected).square().sum()
            positions, guesses = positions + len(window), guesses + len(window) - 1
    sqnr = 10 * torch.log10(sums[3] / sums[4])
    return Closeness(
        float(sums[0] / positions), float(sums[1] / positions), float((sums[2] / guesses).exp()), float(sqnr)
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ways", nargs="*", default=USUAL, help=f"of {', '.join(map(repr, WAYS))}")
    parser.add_argument("--steps", action="store_true", help="the time of each kind of step, too")
    options = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    qfx.set_num_threads(1)
    windows = decoder_models.windows(decoder_models.EVALUATED, photos.EVALUATION_SEED)
    models = {}
    header("decoder", "way", "KL divergence", "same top token", "perplexity", "SQNR dB", "quantized in s")
    for name in decoder_models.NAMES:
        net = decoder_models.load(name)
        for way in options.ways:
            began = time.perf_counter()
            model = models[name, way] = WAYS[way](net)
            spent, close = time.perf_counter() - began, closeness(model, net, windows)
            figures = f"{close.divergence:.4f}", f"{close.same:.4f}", f"{close.perplexity:.2f}", f"{close.sqnr:.1f}"
            row(name, way, *figures, f"{spent:.0f}")
    for (name, way), model in models.items():
        print(f"\n{name}, {way}", *describe(model), "", sep="\n", flush=True)
        if options.steps:
            print_steps(steps(model, (windows[:1],)))


if __name__ == "__main__":
    main()
