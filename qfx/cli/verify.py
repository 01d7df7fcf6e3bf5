"""``qfx verify``: the certificate of a file that runs without torch."""

from __future__ import annotations

import argparse

from qfx.cli.facts import Facts, size
from qfx.cli.options import FILE_HELP, add_json
from qfx.cli.parser import positive


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("file", metavar="FILE", help=FILE_HELP)
    parser.add_argument("--isa", help="the instruction set to run on instead of the best one here; changes no bit")
    parser.add_argument("--threads", type=positive, metavar="N", help="threads; changes no bit")
    add_json(parser)


def run(options: argparse.Namespace) -> Facts:
    """Run the command; torch is not loaded."""
    from qfx.runtime import load

    model = load(options.file, isa=options.isa)
    model.threads = options.threads
    certificate = model.verify()
    data = {
        "file": options.file,
        "hash": certificate.hash,
        "memory": certificate.memory,
        "products": certificate.products,
        "isa": model.isa,
    }
    text = f"{certificate.hash}  {options.file}\n"
    text += f"{size(certificate.memory)} of memory, {certificate.products:,} multiplications a call"
    return Facts(text, data)
