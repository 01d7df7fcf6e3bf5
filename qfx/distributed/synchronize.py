"""The same observer state, and so the same quantization parameters, on every rank."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import nn

from qfx.distributed.merge import merged
from qfx.errors import CalibrationError, InputError, QfxError
from qfx.quantization.fake_quantize import FakeQuantizeBase
from qfx.quantization.observer import ChannelMean, Observer
from qfx.quantization.observer.base import State, resize_buffer

Group = Any
"""A ``torch.distributed.ProcessGroup``; None for all ranks."""
Result = TypeVar("Result")


def synchronize(model: nn.Module, group: Group = None) -> nn.Module:
    """Give every observer and fake-quantize module of ``model`` the state of all ranks together; returns ``model``.

    Call it on every rank, after each has run its batches; a rank may have had none. With observers of minimum and
    maximum and :class:`~qfx.HistogramObserver` the quantization parameters are, bit for bit, those of one process
    that saw all batches. A moving average becomes the mean over the ranks that saw data: to have that of the
    joint batches, train within :func:`synchronized_observers`; to calibrate in the order of one process use
    :func:`calibrate`. Does nothing where ``torch.distributed`` is not initialized.

    Args:
        model: The same prepared model on every rank, wrapped for data parallel training or not.
        group: The ranks that take part.

    Raises:
        InputError: The ranks' models have different observers.
        CalibrationError: Ranks met different numbers of channels.
        UnsupportedError: An observer of a class of its own has no ``merged_state``.
    """
    if world_size(group) == 1:
        return model
    observers = dict(_observers(model))
    _require_equal(observers, group)
    problem: QfxError | None = None
    for observer in observers.values():
        states: list[State] = gather({n: b.detach().cpu() for n, b in observer.named_buffers(recurse=False)}, group)
        try:
            _restore(observer, merged(observer, states))
        except QfxError as error:  # on every rank alike; the other observers' exchanges go on
            problem = problem or error
    if problem is not None:
        raise problem
    for module in model.modules():
        if isinstance(module, FakeQuantizeBase):
            _refresh(module)
    return model


def _observers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_modules():
        if isinstance(module, (Observer, ChannelMean)):
            yield name.removeprefix("module."), module


def _require_equal(observers: dict[str, nn.Module], group: Group) -> None:
    """Raise, on every rank, unless all ranks have the same observers."""
    each = gather([(name, type(m).__name__) for name, m in observers.items()], group)
    for rank, theirs in enumerate(each):
        different = next((a or b for a, b in _beside(each[0], theirs) if a != b), None)
        if different is not None:
            raise InputError(
                f"Rank {rank} has other observers than rank 0: they differ at {different[0]!r}.",
                why="States are exchanged observer by observer.",
                remedy="Prepare the same model with the same qconfig_dict and example inputs on every rank.",
            )


def _beside(ours: list[Any], theirs: list[Any]) -> Iterator[tuple[Any, Any]]:
    for i in range(max(len(ours), len(theirs))):
        yield ours[i] if i < len(ours) else None, theirs[i] if i < len(theirs) else None


def _restore(observer: nn.Module, state: State) -> None:
    for name, value in state.items():
        with torch.no_grad():
            resize_buffer(observer, name, value.shape).copy_(value)


def _refresh(module: FakeQuantizeBase) -> None:
    """Scale and zero point of a fake-quantize module as its observer has them now."""
    if "scale" not in module._buffers or not isinstance(getattr(module, "activation_post_process", None), Observer):
        return
    try:
        scale, zero_point = module.calculate_qparams()
    except CalibrationError:  # no rank saw data
        return
    resize_buffer(module, "scale", scale.shape).copy_(scale)
    resize_buffer(module, "zero_point", zero_point.shape).copy_(zero_point)


def world_size(group: Group = None) -> int:
    """How many ranks there are; 1 where nothing is distributed."""
    return dist.get_world_size(group) if dist.is_available() and dist.is_initialized() else 1


def rank_in(group: Group = None) -> int:
    """This process's rank; 0 where nothing is distributed."""
    return dist.get_rank(group) if world_size(group) > 1 else 0


def gather(value: Result, group: Group = None) -> list[Result]:
    """Every rank's ``value`` in order of rank, on every rank."""
    count = world_size(group)
    if count == 1:
        return [value]
    values: list[Any] = [None] * count
    dist.all_gather_object(values, value, group)
    return values


def on_every_rank(work: Callable[[], Result], group: Group = None) -> Result:
    """The result of ``work``, which exchanges nothing; where it fails on any rank, all ranks raise that error.

    Without it the others would wait for a rank that is gone.

    Raises:
        QfxError: The first rank's own error; on the other ranks the same, which names the rank.
    """
    error: Exception | None = None
    result: Any = None
    try:
        result = work()
    except Exception as caught:
        error = caught
    errors = gather(None if error is None else _portable(error), group)
    if error is not None:
        raise error
    failed = next((rank for rank, theirs in enumerate(errors) if theirs is not None), None)
    if failed is not None:
        raise _told_elsewhere(failed, errors[failed])
    return result


def _told_elsewhere(rank: int, error: Any) -> QfxError:
    """``error`` of another rank, for this one."""
    told = copy.copy(error)
    QfxError.__init__(
        told,
        f"On rank {rank}: {error.what}",
        where=error.where,
        source=error.source,
        why=error.why,
        remedy=error.remedy,
    )
    return cast(QfxError, told)


def _portable(error: Exception) -> QfxError:
    """``error`` as one that any process can unpickle."""
    if isinstance(error, QfxError):
        return error
    return QfxError(f"{type(error).__name__}: {error}", remedy="Look at that rank's own message.")
