"""Running calibration data through a prepared model, whatever form it comes in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from qfx.batches import Signature, split_batch
from qfx.errors import CalibrationError, InputError
from qfx.inputs import is_foreign_array
from qfx.logs import logger
from qfx.models import PreparedModel
from qfx.progress import bar, length

_log = logger(__name__)

Calibration = Iterable[Any] | Callable[[nn.Module], Any]


def calibrate(prepared: PreparedModel, data: Calibration, *, progress: bool = True) -> None:
    """Run ``data`` through ``prepared`` without gradients.

    Args:
        prepared: The model to calibrate.
        data: A callable that takes the model, or an iterable of batches: tensors, tuples or lists of inputs, or dicts
            of inputs by name. What a batch holds beyond the model's inputs is taken for a label when it is last.
        progress: Whether to show a bar where stderr is a terminal.

    Raises:
        CalibrationError: ``data`` is empty, is no iterable, or holds a batch that does not fit the model's inputs.
    """
    with torch.no_grad(), prepared.observing():
        if callable(data) and not isinstance(data, Iterable):
            data(prepared)
            return
        count, signature = 0, Signature.of_graph(prepared.graph, prepared.info.get("example_inputs"))
        for batch in bar(iterate(data), "calibrating", "batch", shown=progress):
            args, kwargs = split_batch(signature, batch, count)
            observe_batch(prepared, args, kwargs, count)
            count += 1
    _log.info("calibrated on %d batches", count)
    if count == 0:
        raise CalibrationError(
            "The calibration data is empty.",
            why="Observers need at least one batch to find the ranges of activations.",
            remedy="Pass 8 to 64 batches that look like real inputs; an exhausted generator must be made anew.",
        )


def observe_batch(prepared: PreparedModel, args: tuple[Any, ...], kwargs: dict[str, Any], index: int) -> None:
    """Run one batch through ``prepared``; errors name its number.

    Raises:
        CalibrationError: The batch does not run through the model.
    """
    try:
        prepared(*args, **kwargs)
    except InputError as error:
        raise CalibrationError(
            f"Batch {index} does not run through the model: {error.what}",
            where=error.where,
            source=error.source,
            why=error.why,
            remedy=error.remedy,
        ) from error


def first_batch(data: Calibration) -> tuple[Any, Calibration]:
    """The first batch of an iterable (None for a callable), and data that still begins with it."""
    if callable(data) and not isinstance(data, Iterable):
        return None, data
    if isinstance(data, (list, tuple)):
        return (data[0] if data else None), data
    iterator = iter(iterate(data))
    head = next(iterator, None)
    return head, ([] if head is None else _Chain(head, iterator, length(data)))


class _Chain:
    """``head`` and then the rest of an iterator, with the length of the whole if that is known."""

    def __init__(self, head: Any, rest: Iterable[Any], length: int | None) -> None:
        self.head, self.rest, self.length = head, rest, length

    def __iter__(self) -> Any:
        yield self.head
        yield from self.rest

    def __length_hint__(self) -> int:
        return self.length or 0


def iterate(data: Any) -> Iterable[Any]:
    """``data`` if it is an iterable of batches.

    Raises:
        CalibrationError: It is anything else.
    """
    if isinstance(data, (Tensor, str, Mapping)) or not isinstance(data, Iterable) or is_foreign_array(data):
        raise CalibrationError(
            f"calibration is a {type(data).__name__}, not an iterable of batches.",
            why="One array or tensor does not say where a batch begins." if hasattr(type(data), "shape") else None,
            remedy="Pass a list of batches (tensors), a DataLoader, or a function that takes the prepared model.",
        )
    return data
