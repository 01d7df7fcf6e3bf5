"""Telling a model's inputs apart from what else a batch holds."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from qfx.errors import CalibrationError
from qfx.inputs import is_foreign_array

_LABELS = frozenset({"label", "labels", "target", "targets", "y"})


@dataclass(frozen=True)
class Signature:
    """The inputs a model takes.

    Attributes:
        names: In order.
        required: How many have no default.
        open_ended: Whether it takes more (``*args``).
        by_name_only: How many of ``names``, the last ones, a tuple can't hold.
    """

    names: tuple[str, ...]
    required: int
    open_ended: bool = False
    by_name_only: int = 0

    @classmethod
    def of_model(cls, model: nn.Module) -> Signature:
        """From ``model.forward``."""
        if isinstance(model, torch.jit.ScriptModule):
            arguments = model.forward.schema.arguments[1:]  # type: ignore[attr-defined]
            return cls(tuple(a.name for a in arguments), sum(not a.has_default_value() for a in arguments))
        parameters = inspect.signature(model.forward).parameters.values()
        plain = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        required = sum(p.default is p.empty for p in plain)
        variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        return cls(tuple(p.name for p in plain), required, variadic, sum(p.kind is p.KEYWORD_ONLY for p in plain))

    @classmethod
    def of_graph(cls, graph: fx.Graph) -> Signature:
        """From the placeholders of a graph."""
        nodes = graph.find_nodes(op="placeholder")
        return cls(tuple(str(n.target) for n in nodes), sum(not n.args and "default" not in n.meta for n in nodes))


def _require_end(batch: Any, index: int, outer: tuple[int, ...] = ()) -> None:
    """Raise for a container that holds itself."""
    if not isinstance(batch, (list, tuple, Mapping)):
        return
    if id(batch) in outer:
        raise CalibrationError(f"Batch {index} holds itself.", remedy="Yield the inputs of forward(), in order.")
    for item in batch.values() if isinstance(batch, Mapping) else batch:
        _require_end(item, index, (*outer, id(batch)))


def split_batch(signature: Signature, batch: Any, index: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword inputs in one batch, a trailing label left out.

    Args:
        signature: The model's inputs.
        batch: A tensor, a tuple or list of inputs, or a dict of inputs by name.
        index: The batch's number, for errors.

    Raises:
        CalibrationError: The batch does not fit the signature.
    """
    _require_end(batch, index)
    if isinstance(batch, Mapping):
        named = _named(signature, batch, index)
        _require_tensors(named.values(), index)
        return (), named
    values = tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
    if signature.open_ended:
        _require_tensors(values, index)
        return values, {}
    most = len(signature.names) - signature.by_name_only
    if len(values) == most + 1 or (len(values) == signature.required + 1 and _is_label(values[-1])):
        values = values[:-1]
    if not signature.required <= len(values) <= most:
        raise CalibrationError(
            f"Batch {index} holds {len(values)} values, but the model takes {', '.join(signature.names)}.",
            remedy="Yield the inputs in the order of forward(), at most one label behind them.",
        )
    _require_tensors(values, index)
    return values, {}


def _require_tensors(values: Iterable[Any], index: int) -> None:
    for value in values:
        if is_foreign_array(value):
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            raise CalibrationError(
                f"Batch {index} holds a {kind} where a tensor belongs.",
                why="The model computes with torch tensors only.",
                remedy="Yield torch.from_numpy(array) in its place, or wrap the arrays in a DataLoader.",
            )


def _named(signature: Signature, batch: Mapping[str, Any], index: int) -> dict[str, Any]:
    unknown = [k for k in batch if k not in signature.names and k not in _LABELS]
    if unknown:
        raise CalibrationError(
            f"Batch {index} names {', '.join(map(repr, unknown))}, but the model takes {', '.join(signature.names)}.",
            remedy="Use the names of forward()'s parameters as keys.",
        )
    return {k: v for k, v in batch.items() if k in signature.names}


def _is_label(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.dim() <= 1 and not value.dtype.is_floating_point
    if is_foreign_array(value):
        return len(value.shape) <= 1 and value.dtype.kind in "iub"
    return isinstance(value, int)
