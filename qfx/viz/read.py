"""Graphs of every level as scenes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx, nn

from qfx.errors import InputError
from qfx.ir.levels import is_dim_arithmetic, is_opaque
from qfx.ir.module import GraphCarrier
from qfx.ir.nodes import decision_of
from qfx.ir.types import QParams
from qfx.models import PreparedModel, QuantizedModel
from qfx.observed import capture_normal
from qfx.ops import qdq
from qfx.ops.table import op_of
from qfx.patterns.replacement import RULES
from qfx.viz.program import read_program
from qfx.viz.scene import Arrow, Box, Scene, Value


@dataclass(frozen=True)
class Level:
    """One level at which a model can be drawn.

    Attributes:
        title: What the picture is called.
        kinds: Classes of models that have it.
        read: Makes the scene.
    """

    title: str
    kinds: tuple[type, ...]
    read: Callable[[Any, Any], Scene]


def read(model: Any, level: str | None = None, example_inputs: Any = None) -> Scene:
    """The scene of ``model`` at ``level``.

    Args:
        model: A float module, an fx.GraphModule, or what ``prepare_fx`` or ``convert_fx`` returned.
        level: ``"float"``, ``"observed"``, ``"qdq"``, ``"int8"`` or ``"program"``; None: the one that the model has, of
            a quantized model ``"int8"``, or ``"qdq"`` while its inputs' shapes are unknown.
        example_inputs: Inputs that show the shapes in a float module.

    Raises:
        InputError: ``model`` is nothing that can be drawn, or has no such level.
        CaptureError: A float module can't be traced.
    """
    possible = [name for name, row in LEVELS.items() if _has(model, row)]
    if not possible:
        raise InputError(
            f"{type(model).__name__} has no graph to draw.",
            remedy="Draw an nn.Module, or what prepare_fx, convert_fx, quantize_fx or fuse_fx returned.",
        )
    if level is None:
        level = _natural(model, possible)
    if level not in possible:
        raise InputError(
            f"{type(model).__name__} has no level {level!r}.",
            why=f"Levels of a {type(model).__name__}: {', '.join(possible)}.",
            remedy="Name one of them, or draw the model at the stage that has the level.",
        )
    return LEVELS[level].read(model, example_inputs)


def _has(model: object, row: Level) -> bool:
    if row.kinds == (nn.Module,):
        return isinstance(model, nn.Module) and not isinstance(model, GraphCarrier)
    return isinstance(model, row.kinds)


def _natural(model: Any, possible: list[str]) -> str:
    if isinstance(model, QuantizedModel):
        return "int8" if model.info.get("example_inputs") is not None else "qdq"
    return possible[0]


def _float(model: nn.Module, example_inputs: Any) -> Scene:
    if isinstance(model, fx.GraphModule):
        return read_graph(model, "float")
    return read_graph(capture_normal(model, example_inputs), "float")


def _observed(model: PreparedModel, _: Any) -> Scene:
    return read_graph(model, "observed")


def _qdq(model: QuantizedModel, _: Any) -> Scene:
    return read_graph(model, "qdq")


def _int8(model: QuantizedModel, _: Any) -> Scene:
    return read_graph(model.compiled.root, "int8")


def _program(model: QuantizedModel, _: Any) -> Scene:
    return read_program(model, _int8(model, None))


LEVELS = {
    "float": Level("Float model", (nn.Module,), _float),
    "observed": Level("Prepared model: observers", (PreparedModel,), _observed),
    "qdq": Level("QDQ: quantize and dequantize around float ops", (QuantizedModel,), _qdq),
    "int8": Level("Int8 graph", (QuantizedModel,), _int8),
    "program": Level("Programs: what the runtime runs", (QuantizedModel,), _program),
}
"""Every level, in the order of the pipeline."""


# ---------------------------------------------------------------- one graph


def read_graph(model: Any, level: str) -> Scene:
    """The scene of an fx graph; parameters and the arithmetic of shapes are left out.

    Args:
        model: Has ``graph`` and submodules.
        level: The level that its nodes are at.
    """
    modules = dict(model.named_modules())
    nodes = [n for n in model.graph.nodes if is_shown(n)]
    boxes = _in_groups([_box(n, level, modules) for n in nodes])
    shown = {box.name for box in boxes}
    arrows = (Arrow(s.name, n.name, value_of(s, level)) for n in nodes for s in n.all_input_nodes if s.name in shown)
    return Scene(level, tuple(boxes), tuple(arrows))


def is_shown(node: fx.Node) -> bool:
    """Whether a node is a box: neither parameters nor arithmetic of shapes are."""
    op = op_of(node)
    is_parameter = node.op == "get_attr" or (node.target is qdq.dequantize and _operand(node).op == "get_attr")
    return not (is_parameter or is_dim_arithmetic(node) or (op is not None and op.name == "size"))


def _operand(node: fx.Node) -> fx.Node:
    return node.all_input_nodes[0]


def _in_groups(boxes: list[Box]) -> list[Box]:
    """The boxes, each in the groups of the modules around it."""
    around = {prefix for box in boxes for prefix in _prefixes(box.module_path)}
    return [replace(box, group=_group(box.module_path, around)) for box in boxes]


def _group(path: str, around: set[str]) -> tuple[str, ...]:
    whole = (path,) if path in around else ()
    return (*_prefixes(path), *whole)


def _prefixes(path: str) -> Iterator[str]:
    atoms = path.split(".")
    return (".".join(atoms[:i]) for i in range(1, len(atoms)))


def _box(node: fx.Node, level: str, modules: dict[str, nn.Module]) -> Box:
    op = _op(node, modules)
    reason = node.meta.get("opaque_reason") or node.meta.get("island_reason") or decision_of(node).reason
    observer = node.meta.get("observer")
    return Box(
        name=node.name,
        title=" + ".join((op, *_epilogue(node))),
        kind=_kind(node, level),
        op=op,
        module_path=node.meta.get("module_path") or "",
        source=node.meta.get("source") or "",
        reason=reason,
        notes=tuple(filter(None, (observer, *_extra(node)))),
        value=value_of(node, level),
        fused=tuple(_fused(node)),
        rules=node.meta.get(RULES, ()),
        says_notes=bool(observer),
    )


def _op(node: fx.Node, modules: dict[str, nn.Module]) -> str:
    op = op_of(node)
    if op is not None:
        return op.name
    if node.op in ("placeholder", "output"):
        return str(node.target)
    if node.op == "call_module" and str(node.target) in modules:
        return type(modules[str(node.target)]).__name__
    return str(getattr(node.target, "__name__", node.target))


def _kind(node: fx.Node, level: str) -> str:
    if node.op in ("placeholder", "output"):
        return "border"
    if "observer" in node.meta:
        return "observer"
    if node.target in (qdq.quantize, qdq.dequantize):
        return "quantize"
    if is_opaque(node) or (level == "int8" and node.meta.get("in_torch")):
        return "opaque"
    return decision_of(node).kind


def _extra(node: fx.Node) -> Iterable[str]:
    yield from node.meta.get("recovery", ())
    if node.meta.get("apart"):
        yield str(node.meta["apart"])


def _fused(node: fx.Node) -> Iterator[str]:
    yield from (name for _, name in node.meta.get("fused", ()))


def _epilogue(node: fx.Node) -> Iterator[str]:
    """What runs inside a node, in words."""
    op = op_of(node)
    if op is None:
        return
    if "residual" in op.epilogues and (node.kwargs.get("residual") is not None or len(node.args) > 3):
        yield "add"
    activation = node.kwargs.get("activation")
    if isinstance(activation, (tuple, list)) and len(activation) == 3:
        yield _clamp(*activation[1:])
    yield from node.meta.get("table_of", ())


def _clamp(low: float | None, high: float | None) -> str:
    if low == 0 and high is None:
        return "relu"
    if low == 0 and high == 6:
        return "relu6"
    return f"clamp({'' if low is None else f'{low:g}'}, {'' if high is None else f'{high:g}'})"


def value_of(node: fx.Node, level: str) -> Value:
    """What ``node`` computes, as far as its level says."""
    shape = node.meta.get("shape")
    shape = tuple(shape) if isinstance(shape, (tuple, list, torch.Size)) else None
    typed = node.meta.get("value_type")
    qparams: QParams | None = None
    if typed is not None:
        qparams = typed.qparams
    elif node.target is qdq.quantize:
        qparams = node.meta.get("qparams")
    if qparams is not None:
        return Value(qparams.dtype.name, shape, qparams)
    dtype = node.meta.get("dtype")
    return Value(str(dtype).removeprefix("torch.") if isinstance(dtype, torch.dtype) else "", shape)
