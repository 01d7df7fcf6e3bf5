"""The pass manager: runs a list of passes, verifies the level after each, and names the pass that failed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import fx

from qfx.errors import QfxError
from qfx.ir.levels import LEVELS, OpName, violations
from qfx.ir.printer import print_graph

PassFunction = Callable[[fx.GraphModule], fx.GraphModule]


@dataclass(frozen=True)
class Pass:
    """A rewrite of the whole graph.

    Attributes:
        run: Takes a GraphModule it may change and returns the result.
        before: Level that the input must satisfy.
        after: Level that the result must satisfy.
        name: A verb phrase; the function's name unless given.
    """

    run: PassFunction
    before: str
    after: str
    name: str = ""

    @property
    def title(self) -> str:
        return self.name or getattr(self.run, "__name__", repr(self.run))


class PassError(AssertionError):
    """A pass broke its level's rules or failed: a bug in qfx, with a dump of the graph it was given."""


def run_passes(passes: Iterable[Pass], gm: fx.GraphModule, op_name: OpName) -> fx.GraphModule:
    """Run ``passes`` in order and return the last graph.

    With ``QFX_DUMP=dir`` in the environment every graph that a pass changed is written to
    ``dir/<number>_<pass>.txt``, and each pass's time to ``dir/times.txt``.

    Raises:
        QfxError: What a pass says of the user's model.
        PassError: A pass failed in any other way, or left a graph that its level forbids.
    """
    folder = os.environ.get("QFX_DUMP")
    text = print_graph(gm.graph)
    for number, item in enumerate(passes):
        started = time.perf_counter()
        try:
            gm = item.run(gm)
        except QfxError:
            raise
        except Exception as error:
            raise PassError(f"pass {item.title!r} failed: {error}\nthe graph it was given:\n{text}") from error
        before, text = text, print_graph(gm.graph)
        problems = list(violations(gm, LEVELS[item.after], op_name))
        if folder:
            _dump(Path(folder), number, item.title, text if text != before else "", time.perf_counter() - started)
        if problems:
            listing = "\n".join(problems)
            raise PassError(
                f"pass {item.title!r} left a graph that level {item.after!r} forbids:\n{listing}\nbefore:\n{before}"
            )
    return gm


def _dump(folder: Path, number: int, title: str, text: str, seconds: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if text:
        (folder / f"{number:02d}_{title}.txt").write_text(text, encoding="utf-8")
    with open(folder / "times.txt", "a", encoding="utf-8") as file:
        file.write(f"{number:02d} {title}: {seconds * 1e3:.1f} ms\n")
