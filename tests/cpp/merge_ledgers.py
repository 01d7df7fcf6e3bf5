"""Prints one table from the ledgers of several runs of the C++ tests: python merge_ledgers.py DIRECTORY.

Each file DIRECTORY/<run>.tsv has lines of a kernel, its level, and what it ran on: hardware, emulator, model, nowhere.
"""

from __future__ import annotations

import sys
from pathlib import Path

NOWHERE = "nowhere"
PLACES = ("hardware", "emulator", "model")  # from the best proof to the least


def read(path: Path) -> dict[tuple[str, str], str]:
    """(kernel, level) -> place."""
    rows = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines())
    return {(kernel, level): place for kernel, level, place in rows}


def merge(ledgers: dict[str, dict[tuple[str, str], str]]) -> dict[tuple[str, str], dict[str, list[str]]]:
    """(kernel, level) -> the runs on each place, in the order of the first ledger."""
    merged: dict[tuple[str, str], dict[str, list[str]]] = {}
    for run, ledger in ledgers.items():
        for key, place in ledger.items():
            runs = merged.setdefault(key, {})
            if place != NOWHERE:
                runs.setdefault(place, []).append(run)
    return merged


def shown(runs: dict[str, list[str]]) -> str:
    """'hardware; emulator (cortex-a76, max)': emulated runs by name."""
    places = sorted(runs, key=PLACES.index)
    return "; ".join(f"{p} ({', '.join(runs[p])})" if p == "emulator" else p for p in places) or NOWHERE


def table(merged: dict[tuple[str, str], dict[str, list[str]]]) -> str:
    rows = [("kernel", "level", "ran on"), *((*key, shown(runs)) for key, runs in merged.items())]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    lines = [f"{row[0]:{widths[0]}}  {row[1]:{widths[1]}}  {row[2]}" for row in rows]
    counts = [f"{sum(place in runs for runs in merged.values())} on {place}" for place in PLACES]
    nowhere = sum(not runs for runs in merged.values())
    return "\n".join([*lines, f"{len(merged)} kernels: {', '.join(counts)}, {nowhere} {NOWHERE}"])


def main(directory: Path) -> int:
    ledgers = {path.stem: read(path) for path in sorted(directory.glob("*.tsv"))}
    if not ledgers:
        print(f"no ledgers in {directory}: make emulate writes them", file=sys.stderr)
        return 1
    print(table(merge(ledgers)))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
