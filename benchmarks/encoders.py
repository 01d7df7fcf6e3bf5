"""Encoders in int8, how close and where the time goes: ``python -m benchmarks.encoders [encoder ...] [--steps]``.

First the outputs' cosine with float, a sample at a time: of MiniLM and MPNet over sentences new to calibration, of the
others, whose weights are random, over a few samples. Then what qfx makes of each: programs, what torch runs between
them, nodes that stay float, and with ``--steps`` the time of each kind of step on one thread.
"""

from __future__ import annotations

import argparse
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator

import torch

import qfx
from benchmarks import contenders, encoder_models, photos, sentences, workloads
from benchmarks.metrics import cosines, outputs, sqnr
from benchmarks.report import header, row
from benchmarks.workloads import Tensors, Workload, workload
from qfx.models import QuantizedModel
from qfx.runtime import StepRecord

FEW = 4  # samples of an encoder with random weights


def evaluation(given: Workload) -> list[Tensors]:
    """Single samples that calibration has not seen."""
    count = sentences.EVALUATED if given.name in encoder_models.PRETRAINED else FEW
    samples = given.samples(count, photos.EVALUATION_SEED)
    return list(zip(*(tensor.split(1) for tensor in samples), strict=True))


def print_accuracy(names: list[str], chosen: list[str]) -> None:
    """A row a network and contender."""
    header("encoder", "", "samples", "cosine, mean", "least", "SQNR dB")
    for network in names:
        given = workload(network)
        batches = evaluation(given)
        reference = outputs(given.load(), batches)
        for name in chosen:
            with torch.inference_mode():
                other = outputs(contenders.TABLE[name].load(given, 1, torch.get_num_threads()), batches)
            close = cosines(reference, other)
            figures = f"{float(close.mean()):.5f}", f"{float(close.min()):.5f}", f"{sqnr(reference, other):.1f}"
            row(network, name, len(batches), *figures)


def describe(model: QuantizedModel) -> Iterator[str]:
    """Lines: the programs and what torch runs between them, then what stays float by the reason."""
    for part in model.compiled.segments:
        nodes = [node.name for node in part.segment.nodes]
        yield f"in torch: {', '.join(nodes)}" if part.executable is None else f"program of {len(nodes)} nodes"
    kinds = Counter(record.decision for record in model.report)
    yield ", ".join(f"{count} nodes {kind}" for kind, count in kinds.most_common())
    reasons: dict[str, list[str]] = defaultdict(list)
    for record in model.report.decided("float"):
        reasons[record.reason].append(record.op)
    for reason, ops in reasons.items():
        yield f"float, {reason}: {', '.join(f'{op} {count}' for op, count in Counter(ops).most_common())}"


def steps(model: QuantizedModel, inputs: Tensors, repeats: int = 5) -> list[StepRecord]:
    """Every step of every program with its time."""
    plans = model.profile(*inputs, repeats=repeats).parts
    return [step for plan in plans if not isinstance(plan, tuple) for step in plan.steps]


def print_steps(found: list[StepRecord]) -> None:
    """A row a kind of step: how many, their time, its share, and what their products reach of the CPU's peak."""
    total = sum(step.microseconds or 0.0 for step in found)
    kinds: dict[str, list[StepRecord]] = defaultdict(list)
    for step in found:
        kinds[step.op].append(step)
    row("step", "count", "us", "share", "GMAC/s")
    row(*("---" for _ in range(5)))
    for op, taken in sorted(kinds.items(), key=lambda item: -sum(step.microseconds or 0.0 for step in item[1])):
        spent, macs = sum(step.microseconds or 0.0 for step in taken), sum(step.macs for step in taken)
        rate = f"{1e-3 * macs / spent:.0f}" if macs and spent else ""
        row(op, len(taken), f"{spent:.0f}", f"{spent / total:.0%}", rate)
    row("all", len(found), f"{total:.0f}", "", "")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoders", nargs="*", default=workloads.ENCODERS, help=f"of {', '.join(workloads.ENCODERS)}")
    parser.add_argument("--contenders", default=",".join(n for n in contenders.ENCODING if n != "torch fp32"))
    parser.add_argument("--steps", action="store_true", help="the time of each kind of step, too")
    options = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    qfx.set_num_threads(1)
    chosen = [name for name in options.contenders.split(",") if not contenders.missing(name)]
    print_accuracy(options.encoders, chosen)
    for network in options.encoders:
        for name in (name for name in chosen if name in contenders.OWN):
            model = contenders.quantized(name, network)
            print(f"\n{network}, {name}", *describe(model), "", sep="\n", flush=True)
            if options.steps:
                print_steps(steps(model, workload(network).inputs(1)))


if __name__ == "__main__":
    main()
