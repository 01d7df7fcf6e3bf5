"""What must be true of a model that a file describes, before any of it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from qfx.errors import RuntimeLoadError
from qfx.file.known import require_known
from qfx.file.malformed import MalformedError
from qfx.ir.attributes import attribute, is_tensor, read_qparams
from qfx.ir.levels import LEVELS, violations
from qfx.ir.nodes import keyword, path
from qfx.models import QuantizedModel
from qfx.ops import qdq
from qfx.ops.qdq.decode import StoredWeight
from qfx.ops.table import op_of
from qfx.passes.stored import require_graph


def require_sound(model: QuantizedModel) -> None:
    """Raise unless ``model`` is at the QDQ level, and its qparams are numbers.

    Raises:
        MalformedError: It is not.
    """
    if not isinstance(model.info, dict) or model.level != "qdq":
        raise MalformedError(f"It is no model at the level 'qdq', but at {model.level!r}.")
    for node in model.graph.find_nodes(op="get_attr"):
        if not is_tensor(model, path(node)):
            raise MalformedError(f"There is no tensor at {node.target!r}.", node=node.name)
    for node in model.graph.find_nodes(op="call_module"):
        if not _is_module(model, path(node)):
            raise MalformedError(f"There is no module at {node.target!r}.", node=node.name)
    model.graph.lint()
    rules: Any = model, LEVELS["qdq"], lambda target: getattr(op_of(target), "name", None)
    wrong = next(violations(*rules), None)
    if wrong is not None:
        raise MalformedError(f"{wrong}.", node=wrong.node.name)
    for node in model.graph.nodes:
        if node.target in _REQUIRE:
            try:
                _REQUIRE[node.target](model, node)
            except MalformedError as error:
                raise MalformedError(str(error), node=node.name) from error
    require_graph(model, model.graph)
    require_known(model.info, model.graph)


def _is_module(model: nn.Module, at: str) -> bool:
    """Whether a module is at a path of children."""
    owner: Any = model
    for name in at.split("."):
        owner = owner._modules.get(name)
        if owner is None:
            return False
    return True


def _require_qparams(model: QuantizedModel, node: fx.Node) -> None:
    """Raise unless scale and zero point are constants of one shape, and the range of integers is one."""
    if len(node.args) != 3 or not all(isinstance(a, fx.Node) for a in node.args):
        raise MalformedError(f"{node.name} has no scale and zero point.")
    named: Any = node.args[1:]
    if any(n.op != "get_attr" for n in named):
        raise MalformedError(f"{node.name} has a scale or zero point that is no constant.")
    scale, zero = (attribute(model, path(n)) for n in named)
    if not scale.is_floating_point() or zero.dtype != torch.int64 or scale.shape != zero.shape or scale.dim() > 1:
        raise MalformedError(
            f"{node.name} has a scale of {scale.dtype} and a zero point of {zero.dtype}, or their shapes."
        )
    if node.target is qdq.quantize:
        qparams = read_qparams(model, node)
        if not qparams.dtype.qmin <= qparams.qmin < qparams.qmax <= qparams.dtype.qmax:
            raise MalformedError(f"{node.name} quantizes to {qparams.qmin}..{qparams.qmax}.")


def _require_stored(model: QuantizedModel, node: fx.Node) -> None:
    """Raise unless the operands of a weight to decode are constants that are one."""
    operands = (*node.args, None, None)[:3]
    if not all(a is None or (isinstance(a, fx.Node) and a.op == "get_attr") for a in operands) or operands[0] is None:
        raise MalformedError(f"{node.name} decodes what is no constant.")
    codes, scale, zero = (attribute(model, path(a)) if isinstance(a, fx.Node) else None for a in operands)
    assert codes is not None
    wrong = StoredWeight(codes, scale, zero, keyword(node, "shape")).problem()
    if wrong is not None:
        raise MalformedError(f"{node.name} decodes {wrong}.")


_REQUIRE: dict[Any, Callable[[QuantizedModel, fx.Node], None]] = {
    qdq.quantize: _require_qparams,
    qdq.dequantize: _require_qparams,
    qdq.decode_weight: _require_stored,
}
"""What is checked of the nodes that quantize, by their function."""


def require_programs(model: QuantizedModel) -> None:
    """Raise unless programs can be made of ``model``, where the shapes of its inputs are known.

    Raises:
        MalformedError: They can't.
        RuntimeLoadError: Its instruction set is unknown or not available on this CPU.
    """
    if model.info.get("example_inputs") is None:
        return
    try:
        model.compiled  # noqa: B018
    except RuntimeLoadError:
        raise
    except Exception as error:
        raise MalformedError(f"No program can be made of it: {error}") from error
