"""Where in the user's code something happened: frames and tracebacks to ``net.py:12, in forward: y = conv(x)``."""

from __future__ import annotations

import contextlib
import dis
import inspect
import linecache
import os
import re
import sys
import traceback
from types import CodeType, FrameType, TracebackType

import torch

_INTERNAL = tuple(
    os.path.dirname(os.path.abspath(path)) + os.sep for path in (torch.__file__, os.path.dirname(__file__))
)
_NOT_FILES = ("<frozen", "<string")
_SPELLED_FOR_USERS = (f"{os.sep}einops{os.sep}",)
"""Packages whose lines say nothing about the model: the caller's does."""


def user_source() -> str | None:
    """The innermost line of user code on the caller's stack, or None when torch alone is on it."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if _is_user_code(frame.f_code):
            return None if _is_driver(frame) else describe_line(frame.f_code, frame.f_lineno)
        frame = frame.f_back
    return None


def changing_line(owner: object, attribute: str) -> str | None:
    """The first line in the code of the class of ``owner`` that assigns ``attribute``, or else changes it in place."""
    functions = [pair for cls in type(owner).__mro__ if not _is_torchs(cls) for pair in vars(cls).items()]
    functions = sorted((pair for pair in functions if pair[0] != "__init__"), key=lambda pair: pair[0] != "forward")
    codes = [code for _, function in functions for code in _codes(function)]
    steps = [(code, line, name) for code in codes for name, argument, line in _steps(code) if argument == attribute]
    lines = [describe_line(code, line) for code, line, name in steps if name.startswith(("STORE", "DELETE"))]
    lines += [text for code, line, _ in steps if re.search(_CHANGES, text := describe_line(code, line))]
    return next(iter(lines), None)


def _is_torchs(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in ("torch", "builtins")


_CHANGES = (
    r"\w_\(|\]\s*([-+*/|&]|//|\*\*)?=(?!=)|next\(|\.(append|appendleft|extend|insert|add|update|pop"
    r"|popleft|popitem|remove|clear|setdefault|fill|reverse|sort|rotate|discard)\("
)
"""Code that changes an object in place."""


def _codes(function: object) -> list[CodeType]:
    code = getattr(inspect.unwrap(getattr(function, "__func__", function)), "__code__", None)  # type: ignore[arg-type]
    return [] if code is None else [code, *(c for c in code.co_consts if isinstance(c, CodeType))]


def _steps(code: CodeType) -> list[tuple[str, object, int]]:
    """Every instruction with its argument and line."""
    found, line = [], code.co_firstlineno
    for step in dis.get_instructions(code):
        line = step.starts_line if type(step.starts_line) is int else getattr(step, "line_number", None) or line
        found.append((step.opname, step.argval, line))
    return found


def error_source(error: BaseException) -> str | None:
    """The innermost line of user code that ``error`` passed through, or that its message quotes."""
    found = _quoted(str(error))
    if found is not None:
        return found
    trace: TracebackType | None = error.__traceback__
    for frame, line in traceback.walk_tb(trace):
        if _is_user_code(frame.f_code) and not _is_driver(frame):
            found = describe_line(frame.f_code, line)
    return found


def _quoted(message: str) -> str | None:
    """The innermost line of user code in the stack that TorchDynamo writes into its messages; it runs no such frame."""
    _, told, stack = message.partition("from user code:")
    frames = re.findall(r'File "([^"]+)", line (\d+), in (\w+)', stack) if told else []
    own = [(file, int(line), function) for file, line, function in frames if not is_internal(file)]
    return _described(*own[-1]) if own else None


def describe_line(code: CodeType, line: int) -> str:
    """``file.py:12, in forward: y = self.conv(x)``."""
    return _described(code.co_filename, line, code.co_name)


def _described(file: str, line: int, function: str) -> str:
    text = linecache.getline(file, line).strip()
    folder, name = os.path.split(file)
    cell = os.path.basename(folder).startswith("ipykernel_")  # such files are named by the hash of what they hold
    place = f"{'notebook cell' if cell else name}:{line}, in {function}"
    return f"{place}: {text}" if text else place


def is_internal(file: str) -> bool:
    """Whether a source file is torch's, this package's, or one that only spells torch operations in its own way."""
    return os.path.abspath(file).startswith(_INTERNAL) or any(name in file for name in _SPELLED_FOR_USERS)


def _is_user_code(code: CodeType) -> bool:
    name = code.co_filename
    return not name.startswith(_NOT_FILES) and not is_internal(name) and name != contextlib.__file__


def _is_driver(frame: FrameType) -> bool:
    """Whether ``frame`` is outside the traced model: it, or a caller up to the tracer, called the frontend."""
    below: FrameType | None = frame.f_back
    while below is not None:
        if below.f_code.co_name == "trace" and below.f_code.co_filename.endswith("_symbolic_trace.py"):
            return False
        below = below.f_back
    return True
