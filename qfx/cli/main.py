"""Choosing a command, and what becomes of its errors: one line and an exit status."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from qfx.errors import QfxError

DONE, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130
"""Exit status: done; a user's mistake or a failure; arguments that do not parse; Ctrl-C."""

COMMANDS = {
    "calibrate": "find the ranges of a model's activations, in one process or over ranks",
}
"""Commands and what they do; each is the module of its name in this package."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``qfx`` with ``arguments`` (the process's when None) and return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser(given).parse_args(given)
    try:
        importlib.import_module(f"qfx.cli.{options.command}").run(options)
    except KeyboardInterrupt:
        return _fail(options.command, "interrupted; nothing was written", INTERRUPTED)
    except QfxError as error:
        # Ranks that work together fail together, and one tells.
        return _fail(options.command, one_line(error)) if os.environ.get("RANK", "0") == "0" else FAILED
    except Exception as error:
        if options.debug:
            raise
        return _fail(options.command, f"{type(error).__name__}: {error} (--debug shows where)")
    return DONE


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    """The parser, with the options of the one command that ``given`` names: the others' imports take seconds."""
    parser = argparse.ArgumentParser(prog="qfx", description="int8 for PyTorch on CPUs")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, does in COMMANDS.items():
        command = commands.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")
        if name in given[:1]:
            importlib.import_module(f"qfx.cli.{name}").configure(command)
        command.add_argument("--debug", action="store_true", help="show the traceback of an unexpected error")
    return parser


def one_line(error: QfxError) -> str:
    """``error`` without line breaks: where, what, why, and what to do."""
    where = f"{error.where}: " if error.where else ""
    parts = (where + error.what, error.why, error.remedy)
    return " ".join(" ".join(part.split()) for part in parts if part)


def _fail(command: str, message: str, status: int = FAILED) -> int:
    print(f"qfx {command}: {' '.join(message.split())}", file=sys.stderr)
    return status
