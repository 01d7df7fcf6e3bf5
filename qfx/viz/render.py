"""Running Graphviz: pip's graphviz-pure or a system's dot, whichever is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from qfx.errors import QfxError
from qfx.viz.far import add_far, split_far
from qfx.viz.fit import fit_labels

_PROGRAMS = ("graphviz-pure", "dot")
_SECONDS = 120
FORMATS = ("svg", "png", "pdf")
"""What a renderer makes; pdf only a system's dot."""


def renderer(name: str | None = None) -> str:
    """Path of the program that lays out and draws.

    Args:
        name: ``"graphviz-pure"`` or ``"dot"``; None: the first of them that is there.

    Raises:
        QfxError: There is none.
    """
    beside = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    for program in (name,) if name else _PROGRAMS:
        found = shutil.which(program, path=beside)
        if found:
            return found
    wanted = name or "Graphviz's program dot"
    raise QfxError(
        f"{wanted} is needed to draw, and is not on PATH.",
        remedy="pip install graphviz-pure, or install Graphviz (Debian: apt install graphviz), or draw a .dot.",
    )


def render(source: str, form: str, program: str | None = None, seconds: float = _SECONDS) -> bytes:
    """A picture of ``source``.

    Args:
        source: In Graphviz's language.
        form: ``"svg"``, ``"png"`` or ``"pdf"``.
        program: As ``name`` of :func:`renderer`.
        seconds: How long the layout may take.

    Raises:
        QfxError: No program is there, it can't make this format, it fails, or it takes longer than ``seconds``.
    """
    path = renderer("dot" if program is None and form == "pdf" else program)
    if form != "svg":
        return _run(path, source, seconds, "-Kdot", f"-T{form}")
    near, far = split_far(source)
    svg = _run(path, near, seconds, "-Kdot", "-Tsvg").decode()
    return fit_labels(add_far(svg, far) if far else svg).encode()


def _run(path: str, source: str, seconds: float, *options: str) -> bytes:
    """What Graphviz writes; the last of ``options`` is the format."""
    command = [path, *options]
    try:
        done = subprocess.run(command, input=source.encode(), capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise QfxError(
            f"{Path(path).name} did not finish in {seconds:g} seconds.",
            why="Graphs in which many values are alive at once take long to lay out.",
            remedy="Draw at a level of fewer nodes (level='int8'), as svg, or only a part of the model.",
        ) from error
    except OSError as error:
        raise _failed(path, options[-1][2:], str(error)) from error
    if done.returncode or not done.stdout:
        raise _failed(path, options[-1][2:], done.stderr.decode(errors="replace"))
    return done.stdout


def inline_svg(source: str, seconds: float = _SECONDS) -> str:
    """A picture as an element of a page: without the XML file's head, comments, and links.

    Raises:
        QfxError: As :func:`render`.
    """
    svg = render(source, "svg", seconds=seconds).decode()
    svg = re.sub(r"<!--.*?-->", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    return re.sub(r"\s*<title>[^<]*</title>", "", svg)


def _failed(program: str, form: str, said: str) -> QfxError:
    first, *_ = [*said.strip().splitlines(), "nothing"]
    remedy = "Draw to .svg or .png, or install Graphviz (Debian: apt install graphviz)."
    return QfxError(f"{Path(program).name} could not draw {form}.", why=f"It says: {first}", remedy=remedy)
