"""``qfx quantize``: a float model to an int8 file."""

from __future__ import annotations

import argparse
from pathlib import Path

from qfx.cli.facts import Facts
from qfx.cli.options import DATA_HELP, MODEL_HELP, add_batches, add_json, add_output, add_qconfig

FRONTENDS = ("auto", "symbolic", "export", "torchscript")


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    add_output(parser, "the .qfx file to write")
    add_conversion(parser)
    add_json(parser)


def add_conversion(parser: argparse.ArgumentParser) -> None:
    """The arguments that say how to quantize."""
    add_qconfig(parser)
    parser.add_argument("--calibration", metavar="DATA", help=f"{DATA_HELP}; not needed where every qconfig is dynamic")
    add_batches(parser)
    parser.add_argument("--frontend", choices=FRONTENDS, default="auto", help="how the model is captured")
    parser.add_argument(
        "--no-bias-correction", dest="bias_correction", action="store_false", help="keep biases as they are"
    )
    parser.add_argument(
        "--no-adaptive-rounding", dest="adaptive_rounding", action="store_false", help="round weights to nearest"
    )
    parser.add_argument(
        "--no-rotation",
        dest="rotation",
        action="store_false",
        help="leave the inputs of transformers' layers as they are",
    )
    parser.add_argument(
        "--no-smoothing",
        dest="smoothing",
        action="store_false",
        help="leave channels in front of a rotation as they are",
    )
    parser.add_argument(
        "--smooth-keys", action="store_true", help="take the mean of each channel out of the keys of attention"
    )
    parser.add_argument("--strict", action="store_true", help="fail instead of keeping a part float")
    parser.add_argument("--isa", help="check that the file loads for this instruction set, such as avx2")
    parser.add_argument("--report", metavar="OUT.html", type=Path, help="also write a page about the result")


def run(options: argparse.Namespace) -> Facts:
    """Run the command."""
    from qfx.cli.conversion import Conversion, convert

    return convert(Conversion.of(options))
