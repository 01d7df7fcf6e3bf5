"""Attention alone: ``python -m benchmarks.attention [--isa avx2] [--threads 1]`` prints a line a shape.

Time of the step on [batch, rows, heads, columns] as linear layers write it, and its multiply-accumulates, those of both
products, against the CPU's peak, measured in turn with it. Medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np

from benchmarks.report import header, row
from qfx.ops.attention.integer import exponent_factor
from qfx.runtime import Executable, ProgramBuilder, peaks, set_num_threads, steps
from qfx.runtime.writing import write

SHAPES = ((12, 128, 32), (12, 128, 64), (12, 512, 64), (2, 1500, 64), (1, 4096, 64))
"""Heads, rows, columns."""
MASKS = ("none", "causal", "full", "padding")
"""Full: a number for every query and key; padding: one row that hides the second half of the keys."""


def executable(heads: int, rows: int, columns: int, mask: str, isa: str | None) -> tuple[Executable, list[Any]]:
    """One attention step, and its inputs."""
    builder, random = ProgramBuilder(), np.random.default_rng(0)
    inputs = [random.normal(size=(1, rows, heads, columns)).astype(np.float32) for _ in range(3)]
    if mask == "full":
        inputs.append(random.normal(size=(1, heads, rows, rows)).astype(np.float32))
    if mask == "padding":
        hidden = np.finfo(np.float32).min
        inputs.append(np.where(np.arange(rows) < rows // 2, 0.0, hidden).astype(np.float32).reshape(1, 1, 1, rows))
    names = ("q", "k", "v", "mask")[: len(inputs)]
    values = [builder.value(name, "f32", list(x.shape)) for name, x in zip(names, inputs, strict=True)]
    perm = [0, 2, 1, 3]
    step = steps.attention(
        *values, factor=exponent_factor(columns**-0.5), causal=mask == "causal",
        q_perm=perm, k_perm=perm, v_perm=perm, perm=perm,
    )  # fmt: skip
    (made,) = write(builder, "attention", step, [1, rows, heads, columns], dtype="f32")
    return Executable(builder.build(values, [made]), isa), inputs


def measure(heads: int, rows: int, columns: int, mask: str, options: argparse.Namespace) -> tuple[float, float, float]:
    """Milliseconds, GMAC/s, and the share of the peak."""
    run, inputs = executable(heads, rows, columns, mask, options.isa)
    macs = 2 * heads * rows * rows * columns / (2 if mask in ("causal", "padding") else 1)
    seconds, shares = [], []
    for _ in range(options.rounds):
        peak = peaks(options.isa, options.threads).gmacs
        times = []
        for _ in range(options.calls):
            start = time.perf_counter()
            run(*inputs)
            times.append(time.perf_counter() - start)
        seconds.append(statistics.median(times))
        shares.append(macs / seconds[-1] * 1e-9 / peak)
    typical = statistics.median(seconds)
    return typical * 1e3, macs / typical * 1e-9, statistics.median(shares)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", default=None, help="the highest level; this CPU's by default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=20)
    options = parser.parse_args()
    set_num_threads(options.threads)
    header("heads", "rows", "columns", "mask", "ms", "GMAC/s", "of peak")
    for shape in SHAPES:
        for mask in MASKS:
            milliseconds, rate, share = measure(*shape, mask, options)
            row(*shape, mask, f"{milliseconds:.3f}", f"{rate:.1f}", f"{share:.0%}")


if __name__ == "__main__":
    main()
