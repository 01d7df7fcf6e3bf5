"""``qfx.write_report``: one page of HTML that holds everything known of a quantized model."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import platform
import re
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from torch import nn

from qfx.arguments import explained
from qfx.batches import Signature, split_batch
from qfx.comparison.compare import as_arriving, as_batches
from qfx.comparison.statistics import channel_ranges, measure
from qfx.errors import InputError, QfxError
from qfx.file.atomic import require_writable, write_atomically
from qfx.inputs import as_float32
from qfx.ir.module import bind_placeholders
from qfx.models import QuantizedModel
from qfx.passes.report import Report
from qfx.public import VERSION
from qfx.runtime import get_num_threads
from qfx.viz import palette
from qfx.viz.dot import Style, write_dot
from qfx.viz.facts import Measured, kinds, node_facts, steps_by_node
from qfx.viz.read import read
from qfx.viz.render import inline_svg
from qfx.viz.scene import Scene

_SCRIPTS = ("elements.js", "charts.js", "frames.js", "graph.js", "table.js", "details.js", "main.js")
_REPEATS = 10
_SECONDS_FOR_FRAMES = 30.0


@explained
def write_report(
    path: str | Path,
    qmodel: QuantizedModel,
    *,
    float_model: nn.Module | None = None,
    data: Any = None,
    suggestions: Iterable[Any] = (),
    title: str | None = None,
) -> Path:
    """Write a page about a quantized model: its graph, and of each node what was decided and why, and what it costs.

    The page is one file that loads nothing: scripts, styles and the picture are in it, and its policy forbids the
    network. It opens from disk in any current browser.

    Args:
        path: Where to write it; the suffix is ``.html``.
        qmodel: The model.
        float_model: What it was made from, float or prepared. With ``data``, the page tells the error of each node.
        data: Float inputs: batches as for calibration, or one batch that is a tensor or a dict. With them the page
            shows how values are distributed, and the time of each node for the first batch.
        suggestions: What :func:`qfx.suggest` found, shown in this order: its ``text`` and ``code``.
        title: What the page is called; left out, the float model's class, or the file's name.

    Returns:
        The path.

    Raises:
        InputError: ``path`` is none, ``qmodel`` is not quantized, the file can't be written, or the data does not fit.
        ConversionError: The shapes of the model's inputs are unknown: pass ``data``, or call the model once.
        QfxError: Graphviz is missing.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise InputError(
            f"write_report writes to a path, not to {type(path).__name__}.",
            remedy='Pass the path first: write_report("report.html", qmodel).',
        )
    path = Path(path)
    if not isinstance(qmodel, QuantizedModel):
        raise InputError(
            f"write_report takes a quantized model, not {type(qmodel).__name__}.",
            remedy="Pass what convert_fx or quantize_fx returned.",
        )
    require_writable(path, ".html", ".htm")
    if float_model is not None and data is None:
        raise InputError(
            "There is a float model to compare with, and no data to compare on.",
            remedy="Pass data=batches, as for calibration.",
        )
    batches = [] if data is None else list(as_batches(data))
    measured = _measure(qmodel, float_model, batches)
    scene = read(qmodel, "int8")
    name = title or (type(float_model).__name__ if float_model is not None else path.stem)
    write_atomically(path, page(name, scene, _content(name, qmodel, scene, measured, list(suggestions))).encode())
    return path


def _measure(model: QuantizedModel, float_model: nn.Module | None, batches: Sequence[Any]) -> Measured:
    if not batches:
        return Measured(None, {}, channel_ranges(model), steps_by_node(model, model.explain().parts))
    args, kwargs = split_batch(Signature.of_graph(model.graph, model.info.get("example_inputs")), batches[0], 0)
    inputs = as_arriving(model, tuple(map(as_float32, bind_placeholders(model.graph, args, kwargs))))
    plan = model.profile(*inputs, repeats=_REPEATS)
    comparison, distributions = measure(model, batches, float_model)
    return Measured(comparison, distributions, channel_ranges(model), steps_by_node(model, plan.parts))


def _content(
    title: str, model: QuantizedModel, scene: Scene, measured: Measured, suggestions: Sequence[Any]
) -> dict[str, Any]:
    nodes, report = node_facts(scene, measured), model.report
    return {
        "title": title,
        "nodes": nodes,
        "arrows": [[arrow.source, arrow.target] for arrow in scene.arrows],
        "kinds": kinds(),
        "heat": list(palette.HEAT),
        "cards": _cards(model, report, nodes, measured),
        "about": _about(model, report),
        "suggestions": [{"text": str(s.text), "entry": str(s.code)} for s in suggestions],
    }


def _cards(
    model: QuantizedModel, report: Report, nodes: Sequence[dict[str, Any]], measured: Measured
) -> list[tuple[str, str]]:
    integer = len(report.decided("int8"))
    cards = [("Ops in int8", f"{integer} of {len(report)}")]
    outputs = [name for node in nodes[-1:] for name in node["inputs"]]
    errors = [node["sqnr"] for node in nodes if node["name"] in outputs and node.get("sqnr") is not None]
    if errors:
        cards.append(
            ("SQNR of the output", ", ".join("exact" if isinstance(e, str) else f"{e:.1f} dB" for e in errors))
        )
    if measured.microseconds:
        cards.append(("Time of all steps", f"{measured.microseconds / 1e3:.2f} ms"))
    programs = [part for part in model.compiled.segments if part.executable is not None]
    cards.append(("Programs", str(len(programs))))
    if programs and programs[0].executable is not None:
        cards.append(("Kernels for", programs[0].executable.isa))
    return cards


def _about(model: QuantizedModel, report: Report) -> list[tuple[str, str]]:
    frontend, why = (getattr(report, name, None) or "" for name in ("frontend", "frontend_reason"))
    shapes = [n.meta.get("shape") for n in model.graph.find_nodes(op="placeholder")]
    return [
        ("Frontend", f"{frontend}: {why}" if frontend and why else str(frontend)),
        ("Inputs", "; ".join("x".join(map(str, shape)) for shape in shapes if shape is not None)),
        ("Threads", str(get_num_threads())),
        ("Machine", f"{platform.machine()}, {platform.system()}"),
        ("Written by", f"qfx {VERSION}"),
    ]


# ---------------------------------------------------------------- the page


def page(title: str, scene: Scene, content: dict[str, Any]) -> str:
    """The page, with every text of the model escaped for where it stands."""
    script = "\n".join(["(() => {", '"use strict";', *map(_resource, _SCRIPTS), "})();"])
    style = _resource("page.css")
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {
        "policy": policy,
        "version": html.escape(VERSION),
        "title": html.escape(title),
        "style": style,
        "graph": _picture(scene),
        "data": _json(content),
        "script": script,
    }
    return re.sub("@@([a-z]+)@@", lambda match: parts[match[1]], _resource("page.html"))


def _picture(scene: Scene) -> str:
    """The graph in frames of modules; without them where Graphviz fails with them, or takes too long."""
    try:
        return inline_svg(write_dot(scene, Style(legend=False, columns=False)), _SECONDS_FOR_FRAMES)
    except QfxError:
        return inline_svg(write_dot(scene, Style(legend=False, columns=False, clusters=False)))


def _json(content: dict[str, Any]) -> str:
    """JSON that may stand in a script element: it holds no ``<``, so nothing in it ends the element."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _resource(name: str) -> str:
    return (resources.files("qfx.viz") / "page" / name).read_text(encoding="utf-8")
