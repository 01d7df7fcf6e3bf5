"""Texts of every length by rows, beside float of torch: ``python -m benchmarks.lengths [encoder ...] [--threads 1]``.

One text a call; both run in one process and take turns, at as many threads. Medians of calls, and our time over that of
float.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import contenders
from benchmarks.report import header, row
from benchmarks.workloads import workload

ENCODERS = ("minilm", "bert_base")
LENGTHS = (1, 2, 3, 5, 8, 16, 31, 64, 128, 256, 512)


def of_length(inputs: tuple[Tensor, ...], length: int) -> list[Tensor]:
    """Inputs ``[1, any]``, over and over up to a length."""
    return [x.repeat(1, -(-length // x.shape[1]))[:, :length].contiguous() for x in inputs]


def milliseconds(nets: tuple[nn.Module, ...], inputs: list[Tensor], seconds: float) -> list[float]:
    """The median of each network's calls, which take turns."""
    times: list[list[float]] = [[] for _ in nets]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 5:
        for net, own in zip(nets, times, strict=True):
            start = time.perf_counter()
            net(*inputs)
            own.append(time.perf_counter() - start)
    return [statistics.median(own[1:]) * 1e3 for own in times]


@torch.no_grad()
def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoders", nargs="*", default=list(ENCODERS), help="default %(default)s")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a length, default %(default)s")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    header("encoder", "length", "qfx dynamic ms", "torch float ms", "over float")
    for name in options.encoders:
        given: Any = workload(name)
        nets = contenders.quantized(contenders.OURS_DYNAMIC, name), given.load()
        for length in LENGTHS:
            ours, floats = milliseconds(nets, of_length(given.inputs(1), length), options.seconds)
            row(name, length, f"{ours:.2f}", f"{floats:.2f}", f"{ours / floats:.2f}")


if __name__ == "__main__":
    main()
