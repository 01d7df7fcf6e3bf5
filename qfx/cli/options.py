"""Arguments that several commands take."""

from __future__ import annotations

import argparse
from pathlib import Path

from qfx.cli.parser import positive

MODEL_HELP = "module:factory, a .pt2 of torch.export.save, or a TorchScript file"
FILE_HELP = "a file of qfx quantize"
DATA_HELP = ".npz, .npy or .pt file of samples, a folder of images, or module:iterable of batches"


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print the facts as one line of JSON")


def add_output(parser: argparse.ArgumentParser, text: str, *, required: bool = True) -> None:
    """``-o OUT``."""
    parser.add_argument("-o", "--output", metavar="OUT", type=_path, required=required, help=text)


def add_qconfig(parser: argparse.ArgumentParser) -> None:
    """``--qconfig FILE``."""
    parser.add_argument(
        "--qconfig", metavar="FILE", type=_path, help="qconfig_dict as .json, .toml or .yaml (all int8 if left out)"
    )


def add_batches(parser: argparse.ArgumentParser) -> None:
    """How data becomes batches."""
    parser.add_argument("--batch-size", metavar="N", type=positive, default=32, help="samples a batch (default 32)")
    images = parser.add_argument_group("a folder of images")
    images.add_argument(
        "--image-size", metavar="N", type=positive, nargs="+", default=[224], help="height and width (default 224)"
    )
    images.add_argument("--mean", metavar="X", type=float, nargs="+", default=[0.485, 0.456, 0.406], help="a channel")
    images.add_argument("--std", metavar="X", type=float, nargs="+", default=[0.229, 0.224, 0.225], help="a channel")


def add_threads(parser: argparse.ArgumentParser, default: str = "all cores") -> None:
    """``--threads N``."""
    parser.add_argument("--threads", metavar="N", type=positive, help=f"threads (default: {default})")


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no path.")
    return Path(text)
