"""The user's line in an exception that the user's own code raised."""

from __future__ import annotations

import os
import re
import traceback

import torch

import qfx
from qfx.errors import InputError
from qfx.frontends.source import describe_line

_OURS = tuple(os.path.dirname(os.path.abspath(str(package.__file__))) + os.sep for package in (torch, qfx))
_LIBRARY = os.path.dirname(os.__file__) + os.sep
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
_INSTALLED = ("site-packages", "dist-packages")


def user_line(error: BaseException) -> str | None:
    """``"models.py:12, in make: net = build()"``: the innermost line of the user's; of a package, if there is none."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{os.path.basename(error.filename)}:{error.lineno}"
    own = packages = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = os.path.abspath(frame.f_code.co_filename)
        if frame.f_code.co_filename.startswith("<") or name.startswith(_OURS):
            continue
        if any(part in name for part in _INSTALLED):
            packages = describe_line(frame.f_code, line)
        elif not name.startswith(_LIBRARY):
            own = describe_line(frame.f_code, line)
    return own or packages


def told(error: BaseException) -> str:
    """``error``'s class and the first line of its message."""
    if isinstance(error, SystemExit):
        return f"SystemExit, exit({error.code!r})"
    lines = _ESCAPE.sub("", str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def retold(what: str, error: BaseException, remedy: str) -> InputError:
    """An error in code or a file of the user's: ``what`` happened, in which line, why."""
    return InputError(what, source=user_line(error), why=f"{told(error).rstrip('.')}.", remedy=remedy)
