"""``qfx sensitivity``: what quantizing each part of a model costs."""

from __future__ import annotations

import argparse
from dataclasses import fields
from itertools import islice
from typing import Any

from qfx.cli.facts import Facts
from qfx.cli.options import DATA_HELP, MODEL_HELP, add_batches, add_json, add_qconfig
from qfx.cli.parser import positive
from qfx.errors import InputError


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("--calibration", metavar="DATA", required=True, help=DATA_HELP)
    parser.add_argument("--batches", metavar="N", type=positive, default=4, help="how many batches (default 4)")
    parser.add_argument("--nodes", metavar="NAME", nargs="+", help="nodes or module paths to look at (default: all)")
    add_qconfig(parser)
    add_batches(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> Facts:
    """Run the command."""
    from qfx import sensitivity
    from qfx.cli.config import load_qconfig_dict
    from qfx.cli.conversion import preprocessing
    from qfx.cli.data import load_batches
    from qfx.cli.model import load_float
    from qfx.quantization.qconfig import get_default_qconfig

    qconfig_dict = load_qconfig_dict(options.qconfig) if options.qconfig else {"": get_default_qconfig()}
    source = load_float(options.model)
    images = preprocessing(options.image_size, options.mean, options.std)
    batches = list(
        islice(load_batches(options.calibration, source.inputs, options.batch_size, images), options.batches)
    )
    if not batches:
        raise InputError("There is no data to measure on.", remedy="Give at least one batch.")
    found = sensitivity(source.capture, qconfig_dict, batches, nodes=options.nodes)
    data = {
        "metric": found.metric,
        "float_loss": found.float_loss,
        "int8_loss": found.int8_loss,
        "nodes": [_record(record) for record in found],
    }
    return Facts(str(found), data)


def _record(record: Any) -> dict[str, Any]:
    """The record, without the entry, whose qconfigs JSON can't say."""
    return {field.name: getattr(record, field.name) for field in fields(record) if field.name != "entry"}
