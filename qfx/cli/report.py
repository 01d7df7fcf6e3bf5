"""``qfx report``: a page about a quantized model."""

from __future__ import annotations

import argparse
from itertools import islice

from qfx.cli.facts import Facts, size
from qfx.cli.options import DATA_HELP, FILE_HELP, MODEL_HELP, add_batches, add_json, add_output
from qfx.cli.parser import positive


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("file", metavar="FILE", help=FILE_HELP)
    add_output(parser, "the .html file to write")
    parser.add_argument("--float", metavar="MODEL", help=f"the float model, for the error of each node: {MODEL_HELP}")
    parser.add_argument("--data", metavar="DATA", help=f"what to measure on: {DATA_HELP}")
    parser.add_argument("--batches", metavar="N", type=positive, default=4, help="how many batches (default 4)")
    add_batches(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> Facts:
    """Run the command."""
    from qfx import write_report
    from qfx.cli.conversion import preprocessing
    from qfx.cli.data import load_batches
    from qfx.cli.model import input_names, load_float, load_quantized
    from qfx.errors import InputError
    from qfx.file.atomic import replacing, require_writable

    require_writable(options.output, ".html")
    if options.float is not None and options.data is None:
        raise InputError("--float is given without --data.", remedy="Give --data DATA to compare the models on.")
    model = load_quantized(options.file)
    float_model = load_float(options.float).capture if options.float is not None else None
    data = None
    if options.data is not None:
        images = preprocessing(options.image_size, options.mean, options.std)
        batches = load_batches(options.data, input_names(model), options.batch_size, images)
        data = list(islice(batches, options.batches))
        if not data:
            raise InputError(f"DATA {options.data!r} is empty.", remedy="Give at least one batch.")
    with replacing(options.output) as part:
        write_report(part, model, float_model=float_model, data=data)
    count = options.output.stat().st_size
    return Facts(f"{options.output}: {size(count)}", {"output": str(options.output), "bytes": count})
