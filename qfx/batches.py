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
from qfx.ir.nodes import default_of, has_default

_LABELS = frozenset({"label", "labels", "target", "targets", "y"})


@dataclass(frozen=True)
class Signature:
    """The inputs a model takes.

    Attributes:
        names: In order.
        required: How many have no default.
        open_ended: Whether it takes more (``*args``).
        by_name_only: How many of ``names``, the last ones, a tuple can't hold.
        left_out: Names of those that are None unless they are given: where a tuple may hold a label in their place.
    """

    names: tuple[str, ...]
    required: int
    open_ended: bool = False
    by_name_only: int = 0
    left_out: frozenset[str] = frozenset()

    @classmethod
    def of_model(cls, model: nn.Module) -> Signature:
        """From ``model.forward``."""
        if isinstance(model, torch.jit.ScriptModule):
            arguments = model.forward.schema.arguments[1:]  # type: ignore[attr-defined]
            left_out = frozenset(a.name for a in arguments if a.has_default_value() and a.default_value is None)
            required = sum(not a.has_default_value() for a in arguments)
            return cls(tuple(a.name for a in arguments), required, left_out=left_out)
        parameters = inspect.signature(model.forward).parameters.values()
        plain = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        required = sum(p.default is p.empty for p in plain)
        variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        by_name_only = sum(p.kind is p.KEYWORD_ONLY for p in plain)
        left_out = frozenset(p.name for p in plain if p.default is None)
        return cls(tuple(p.name for p in plain), required, variadic, by_name_only, left_out)

    @classmethod
    def of_graph(cls, graph: fx.Graph, described: Iterable[Any] | None = None) -> Signature:
        """From the placeholders of a graph.

        Args:
            graph: The graph.
            described: What :func:`qfx.inputs.describe` said of the example inputs, which were no labels.
        """
        nodes = graph.find_nodes(op="placeholder")
        names = [str(node.target) for node in nodes]
        given = {name for name, what in zip(names, described or (), strict=False) if what[1] is not None}
        left_out = {
            name for node, name in zip(nodes, names, strict=True) if has_default(node) and default_of(node) is None
        }
        return cls(tuple(names), sum(not has_default(node) for node in nodes), left_out=frozenset(left_out - given))


def _require_end(batch: Any, index: int, outer: tuple[int, ...] = ()) -> None:
    """Raise for a container that holds itself."""
    if not isinstance(batch, (list, tuple, Mapping)):
        return
    if id(batch) in outer:
        raise CalibrationError(f"Batch {index} holds itself.", remedy="Yield the inputs of forward(), in order.")
    for item in batch.values() if isinstance(batch, Mapping) else batch:
        _require_end(item, index, (*outer, id(batch)))


def split_batch(
    signature: Signature, batch: Any, index: int, *, labeled: bool = True
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword inputs in one batch, a trailing label left out.

    A value behind the inputs that the model has is a label. So is an integer, or a row of them, where an input would be
    that is None unless it is given.

    Args:
        signature: The model's inputs.
        batch: A tensor, a tuple or list of inputs, or a dict of inputs by name.
        index: The batch's number, for errors.
        labeled: Whether the latter may be: not of inputs that the user calls example inputs.

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
    if len(values) == most + 1 or (labeled and _ends_in_label(signature, values)):
        values = values[:-1]
    if not signature.required <= len(values) <= most:
        raise CalibrationError(
            f"Batch {index} holds {len(values)} values, but the model takes {', '.join(signature.names)}.",
            remedy="Yield the inputs in the order of forward(), at most one label behind them.",
        )
    _require_tensors(values, index)
    return values, {}


def without_label(model: Any, batch: Any) -> Any:
    """The first batch of calibration data as example inputs of ``model``.

    Raises:
        CalibrationError: It does not fit the model's inputs.
    """
    if batch is None or not isinstance(model, nn.Module):
        return batch
    args, kwargs = split_batch(Signature.of_model(model), batch, 0)
    return kwargs or args


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


def _ends_in_label(signature: Signature, values: tuple[Any, ...]) -> bool:
    """Whether ``values`` hold what the model needs, and a label where its next input would be."""
    needed = signature.required
    return len(values) == needed + 1 and signature.names[needed] in signature.left_out and _is_label(values[-1])


def _is_label(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.dim() <= 1 and not value.dtype.is_floating_point
    if is_foreign_array(value):
        return len(value.shape) <= 1 and value.dtype.kind in "iub"
    return isinstance(value, int) and not isinstance(value, bool)
