"""Every figure of the runtime: ``python -m benchmarks.bench [network ...] [--parts rows,threads,...]``.

Networks that are not named are the convolutional ones and the perceptron; the word ``encoders`` names every encoder.

``rows``: latency of qfx beside its peers for every network, batch size and number of threads, our time over the best
    peer's, and at one thread the share of the CPU's peak (for the perceptron: of its read bandwidth).
``threads``: two threads over one.   ``avx2``: the AVX2 level against torch's float kernels and OpenVINO at AVX2.
``neighbours``: qfx right after a parallel operation of torch's in the same process, and the other way round.
``selection``: the picked kernel against the fastest one, over the layer shapes of the networks.

Each contender is a process of its own, and they take turns (see ``benchmarks.contest``). Ratios hold within one cell of
one run; nothing here compares machines. What a peer can't do is listed as n/a with the reason.
The other parts are about the convolutional networks; of encoders there are rows only.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import contenders, selection, targets, workloads
from benchmarks.contenders import OURS, OURS_DYNAMIC
from benchmarks.contest import Cell, ContenderError, Contest, Entrant, Process
from benchmarks.report import header, machine, row
from benchmarks.targets import Verdict

THREADS = min(2, os.cpu_count() or 1)
ENCODERS = "encoders"
KNOWN = (*workloads.NAMES, *workloads.ENCODERS)
Cells = dict[tuple[str, int, int], Cell]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = f"of {', '.join(KNOWN)}, or {ENCODERS}; default {', '.join(workloads.NAMES)}"
    parser.add_argument("networks", nargs="*", default=list(workloads.NAMES), help=known)
    parser.add_argument("--parts", default=",".join(PARTS), help="default %(default)s")
    parser.add_argument("--batches", default="", help="default 1,16; of encoders 1,8")
    parser.add_argument("--threads", default=",".join(map(str, range(1, THREADS + 1))))
    usual = f"default {','.join(contenders.QUANTIZED)}; of encoders {','.join(contenders.ENCODING)}"
    parser.add_argument("--contenders", default="", help=usual)
    parser.add_argument("--seconds", type=float, default=0.5, help="of a turn, default %(default)s")
    parser.add_argument("--rounds", type=int, default=4, help="turns of each contender, default %(default)s")
    parser.add_argument("--json", type=Path, default=Path(".cache/bench.json"), help="default %(default)s")
    options = parser.parse_args(arguments)
    for name in ("parts", "contenders"):
        setattr(options, name, [item for item in getattr(options, name).split(",") if item])
    named = [workloads.ENCODERS if item == ENCODERS else (item,) for item in options.networks]
    options.networks = list(itertools.chain.from_iterable(named))
    for name, known in (("parts", PARTS), ("contenders", contenders.TABLE), ("networks", KNOWN)):
        unknown = [item for item in getattr(options, name) if item not in known]
        if unknown:
            parser.error(f"{name}: no {', '.join(map(repr, unknown))} among {', '.join(known)}")
    for name in ("batches", "threads"):
        setattr(options, name, [int(item) for item in getattr(options, name).split(",") if item])
    return options


def _families(options: argparse.Namespace) -> Iterator[tuple[list[str], tuple[str, ...], list[int]]]:
    """The chosen networks by kind, each kind with who is measured on it and at which batch sizes."""
    for encoders, batches in ((False, [1, 16]), (True, [1, 8])):
        networks = [network for network in options.networks if (network in workloads.ENCODERS) is encoders]
        if networks:
            yield networks, tuple(options.contenders) or contenders.usual(networks[0]), options.batches or batches


def say(text: str) -> None:
    """Progress, apart from the tables."""
    print(f"  {time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


# ------------------------------------------------------------------ rows


def measure_rows(options: argparse.Namespace) -> Cells:
    """Every cell, printed as soon as it is there: a table for each kind of network."""
    cells: Cells = {}
    for networks, labels, batches in _families(options):
        row("network", "batch", "threads", *labels, "others' CPU")
        row(*("---" for _ in range(len(labels) + 4)))
        for network in networks:
            with Contest({name: Entrant(name) for name in labels}) as contest:
                macs = _multiply_accumulates(contest, network)
                for batch, threads in itertools.product(batches, options.threads):
                    say(f"{network}, batch {batch}, threads {threads}")
                    cell = _measure_row(contest, network, batch, threads, macs, options)
                    cells[network, batch, threads] = cell
                    _print_cell(cell, network, batch, threads, labels)
        print()
    _print_absent(cells)
    return cells


def _print_absent(cells: Cells) -> None:
    """Who did not run, why, and where: one line a contender and reason."""
    where: dict[tuple[str, str], list[str]] = {}
    for (network, batch, threads), cell in cells.items():
        for name, reason in cell.absent.items():
            where.setdefault((name, reason), []).append(f"{network} {batch}/{threads}")
    for (name, reason), places in where.items():
        print(f"n/a: {name}: {reason} ({', '.join(places)})")


def _measure_row(
    contest: Contest, network: str, batch: int, threads: int, macs: int, options: argparse.Namespace
) -> Cell:
    # A multiply-accumulate of the perceptron reads one byte of weights.
    request = {"threads": threads, "read_bytes": macs if network == workloads.MLP else 1}

    def peaks(processes: Mapping[str, Process]) -> dict[str, Any] | None:
        try:
            return {"macs": macs, **processes[OURS].ask("peaks", **request)} if macs else None
        except ContenderError:
            return None

    return contest.cell(network, batch, threads, seconds=options.seconds, rounds=options.rounds, aside=peaks)


def _multiply_accumulates(contest: Contest, network: str) -> int:
    """For one sample; 0 where qfx does not take part."""
    if OURS not in contest.processes:
        return 0
    return int(contest.processes[OURS].ask("macs", network=network)["macs"])


def _print_cell(cell: Cell, network: str, batch: int, threads: int, labels: Sequence[str]) -> None:
    times = [f"{cell.samples[label].median:.3f}" if label in cell.samples else "n/a" for label in labels]
    row(network, batch, threads, *times, f"{max((s.foreign for s in cell.samples.values()), default=0):.2f}")


def judge_rows(cells: Cells) -> Iterator[Verdict]:
    """Every row against its best peer, their mean a kind, and the shares of what the machine can do."""
    kinds = {kind: {key: cell for key, cell in cells.items() if _kind(key[0]) == kind} for kind in ("", ENCODERS)}
    static = {kind: [_against_peers(*key, cell, OURS) for key, cell in found.items()] for kind, found in kinds.items()}
    for rows in static.values():
        yield from rows
    for (network, batch, threads), cell in kinds[ENCODERS].items():
        if OURS_DYNAMIC in cell.samples:
            yield _against_peers(network, batch, threads, cell, OURS_DYNAMIC)
    for kind, bound in (("", targets.OVERALL), (ENCODERS, targets.ENCODERS_OVERALL)):
        if static[kind]:
            yield targets.overall(static[kind], bound, kind)
    for key, cell in cells.items():
        yield from _shares(*key, cell)


def _kind(network: str) -> str:
    return ENCODERS if network in workloads.ENCODERS else ""


def _against_peers(network: str, batch: int, threads: int, cell: Cell, ours: str) -> Verdict:
    """One of ours over the best peer: another of ours is none."""
    samples = {name: sample for name, sample in cell.samples.items() if name == ours or name not in contenders.OWN}
    what = (
        f"{network}, batch {batch}, threads {threads}: time{'' if ours == OURS else f' of {ours}'} over the best peer's"
    )
    bound = targets.row_target(network, batch) if ours == OURS else targets.ENCODER_DYNAMIC
    return targets.against_best(what, samples, ours, bound)


def _shares(network: str, batch: int, threads: int, cell: Cell) -> Iterator[Verdict]:
    found = [aside for aside in cell.asides if aside]
    if OURS not in cell.samples or not found:
        return
    seconds = 1e-3 * cell.samples[OURS].median
    if network == workloads.MLP and batch == 1:
        rate, read = found[0]["macs"] / seconds * 1e-9, statistics.median(peak["read_gbs"] for peak in found)
        what = f"{network}, batch 1, threads {threads}: share of the read bandwidth"
        detail = f"{rate:.1f} of {read:.1f} GB/s over {found[0]['read_bytes'] / 1e6:.1f} MB"
        yield Verdict(what, rate / read, targets.SHARE_OF_BANDWIDTH, at_most=False, detail=detail)
    elif threads == 1:
        rate, peak = batch * found[0]["macs"] / seconds * 1e-9, statistics.median(peak["gmacs"] for peak in found)
        what = f"{network}, batch {batch}, threads 1: share of the {found[0]['isa']} peak"
        bound = targets.SHARE_OF_PEAK.get(network) if batch == 1 else None
        yield Verdict(what, rate / peak, bound, at_most=False, detail=f"{rate:.1f} of {peak:.1f} GMAC/s")


def rows(options: argparse.Namespace) -> tuple[list[Verdict], list[dict[str, Any]]]:
    cells = measure_rows(options)
    records = [
        {"network": network, "batch": batch, "threads": threads, **asdict(cell)}
        for (network, batch, threads), cell in cells.items()
    ]
    return list(judge_rows(cells)), records


# ------------------------------------------------------------------ other parts


def _pair(
    options: argparse.Namespace, network: str, threads: int, entrants: Mapping[str, Entrant]
) -> tuple[Cell, dict[str, Any]]:
    say(f"{network}, batch 1: {' and '.join(entrants)}")
    with Contest(entrants) as contest:
        cell = contest.cell(network, 1, threads, seconds=options.seconds, rounds=2 * options.rounds)
    return cell, {"network": network, "batch": 1, "threads": threads, **asdict(cell)}


def two_threads(options: argparse.Namespace) -> tuple[list[Verdict], list[dict[str, Any]]]:
    verdicts, records = [], []
    for network in _chosen(options, targets.TWO_THREADS):
        cell, record = _pair(options, network, 1, {"1": Entrant(OURS, threads=1), "2": Entrant(OURS, threads=2)})
        records.append(record)
        what, bound = f"{network}, batch 1: one thread's time over two threads'", targets.TWO_THREADS[network]
        if cell.absent:
            verdicts.append(Verdict(what, None, bound, at_most=False, detail="; ".join(cell.absent.values())))
            continue
        one, two = cell.samples["1"].median, cell.samples["2"].median
        verdicts.append(Verdict(what, one / two, bound, at_most=False, detail=f"{one:.3f} ms, {two:.3f} ms"))
    return verdicts, records


def avx2(options: argparse.Namespace) -> tuple[list[Verdict], list[dict[str, Any]]]:
    """torch's own switch holds back its own kernels only: its convolutions are oneDNN's, which has another, and
    OpenVINO's are too."""
    limited, onednn = {"ATEN_CPU_CAPABILITY": "avx2"}, {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    verdicts, records = [], []
    for network in _chosen(options, targets.AVX2):
        for threads in options.threads:
            ours, as_asked, throughout = "qfx avx2", "torch fp32, ATen at AVX2", "torch fp32, ATen and oneDNN at AVX2"
            openvino = "openvino int8, oneDNN at AVX2"
            entrants = {
                ours: Entrant(OURS, {"QFX_ISA": "avx2"}),
                as_asked: Entrant("torch fp32", limited),
                throughout: Entrant("torch fp32", {**limited, **onednn}),
                openvino: Entrant("openvino int8", onednn),
            }
            cell, record = _pair(options, network, threads, entrants)
            records.append(record)
            bounds = {as_asked: targets.AVX2[network], throughout: None, openvino: targets.OPENVINO_AT_AVX2[network]}
            for label, bound in bounds.items():
                pair = {name: sample for name, sample in cell.samples.items() if name in (ours, label)}
                what = f"{network}, batch 1, threads {threads}: {ours} over {label}"
                verdicts.append(targets.against_best(what, pair, ours, bound))
    return verdicts, records


def neighbours(options: argparse.Namespace) -> tuple[list[Verdict], list[dict[str, Any]]]:
    verdicts, records = [], []
    for network in _chosen(options, targets.TWO_THREADS):
        say(f"{network}: qfx and torch in one process")
        process = Process(OURS)
        try:
            process.ask("load", network=network, batch=1, threads=THREADS)
            taken = [process.ask("beside_torch", seconds=options.seconds) for _ in range(2 * options.rounds)]
        finally:
            process.close()
        medians = {what: statistics.median([t for turn in taken for t in turn[what]]) for what in taken[0]}
        records.append({"network": network, "threads": THREADS, "medians": medians})
        bounds = {"ours after torch": "ours", "torch after ours": "torch", "torch after product": "torch"}
        for after, alone in bounds.items():
            bound = targets.NEIGHBOURS if "ours" in after else None
            what = f"{network}, batch 1, threads {THREADS}: {after}, over undisturbed"
            detail = f"{medians[after]:.3f} ms, {medians[alone]:.3f} ms"
            verdicts.append(Verdict(what, medians[after] / medians[alone], bound, detail=detail))
    return verdicts, records


def kernel_selection(options: argparse.Namespace) -> tuple[list[Verdict], list[dict[str, Any]]]:
    if not selection.BINARY.exists():
        return [Verdict("kernel selection", None, targets.SELECTION, detail=f"{selection.BINARY} is not built")], []
    layers: set[selection.Shape] = set()
    for network in options.networks:
        layers |= selection.shapes(workloads.workload(network), 1)
    say(f"kernel selection over {len(layers)} layer shapes")
    found = sorted(selection.choices(layers), key=lambda choice: -choice.ratio)
    worst = found[0]
    over = [choice for choice in found if choice.ratio > targets.SELECTION]
    for choice in over:
        times = f"{choice.picked} {choice.picked_us:.1f} us, {choice.best} {choice.best_us:.1f} us"
        print(f"selection, {choice.shape}: {times}")
    detail = f"{len(over)} of {len(found)} shapes beyond it; worst {worst.shape}: {worst.picked}, best {worst.best}"
    verdict = Verdict(
        "picked kernel's time over the best candidate's, worst", worst.ratio, targets.SELECTION, detail=detail
    )
    return [verdict], [asdict(choice) for choice in found]


def _chosen(options: argparse.Namespace, among: Mapping[str, float]) -> list[str]:
    return [network for network in among if network in options.networks]


PARTS = {
    "rows": rows,
    "threads": two_threads,
    "avx2": avx2,
    "neighbours": neighbours,
    "selection": kernel_selection,
}


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    header()
    verdicts: list[Verdict] = []
    records: dict[str, Any] = {"machine": machine()}
    for part in options.parts:
        found, records[part] = PARTS[part](options)
        verdicts += found
        records["verdicts"] = [{**asdict(verdict), "met": verdict.met} for verdict in verdicts]
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(records, indent=1))
    print()
    row("", "figure", "target", "met", "")
    row(*("---" for _ in range(5)))
    for verdict in verdicts:
        row(*verdict.cells())


if __name__ == "__main__":
    main()
