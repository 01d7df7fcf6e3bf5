"""``qfx calibrate``: post-training calibration, in one process or as ``torchrun -m qfx calibrate``."""

from __future__ import annotations

import argparse

from qfx.cli.facts import Facts
from qfx.cli.options import DATA_HELP, MODEL_HELP, add_batches, add_json, add_output, add_qconfig
from qfx.cli.parser import positive


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    add_qconfig(parser)
    parser.add_argument("--calibration", metavar="DATA", required=True, help=DATA_HELP)
    add_output(parser, ".pt: the prepared model's state_dict, for load_state_dict; .json: scales and zero points")
    add_batches(parser)
    parser.add_argument(
        "--threads",
        metavar="N",
        type=positive,
        default=1,
        help="threads of each process (default 1); torch's last bits depend on them, and not on the number of ranks",
    )
    parser.add_argument(
        "--timeout", metavar="S", type=positive, default=1800, help="seconds that ranks wait for one another"
    )
    add_json(parser)


def run(options: argparse.Namespace) -> Facts | None:
    """Run the command. Under torchrun the ranks share the batches, and rank 0 writes and tells."""
    from qfx.cli.ranks import calibrate_ranks

    return calibrate_ranks(options)
