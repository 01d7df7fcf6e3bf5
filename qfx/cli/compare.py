"""``qfx compare``: where a quantized file differs from its float model."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from itertools import islice
from typing import Any

from qfx.cli.facts import Facts
from qfx.cli.options import DATA_HELP, FILE_HELP, MODEL_HELP, add_batches, add_json
from qfx.cli.parser import positive


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("model", metavar="MODEL", help=f"the float model: {MODEL_HELP}")
    parser.add_argument("file", metavar="FILE", help=FILE_HELP)
    parser.add_argument("--data", metavar="DATA", required=True, help=DATA_HELP)
    parser.add_argument("--batches", metavar="N", type=positive, default=8, help="how many batches (default 8)")
    parser.add_argument("--worst", metavar="N", type=positive, help="show only the N worst nodes, worst first")
    add_batches(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> Facts:
    """Run the command."""
    from qfx.cli.conversion import preprocessing
    from qfx.cli.data import load_batches
    from qfx.cli.model import input_names, load_float, load_quantized
    from qfx.comparison import Comparison, compare

    float_model, model = load_float(options.model), load_quantized(options.file)
    images = preprocessing(options.image_size, options.mean, options.std)
    batches = load_batches(options.data, input_names(model), options.batch_size, images)
    found = compare(float_model.capture, model, islice(batches, options.batches))
    worst = sorted(found, key=_badness)
    shown = Comparison(worst[: options.worst]) if options.worst else found
    last = [r for r in worst[:1] if r.total is not None and options.worst is None]
    note = f"\nworst: {last[0].name} ({last[0].module_path or 'root'}), {last[0].total.sqnr:.1f} dB" if last else ""  # type: ignore[union-attr]
    return Facts(f"{shown}{note}", {"nodes": [_record(r) for r in shown], "worst": [r.name for r in worst[:10]]})


def _badness(record: Any) -> float:
    return record.total.sqnr if record.total is not None else float("inf")


def _record(record: Any) -> dict[str, Any]:
    row = asdict(record)
    return {**row, "qparams": str(record.qparams) if record.qparams is not None else None}
