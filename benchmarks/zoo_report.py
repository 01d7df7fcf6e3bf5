"""Every network in int8 against its own definition: ``python -m benchmarks.zoo_report [model ...]``.

The QDQ graph defines the int8 model. In floats it bounds the accuracy: the SQNR of the int8 logits should be its SQNR.
In integers it fixes every bit: each int8 value that a program computes is compared with the interpreter's, on every
instruction set of this CPU, with one and two threads, for batches of one and seven and crops of two sizes.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

import qfx
from benchmarks import photos, zoo
from benchmarks.metrics import outputs, sqnr
from benchmarks.report import header, row
from qfx.lowering.compile import compile_int8
from qfx.lowering.compiled import Compiled, fetch_codes
from qfx.lowering.interpreter import IntegerRun, interpret_integers
from qfx.models import QuantizedModel
from qfx.runtime import isa_names

SIZES = {1: 224, 7: 96}  # of the crops, by the batch size; large batches of large crops take minutes
THREADS = (1, 2)
EXACTNESS_SEED = 5


@dataclass(frozen=True)
class Comparison:
    """A program's results beside the interpreter's.

    Attributes:
        compared: How many integers.
        mismatches: How many of them differ, by the name of their quantize node; only nodes with any.
        same_output: Whether what the model returns is the same bit for bit.
    """

    compared: int
    mismatches: dict[str, int]
    same_output: bool


def quantize(model: nn.Module) -> QuantizedModel:
    """``model`` in int8, calibrated with 16 crops."""
    return qfx.quantize_fx(model, {"": qfx.get_default_qconfig()}, calibration=photos.calibration(16))


def signal_to_noise(model: nn.Module, quantized: QuantizedModel, count: int = 64) -> tuple[float, float]:
    """SQNR in dB of the int8 runtime and of the QDQ graph in floats, over the logits of ``count`` evaluation crops.

    The two round differently, which moves either by about 0.2 dB on 8 crops, up or down; hence many.
    """
    batches = photos.evaluation(count, batch=4)
    given = [(batch,) for batch in batches]
    reference = outputs(model, given)
    return sqnr(reference, outputs(quantized, given)), sqnr(reference, outputs(quantized.run_graph, given))


def interpret(quantized: QuantizedModel, batch: int) -> tuple[torch.Tensor, IntegerRun]:
    """The input for :func:`compare`, float32 [batch, 3, size, size], and the interpreter's results for it."""
    x = photos.crops(batch, EXACTNESS_SEED, SIZES[batch])
    return x, interpret_integers(quantized.graph_module(), (x,))


def compare(program: Compiled, x: torch.Tensor, want: IntegerRun, threads: int) -> Comparison:
    """Every int8 value that ``program`` computes from ``x`` with ``threads`` threads, against ``want``."""
    before = qfx.get_num_threads()
    qfx.set_num_threads(threads)
    try:
        got, output = fetch_codes(program, (x,)), program.run((x,))
    finally:
        qfx.set_num_threads(before)
    differing = {name: int((codes != want.codes[name]).sum()) for name, codes in got.items()}
    return Comparison(
        compared=sum(codes.numel() for codes in got.values()),
        mismatches={name: count for name, count in differing.items() if count},
        same_output=_same(output, want.output),
    )


def _same(one: Any, other: Any) -> bool:
    """Whether two results are of one structure, and every tensor in them the same bit for bit."""
    (left, made), (right, expected) = pytree.tree_flatten(one), pytree.tree_flatten(other)
    return made == expected and all(map(torch.equal, left, right))


def comparisons(quantized: QuantizedModel) -> Iterator[Comparison]:
    """One for each instruction set, thread count and batch size."""
    interpreted = [interpret(quantized, batch) for batch in SIZES]
    for isa in isa_names():
        program = compile_int8(quantized.compiled.root, isa)
        for threads, (x, want) in itertools.product(THREADS, interpreted):
            yield compare(program, x, want, threads)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=zoo.NAMES, help=f"of {', '.join(zoo.NAMES)}")
    options = parser.parse_args(arguments)
    header("model", "nodes", "int8", "SQNR int8, dB", "SQNR QDQ, dB", "integers compared", "mismatches")
    for name in options.models:
        model = zoo.load(name)
        quantized = quantize(model)
        nodes, in_int8 = len(quantized.report), len(quantized.report.decided("int8"))
        ours, bound = signal_to_noise(model, quantized)
        results = list(comparisons(quantized))
        compared = sum(result.compared for result in results)
        wrong = sum(sum(result.mismatches.values()) for result in results)
        row(name, nodes, f"{in_int8 / nodes:.0%}", f"{ours:.2f}", f"{bound:.2f}", f"{compared:,}", wrong)


if __name__ == "__main__":
    main()
