"""``qfx draw``: a picture of a model's graph."""

from __future__ import annotations

import argparse
from typing import Any

from qfx.cli.facts import Facts, size
from qfx.cli.options import DATA_HELP, FILE_HELP, MODEL_HELP, add_batches, add_json, add_output, add_qconfig

LEVELS = ("float", "observed", "qdq", "int8", "program")
FORMATS = (".svg", ".png", ".pdf", ".dot", ".gv")


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("model", metavar="MODEL", help=f"{FILE_HELP}, or a float model: {MODEL_HELP}")
    add_output(parser, f"the picture to write: {', '.join(FORMATS)}")
    parser.add_argument(
        "--level", choices=LEVELS, help="at which stage (default: float of a float model, int8 of a quantized one)"
    )
    add_qconfig(parser)
    parser.add_argument(
        "--calibration", metavar="DATA", help=f"for qdq, int8 and program of a float model: {DATA_HELP}"
    )
    add_batches(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> Facts:
    """Run the command."""
    from qfx import draw
    from qfx.file.atomic import replacing, require_writable

    require_writable(options.output, *FORMATS)
    model = _at_level(options)
    with replacing(options.output) as part:
        draw(model, part, level=options.level)
    count = options.output.stat().st_size
    return Facts(
        f"{options.output}: {size(count)}",
        {"output": str(options.output), "level": options.level, "bytes": count},
    )


def _at_level(options: argparse.Namespace) -> Any:
    """The model, prepared or quantized as far as the level needs."""
    from qfx import prepare_fx, quantize_fx
    from qfx.cli.config import load_qconfig_dict
    from qfx.cli.conversion import preprocessing
    from qfx.cli.data import load_batches
    from qfx.cli.model import float_model, load_model
    from qfx.errors import InputError
    from qfx.models import QuantizedModel
    from qfx.quantization.qconfig import get_default_qconfig

    model = load_model(options.model)
    if isinstance(model, QuantizedModel):
        return model
    source = float_model(model, options.model)
    if options.level in (None, "float"):
        return source.module
    qconfig_dict = load_qconfig_dict(options.qconfig) if options.qconfig else {"": get_default_qconfig()}
    if options.level == "observed":
        return prepare_fx(source.capture, qconfig_dict)
    if options.calibration is None:
        raise InputError(
            f"Level {options.level} of a float model needs data.",
            remedy="Give --calibration DATA, or a quantized file.",
        )
    images = preprocessing(options.image_size, options.mean, options.std)
    batches = load_batches(options.calibration, source.inputs, options.batch_size, images)
    return quantize_fx(source.capture, qconfig_dict, batches)
