"""Choosing a command, and what becomes of its result and its errors: text or JSON, one line, an exit status."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

from qfx import __version__
from qfx.cli.facts import Facts, as_json
from qfx.cli.interrupts import Terminated, terminable
from qfx.cli.parser import Parser
from qfx.errors import QfxError

DONE, FAILED, MISUSED, INTERRUPTED, UNREAD, TERMINATED = 0, 1, 2, 130, 141, 143
"""Exit status: done; a user's mistake or a failure; arguments that do not parse; Ctrl-C; the reader of the output went
away; SIGTERM."""

COMMANDS = {
    "quantize": "make an int8 file of a float model",
    "run": "run a quantized file on data",
    "bench": "time a quantized file, beside its float model if given",
    "verify": "hash every bit of the outputs of a quantized file",
    "inspect": "show what is in a quantized file",
    "draw": "draw a model's graph",
    "report": "write an HTML page about a quantized model",
    "compare": "find where a quantized file differs from its float model",
    "sensitivity": "rank the parts of a model by what quantizing them costs",
    "calibrate": "find the ranges of a model's activations, also over ranks",
    "onnx": "write a quantized file as ONNX",
    "batch": "quantize many models, in many processes",
}
"""Commands and what they do; each is the module of its name in this package."""

_EPILOG = """\
example:
  qfx quantize my_models:make --calibration images/ -o net.qfx
  qfx bench net.qfx --float my_models:make

`qfx COMMAND --help` shows a command's arguments, docs/cli.md all of them.
exit status: 0 done, 1 it failed, 2 wrong arguments, 130 interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``qfx`` with ``arguments`` (the process's when None) and return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = _parser(given).parse(given)
    except SystemExit as stop:  # of --help and --version as well
        return _flushed(int(stop.code or DONE))
    except OSError as error:
        return _unread(error)
    try:
        facts = _run(options)
    except KeyboardInterrupt as stop:
        return _fail(options, f"interrupted; {str(stop) or 'no file was left half written'}", INTERRUPTED, stop)
    except Terminated as stop:
        return _fail(options, "terminated; no file was left half written", TERMINATED, stop)
    except SystemExit as stop:
        return _fail(options, f"the user's code called exit({stop.code!r}). Take that call out of it.", FAILED, stop)
    except QfxError as error:
        return _fail(options, one_line(error), FAILED, error)
    except Exception as error:
        return _fail(options, _unexpected(error), FAILED, error)
    return DONE if facts is None else _show(facts, options)


def _run(options: argparse.Namespace) -> Facts | None:
    """The command's facts. What models and data print meanwhile is no part of them, and goes to stderr."""
    with terminable(), contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", category=FutureWarning, module="torch")
        facts: Facts | None = importlib.import_module(f"qfx.cli.{options.command}").run(options)
    return facts


def _show(facts: Facts, options: argparse.Namespace) -> int:
    return _flushed(facts.status, as_json(facts.data) if getattr(options, "json", False) else facts.text)


def _flushed(status: int, text: str | None = None) -> int:
    """``status`` after ``text`` and what was printed before it have gone out, or what became of that."""
    try:
        if text is not None:
            print(text)
        if sys.stdout is not None:  # it was closed before the start
            sys.stdout.flush()
    except OSError as error:
        return _unread(error)
    return status


def _unread(error: OSError) -> int:
    """The status where nobody takes the output. What is still buffered would fail again when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return UNREAD
    print(f"qfx: the output can't be written: {error.strerror}. Make room, or write elsewhere.", file=sys.stderr)
    return FAILED


def _parser(given: Sequence[str]) -> Parser:
    """The parser, with the options of the one command that ``given`` names."""
    parser = Parser(
        prog="qfx",
        description="int8 for PyTorch on CPUs.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-V", "--version", action="version", version=f"qfx {__version__}")
    commands: Any = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    named = next((word for word in given if not word.startswith("-")), None)
    for name, does in COMMANDS.items():
        command = commands.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")
        if name == named:
            importlib.import_module(f"qfx.cli.{name}").configure(command)
        command.add_argument("--traceback", action="store_true", help="show where in the code an error arose")
    return parser


def one_line(error: QfxError) -> str:
    """``error`` without line breaks: where, what, why, and what to do."""
    where = f"{error.where}: " if error.where else ""
    source = f"({error.source})" if error.source else None
    return " ".join(_sentence(part) for part in (where + error.what, source, error.why, error.remedy) if part)


def _sentence(text: str) -> str:
    line = " ".join(text.split())
    return line if line.endswith((".", "?", "!", ")", ":")) else f"{line}."


def _unexpected(error: Exception) -> str:
    from qfx.cli.blame import told

    return f"{told(error)} (--traceback shows where)"


def _fail(options: argparse.Namespace, message: str, status: int = FAILED, error: BaseException | None = None) -> int:
    if error is not None and (options.traceback or os.environ.get("QFX_TRACEBACK", "0") not in ("", "0")):
        traceback.print_exception(error)
    if os.environ.get("RANK", "0") == "0":  # ranks that work together fail together, and one tells
        print(f"qfx {options.command}: {' '.join(message.split())}", file=sys.stderr)
    return status
