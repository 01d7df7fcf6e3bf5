"""Where in the user's code something happened: frames and tracebacks to ``net.py:12, in forward: y = conv(x)``."""

from __future__ import annotations

import contextlib
import linecache
import os
import sys
import traceback
from types import CodeType, FrameType, TracebackType

import torch

_INTERNAL = tuple(
    os.path.dirname(os.path.abspath(path)) + os.sep for path in (torch.__file__, os.path.dirname(__file__))
)
_NOT_FILES = ("<frozen", "<string")


def user_source() -> str | None:
    """The innermost line of user code on the caller's stack, or None when torch alone is on it."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if _is_user_code(frame.f_code):
            return None if _is_driver(frame) else describe_line(frame.f_code, frame.f_lineno)
        frame = frame.f_back
    return None


def error_source(error: BaseException) -> str | None:
    """The innermost line of user code that ``error`` passed through."""
    found = None
    trace: TracebackType | None = error.__traceback__
    for frame, line in traceback.walk_tb(trace):
        if _is_user_code(frame.f_code) and not _is_driver(frame):
            found = describe_line(frame.f_code, line)
    return found


def describe_line(code: CodeType, line: int) -> str:
    """``file.py:12, in forward: y = self.conv(x)``."""
    text = linecache.getline(code.co_filename, line).strip()
    place = f"{os.path.basename(code.co_filename)}:{line}, in {code.co_name}"
    return f"{place}: {text}" if text else place


def _is_user_code(code: CodeType) -> bool:
    name = code.co_filename
    return (
        not name.startswith(_NOT_FILES)
        and not os.path.abspath(name).startswith(_INTERNAL)
        and name != contextlib.__file__
    )


def _is_driver(frame: FrameType) -> bool:
    """Whether ``frame`` is outside the traced model: it, or a caller up to the tracer, called the frontend."""
    below: FrameType | None = frame.f_back
    while below is not None:
        if below.f_code.co_name == "trace" and below.f_code.co_filename.endswith("_symbolic_trace.py"):
            return False
        below = below.f_back
    return True
