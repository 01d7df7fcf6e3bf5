"""``qfx onnx``: a quantized file as ONNX."""

from __future__ import annotations

import argparse

from qfx.cli.facts import Facts, size
from qfx.cli.options import FILE_HELP, add_json, add_output
from qfx.cli.parser import positive

SIZES = ("free", "batch")
OPSET = 21


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("file", metavar="FILE", help=FILE_HELP)
    add_output(parser, "the .onnx file to write")
    parser.add_argument("--opset", metavar="N", type=positive, default=OPSET, help=f"of ONNX (default {OPSET})")
    parser.add_argument(
        "--sizes", choices=SIZES, default="free", help="lengths that stay symbolic: all that are free, or the batch"
    )
    add_json(parser)


def run(options: argparse.Namespace) -> Facts:
    """Run the command."""
    from qfx import to_onnx
    from qfx.cli.model import load_quantized
    from qfx.file.atomic import require_writable

    require_writable(options.output, ".onnx")
    to_onnx(load_quantized(options.file), options.output, opset=options.opset, sizes=options.sizes)
    count = options.output.stat().st_size
    data = {"output": str(options.output), "opset": options.opset, "sizes": options.sizes, "bytes": count}
    return Facts(f"{options.output}: {size(count)}", data)
