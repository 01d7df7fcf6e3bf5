"""A graph as a Graphviz picture: what runs in int8, what in float, and the qparams on every edge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import graphviz
from torch import fx

from qfx.errors import InputError, QfxError
from qfx.ir.module import GraphCarrier
from qfx.ir.nodes import decision_of
from qfx.ir.types import QParams
from qfx.ops import qdq
from qfx.ops.table import op_of
from qfx.passes.report import fused_names

_FILL = {"int8": "#cfe8cf", "dynamic": "#dcecc8", "float": "#f6dcc8", "border": "#e8e8ee"}


def draw(model: GraphCarrier | fx.GraphModule, path: str | Path) -> Path:
    """Draw a prepared or quantized model, or a GraphModule, to ``path``.

    Observers, quantize/dequantize pairs and parameters are left out: green nodes run in int8, orange ones in float,
    and an edge says in which scale and zero point its values are held.

    Args:
        model: What ``prepare_fx``, ``convert_fx`` or ``fuse_fx`` returned.
        path: The file to write; its suffix is the format (``.svg``, ``.png``, ``.pdf``, or ``.dot`` for the source).

    Raises:
        QfxError: Graphviz's ``dot`` is needed for this format and not installed.
    """
    path = Path(path)
    source = to_dot(model)
    if path.suffix in (".dot", ".gv"):
        path.write_text(source.source, encoding="utf-8")
        return path
    try:
        path.write_bytes(source.pipe(format=path.suffix.lstrip(".") or "svg"))
    except graphviz.ExecutableNotFound as error:
        raise QfxError(
            f"Drawing {path.name} needs Graphviz's program dot, which is not on PATH.",
            remedy="Install Graphviz (Debian: apt install graphviz), or draw to a .dot file.",
        ) from error
    return path


def to_dot(model: GraphCarrier | fx.GraphModule) -> graphviz.Digraph:
    """The picture's source; ``model`` as :func:`draw` takes it.

    Raises:
        InputError: ``model`` has no graph yet.
    """
    if not isinstance(model, (GraphCarrier, fx.GraphModule)):
        raise InputError(
            f"{type(model).__name__} has no graph to draw.",
            remedy="Draw what prepare_fx, convert_fx or fuse_fx returned.",
        )
    picture = graphviz.Digraph(
        graph_attr={"rankdir": "TB", "fontname": "Helvetica"},
        node_attr={"shape": "box", "style": "rounded,filled", "fontname": "Helvetica", "fontsize": "11"},
        edge_attr={"fontname": "Helvetica", "fontsize": "9", "color": "#555555"},
    )
    for node in model.graph.nodes:
        if not _is_shown(node):
            continue
        picture.node(node.name, _label(node), fillcolor=_FILL[_kind(node)], tooltip=node.meta.get("source") or "")
        for source, qparams in _sources(node):
            picture.edge(source.name, node.name, label=_edge(qparams))
    return picture


def _is_shown(node: fx.Node) -> bool:
    op = op_of(node)
    hidden = node.op == "get_attr" or "observer" in node.meta or node.target in (qdq.quantize, qdq.dequantize)
    return not hidden and not (op is not None and op.name == "size")


def _kind(node: fx.Node) -> str:
    if node.op in ("placeholder", "output"):
        return "border"
    return decision_of(node).kind


def _label(node: fx.Node) -> str:
    if node.op in ("placeholder", "output"):
        return str(node.target)
    op = op_of(node)
    name = op.name if op is not None else str(getattr(node.target, "__name__", node.target))
    title = "+".join((name, *fused_names(node)))
    lines = [title, node.meta.get("module_path") or "", _shape(node)]
    return "\n".join(line for line in lines if line)


def _shape(node: fx.Node) -> str:
    shape = node.meta.get("shape")
    return "x".join(map(str, shape)) if shape is not None else ""


def _sources(node: fx.Node) -> Iterator[tuple[fx.Node, QParams | None]]:
    """The shown nodes whose values ``node`` reads, each with the qparams it reads them in."""
    for operand in node.all_input_nodes:
        source, qparams = operand, None
        while not _is_shown(source) and source.op != "get_attr" and source.all_input_nodes:
            qparams = qparams or source.meta.get("qparams")
            source = source.all_input_nodes[0]
        if source.op != "get_attr":
            yield source, qparams


def _edge(qparams: QParams | None) -> str:
    if qparams is None:
        return ""
    scale, zero_point = qparams.per_tensor()
    return f"{qparams.dtype.name} {scale:.3g}, {zero_point}"
