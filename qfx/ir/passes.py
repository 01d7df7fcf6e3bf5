"""The pass manager: runs a list of passes, verifies the level after each, and names the pass that failed."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import fx

from qfx.errors import QfxError
from qfx.ir.levels import LEVELS, OpName, Violation, violations
from qfx.ir.printer import print_graph, print_node
from qfx.logs import logger

_log = logger(__name__)

PassFunction = Callable[..., fx.GraphModule]


@dataclass(frozen=True)
class Pass:
    """A rewrite of the whole graph.

    Attributes:
        run: Takes a GraphModule it may change, and what it is told, and returns the result.
        before: Level that the input must satisfy.
        after: Level that the result must satisfy.
        told: The class of what it must know beside the graph, None where the graph says it all.
    """

    run: PassFunction
    before: str
    after: str
    told: type | None = None

    @property
    def title(self) -> str:
        """A verb phrase: the function's name."""
        return str(getattr(self.run, "__name__", repr(self.run)))

    def __call__(self, gm: fx.GraphModule, told: Any) -> fx.GraphModule:
        if self.told is None:
            return self.run(gm)
        assert isinstance(told, self.told), f"{self.title} is told {type(told).__name__}, not {self.told.__name__}"
        return self.run(gm, told)


class PassError(AssertionError):
    """A pass broke its level's rules or failed: a bug in qfx.

    The message shows the nodes concerned and their neighbours; the file that it names holds the whole graph.
    """


def run_passes(passes: Iterable[Pass], gm: fx.GraphModule, op_name: OpName, told: Any = None) -> fx.GraphModule:
    """Run ``passes`` in order, ``told`` what they ask for, and return the last graph.

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
            gm = item(gm, told)
        except QfxError:
            raise
        except Exception as error:
            raise PassError(_failure(item.title, error, gm.graph, text)) from error
        before, text = text, print_graph(gm.graph)
        problems = list(violations(gm, LEVELS[item.after], op_name))
        seconds = time.perf_counter() - started
        _log.debug("%s: %d nodes at level %s, %.1f ms", item.title, len(gm.graph.nodes), item.after, seconds * 1e3)
        if folder:
            _dump(Path(folder), number, item.title, text if text != before else "", seconds)
        if problems:
            raise PassError(_broken(item, problems, gm.graph, before, text))
    return gm


_SHOWN = 3
"""How many of the nodes concerned a message shows."""


def _failure(title: str, error: Exception, graph: fx.Graph, text: str) -> str:
    first, *_ = [*str(error).splitlines(), ""]
    words = set(re.findall(r"\w+", str(error)))
    named = [node for node in graph.nodes if node.name in words]
    lines = [f"pass {title!r} failed: {type(error).__name__}: {first}", *_surroundings(named)]
    return "\n".join([*lines, _whole(title, graph, f"the graph it was given:\n{text}")])


def _broken(item: Pass, problems: list[Violation], graph: fx.Graph, before: str, after: str) -> str:
    lines = [f"pass {item.title!r} left a graph that level {item.after!r} forbids:"]
    lines += [f"  {problem}" for problem in problems[:_SHOWN]]
    lines += [f"  and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    lines += _surroundings([problem.node for problem in problems])
    return "\n".join([*lines, _whole(item.title, graph, f"before:\n{before}\nafter:\n{after}")])


def _surroundings(nodes: list[fx.Node]) -> list[str]:
    """The first of ``nodes``, marked, among their operands and users."""
    marked = nodes[:_SHOWN]
    around = {near for node in marked for near in (node, *node.all_input_nodes, *node.users)}
    if not around:
        return []
    ordered = [node for node in marked[0].graph.nodes if node in around]
    return ["where:", *(f"{'>' if node in marked else ' '} {print_node(node)}" for node in ordered)]


def _whole(title: str, graph: fx.Graph, text: str) -> str:
    """The last line of a message: how large the graph is, and the file in the temp directory that holds ``text``."""
    size = f"the graph has {len(graph.nodes)} nodes"
    name = re.sub(r"\W+", "_", title)
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", prefix=f"qfx_{name}_", suffix=".txt", delete=False
        ) as file:
            file.write(text)
    except OSError as error:
        return f"{size}; it could not be written to {tempfile.gettempdir()}: {error}"
    return f"{size}; it is in {file.name}"


def _dump(folder: Path, number: int, title: str, text: str, seconds: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if text:
        (folder / f"{number:02d}_{title}.txt").write_text(text, encoding="utf-8")
    with open(folder / "times.txt", "a", encoding="utf-8") as file:
        file.write(f"{number:02d} {title}: {seconds * 1e3:.1f} ms\n")
