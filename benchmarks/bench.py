"""Latency of qfx beside its peers: ``python -m benchmarks.bench [model ...] [--batches 1,16] [--threads 1,2]``.

Prints milliseconds and, for each int8 peer, qfx's time over the peer's (below 1: qfx is faster). Ratios hold within
one cell of one run; nothing here compares machines. ``--without-qfx`` times the peers alone.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from pathlib import Path

import torch
from torch import nn

from benchmarks import peers, photos, zoo
from benchmarks.report import header, machine, row
from benchmarks.timing import Cell, Contender, interleaved

DEFAULT = ("resnet18", "resnet50", "mobilenet_v2", "efficientnet_lite0")
OURS = "qfx"
THREADS = min(2, os.cpu_count() or 1)


def qfx_contender(model: nn.Module) -> Contender:
    """The network quantized by qfx with its defaults on the calibration crops."""
    import qfx

    qmodel = qfx.quantize_fx(model, {"": qfx.get_default_qconfig()}, calibration=photos.calibration())

    def prepare(threads: int) -> None:
        torch.set_num_threads(threads)
        qfx.set_num_threads(threads)

    return Contender(qmodel, prepare)


def starts(name: str, chosen: list[str], *, with_qfx: bool) -> dict[str, peers.Start]:
    """Quantizes the network for every contender."""
    model, built = zoo.plain(zoo.load(name)), {}
    if with_qfx:
        ours = qfx_contender(model)
        built[OURS] = lambda _threads: ours
    for peer in chosen:
        begin = time.perf_counter()
        built[peer] = peers.TABLE[peer](model, name)
        print(f"  {name}: {peer} ready after {time.perf_counter() - begin:.1f} s", file=sys.stderr, flush=True)
    return built


def print_cell(name: str, batch: int, threads: int, cell: Cell) -> None:
    """Table rows of one cell; the ratio column is filled where qfx took part."""
    ours = cell.samples.get(OURS)
    for contender, sample in cell.samples.items():
        ratio = f"{ours.median / sample.median:.2f}" if ours and contender != OURS else ""
        spread = f"{sample.p10:.2f}-{sample.p90:.2f}"
        row(name, batch, threads, contender, f"{sample.median:.3f}", spread, ratio, f"{cell.foreign:.2f}")


def verdict(cells: dict[tuple[str, int, int], Cell]) -> list[str]:
    """One line a cell: qfx against the fastest int8 peer."""
    lines = []
    for (name, batch, threads), cell in cells.items():
        rivals = {peer: s.median for peer, s in cell.samples.items() if peer != OURS and "fp32" not in peer}
        if OURS not in cell.samples or not rivals:
            continue
        best = min(rivals, key=rivals.__getitem__)
        ratio = cell.samples[OURS].median / rivals[best]
        word = "faster" if ratio < 1 else "SLOWER"
        lines.append(f"{name:20s} batch {batch:2d} threads {threads}: {ratio:.2f} of {best} ({word})")
    return lines


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "models", nargs="*", default=DEFAULT, help=f"of {', '.join(zoo.NAMES)}; default {' '.join(DEFAULT)}"
    )
    parser.add_argument("--batches", default="1,16")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--peers", default=",".join(peers.TABLE), help="those not installed are skipped")
    parser.add_argument("--seconds", type=float, default=1.5, help="time for each contender in each cell")
    parser.add_argument("--without-qfx", action="store_true")
    parser.add_argument("--json", type=Path, default=peers.CACHE / "bench.json")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    logging.disable(logging.WARNING)
    chosen = [peer for peer in options.peers.split(",") if peers.available(peer)]
    header("model", "batch", "threads", "", "median ms", "p10-p90", "qfx / it", "other processes")
    cells: dict[tuple[str, int, int], Cell] = {}
    for name in options.models:
        built = starts(name, chosen, with_qfx=not options.without_qfx)
        for batch in map(int, options.batches.split(",")):
            images = photos.crops(batch, photos.TIMING_SEED)
            for threads in map(int, options.threads.split(",")):
                contenders = {label: start(threads) for label, start in built.items()}
                cell = interleaved(contenders, images, threads, seconds=options.seconds)
                cells[name, batch, threads] = cell
                print_cell(name, batch, threads, cell)
    print("\n" + "\n".join(verdict(cells)))
    record(options.json, cells)


def record(path: Path, cells: dict[tuple[str, int, int], Cell]) -> None:
    rows = [
        {"model": name, "batch": batch, "threads": threads, "contender": label, "foreign": cell.foreign, **vars(sample)}
        for (name, batch, threads), cell in cells.items()
        for label, sample in cell.samples.items()
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine(), "cells": rows}, indent=1))


if __name__ == "__main__":
    main()
