"""Where TorchScript says that a node comes from, as ``net.py:12, in forward: y = conv(x)``.

A scripted node has an excerpt of its file with a mark under the code, a traced one a traceback, and a node of a loaded
file what was there when the file was written, or else an excerpt of the code in the archive.
"""

from __future__ import annotations

import linecache
import os
import re
from itertools import pairwise
from typing import Any

from qfx.frontends.source import is_internal

_EXCERPT = re.compile(r'^(?P<archive>Serialized)?\s*File "(?P<file>[^"]+)", line (?P<line>\d+)\n', re.MULTILINE)
_FRAME = re.compile(r"^(?P<file>.+)\((?P<line>\d+)\): (?P<function>.+)$", re.MULTILINE)
_TRACER = os.path.join("torch", "jit", "_trace.py")
_MARK = "<--- HERE"
_NO_FILE = re.compile(r"<|$")


def user_line(node: Any, function: str) -> str | None:
    """The line of user code that ``node`` comes from, or None when it comes from torch's own or from nowhere.

    Args:
        node: A node of a TorchScript graph.
        function: The method that it is in.
    """
    text = node.sourceRange()
    frames = list(_FRAME.finditer(text))
    if frames:
        return _of_traceback(frames)
    excerpts = list(_EXCERPT.finditer(text))
    for index, match in enumerate(excerpts):
        end = excerpts[index + 1].start() if index + 1 < len(excerpts) else len(text)
        if _is_user_file(match["file"]):
            return _describe(match["file"], match["line"], function, _marked(text[match.end() : end]))
        if match["archive"] is None:
            return None
    return None


def _of_traceback(frames: list[re.Match[str]]) -> str | None:
    """The innermost frame of the user's inside of the traced call."""
    for frame in frames:
        if frame["file"].endswith(_TRACER):
            return None
        if _is_user_file(frame["file"]):
            code = linecache.getline(frame["file"], int(frame["line"])).strip()
            return _describe(frame["file"], frame["line"], frame["function"], code)
    return None


def _is_user_file(name: str) -> bool:
    archived = name.startswith("code/")
    torch_code = name.startswith("code/__torch__/torch/") if archived else is_internal(name)
    return not torch_code and not _NO_FILE.match(name)


def _marked(excerpt: str) -> str:
    """The first line of an excerpt that is underlined."""
    lines = excerpt.split("\n")
    for before, line in pairwise(lines):
        if line.strip().removesuffix(_MARK).strip().strip("~") == "" and "~" in line:
            return before.strip()
    return ""


def _describe(file: str, line: str, function: str, code: str) -> str:
    place = f"{os.path.basename(file)}:{line}, in {function}"
    return f"{place}: {code}" if code else place
