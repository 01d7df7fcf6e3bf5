"""Other people's models in int8, one row each: ``python -m benchmarks.zoo_table [-o FILE] [--only NAME ...]``.

Each model runs in a process of its own with a time and a memory limit, so that one that crashes is a row and not the
end. The exit status is 1 when fewer models than ``--expect`` meet every requirement.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.report import machine
from benchmarks.zoo_models import table
from benchmarks.zoo_pool import Limits, Outcome, run_each

MEASURE, DEFINITIONS = "benchmarks.zoo_measure:measure_named", "benchmarks.zoo_definitions"
SHARE, TOLERANCE = 0.95, 0.5
COLUMNS = (
    "model", "source", "frontend", "nodes", "in torch", "MMAC", "int8 work", "SQNR int8, dB", "SQNR QDQ, dB",
    "difference", "programs", "exact", "quantize, s", "total, s",
)  # fmt: skip


def meets(outcome: Outcome) -> bool:
    """Whether the model is converted, does its work in int8, and is as close to the float model as its QDQ graph."""
    found = outcome.value
    if found is None:
        return False
    return found.int8_share >= SHARE and abs(found.sqnr_int8 - found.sqnr_qdq) <= TOLERANCE


def cells(outcome: Outcome, source: str) -> tuple[str, ...]:
    """One row of the table."""
    found = outcome.value
    if found is None:
        failed = (outcome.error or "").replace("|", "\\|")
        return (outcome.job, source, failed, *[""] * (len(COLUMNS) - 4), f"{outcome.seconds:.0f}")
    return (
        outcome.job, source, found.frontend, str(found.nodes), str(found.islands), f"{found.work / 1e6:.0f}",
        f"{found.int8_share:.1%}", f"{found.sqnr_int8:.2f}", f"{found.sqnr_qdq:.2f}",
        f"{found.sqnr_int8 - found.sqnr_qdq:+.2f}", str(found.programs), "yes" if found.exact else "no",
        f"{found.quantize_seconds:.1f}", f"{outcome.seconds:.0f}",
    )  # fmt: skip


def summary(outcomes: Sequence[Outcome]) -> str:
    """How many of the models pass each requirement."""
    found = [outcome.value for outcome in outcomes if outcome.value is not None]
    frontends = ", ".join(f"{count} {name}" for name, count in Counter(row.frontend for row in found).most_common())
    close = [row for row in found if abs(row.sqnr_int8 - row.sqnr_qdq) <= TOLERANCE]
    lines = (
        f"{len(outcomes)} models; captured and converted without an exception: {len(found)} ({frontends}).",
        f"At least {SHARE:.0%} of the work in int8: {sum(row.int8_share >= SHARE for row in found)}.",
        f"SQNR within {TOLERANCE} dB of the QDQ graph's: {len(close)}.",
        f"Every integer that of the integer interpreter: {sum(row.exact for row in found)}.",
        f"One program: {sum(row.programs == 1 and row.islands == 0 for row in found)}.",
        f"All of the first three: **{sum(map(meets, outcomes))}**.",
    )
    return "\n".join(f"- {line}" for line in lines)


def document(outcomes: Sequence[Outcome], sources: Mapping[str, str], command: str) -> str:
    """The table as a page of Markdown."""
    ordered = sorted(outcomes, key=lambda outcome: list(sources).index(outcome.job))
    rows = [COLUMNS, ("---",) * len(COLUMNS), *(cells(outcome, sources[outcome.job]) for outcome in ordered)]
    versions = ", ".join(f"{name} {_version(name)}" for name in ("torch", "timm", "transformers", "torchvision"))
    return "\n".join([
        "# Models in int8", "", f"Written by `{command}`.", "", summary(outcomes), "",
        "Random weights; batch norm statistics of photographs. *int8 work*: the share of the multiply-accumulates of "
        "convolutions, linear layers and matrix products, islands included, that int8 operations do. *SQNR*: outputs "
        "for 16 samples against those of the float model, of the int8 runtime and of the QDQ graph run in floats. "
        "*in torch*: operations that no program has. *exact*: every integer and the output of one sample are those of "
        "the integer interpreter.", "",
        f"{machine()['processor']}; {versions}; one thread a model.", "",
        *("| " + " | ".join(row) + " |" for row in rows), "",
    ])  # fmt: skip


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="write the table there instead of printing it")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="models, or packages that define them")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for one model")
    parser.add_argument("--memory", type=float, default=12.0, help="GiB for one model")
    parser.add_argument("--expect", type=int, default=0, help="how many models have to meet every requirement")
    options = parser.parse_args(arguments)
    sources = {entry.name: entry.source for entry in table().values()}
    unknown = set(options.only or ()) - set(sources) - set(sources.values())
    if unknown:
        parser.error(f"no model or package is named {', '.join(sorted(unknown))}")
    chosen = [n for n, source in sources.items() if options.only is None or {n, source} & set(options.only)]
    limits = Limits(options.timeout, int(options.memory * 2**30))
    outcomes = []
    for outcome in run_each(MEASURE, chosen, processes=options.jobs, limits=limits, preload=[DEFINITIONS]):
        outcomes.append(outcome)
        print(f"[{len(outcomes)}/{len(chosen)}]", *cells(outcome, sources[outcome.job]), file=sys.stderr, flush=True)
    given = list(sys.argv[1:] if arguments is None else arguments)
    page = document(outcomes, sources, shlex.join(["python", "-m", "benchmarks.zoo_table", *given]))
    if options.output is None:
        print(page)
    else:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(page)
    return int(sum(map(meets, outcomes)) < options.expect)


if __name__ == "__main__":
    sys.exit(main())
