"""Post-training calibration over ranks, in the order of one process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from qfx import calibration
from qfx.batches import Signature, split_batch
from qfx.distributed.synchronize import Group, gather, on_every_rank, rank_in, synchronize, world_size
from qfx.errors import CalibrationError
from qfx.models import PreparedModel
from qfx.quantization.observer import MovingAverageMinMaxObserver, MovingAveragePerChannelMinMaxObserver

_AVERAGES = (MovingAverageMinMaxObserver, MovingAveragePerChannelMinMaxObserver)


def calibrate(prepared: PreparedModel, data: Iterable[Any], group: Group = None) -> PreparedModel:
    """Calibrate ``prepared`` with ``data``, of which each rank runs its share; returns ``prepared``.

    Rank ``r`` of ``n`` runs the batches ``r``, ``r + n``, ``r + 2 n`` and so on. Observers of minimum and maximum,
    moving averages of them and :class:`~qfx.HistogramObserver` end, on every rank, with the state of one process that
    ran all batches in order: bit for bit, if that has as many torch threads. Input statistics for bias correction and
    rounding are sums in another order. Moving averages inside of fake-quantize modules are those of
    :func:`synchronize`.

    Args:
        prepared: What ``prepare_fx`` returned, the same on every rank.
        data: The same batches in the same order on every rank.
        group: The ranks that take part.

    Raises:
        CalibrationError: There is no batch, or one does not fit the model; on every rank.
        QfxError: As of :func:`synchronize`.
    """
    with _logged(prepared) as log:
        count = on_every_rank(lambda: _run_share(prepared, data, log, group), group)
    if count == 0:
        raise CalibrationError(
            "The calibration data is empty.",
            why="Observers need at least one batch to find the ranges of activations.",
            remedy="Pass 8 to 64 batches that look like real inputs.",
        )
    synchronize(prepared, group)
    log.replay(prepared, group)
    return prepared


def _run_share(prepared: PreparedModel, data: Iterable[Any], log: _Log, group: Group) -> int:
    """Run this rank's batches; how many there are on all ranks."""
    rank, ranks, count = rank_in(group), world_size(group), 0
    signature = Signature.of_graph(prepared.graph, prepared.info.get("example_inputs"))

    def run(_: nn.Module) -> None:
        nonlocal count
        for batch in calibration.iterate(data):
            if count % ranks == rank:
                log.batch = count
                calibration.observe_batch(prepared, *split_batch(signature, batch, count), count)
            count += 1

    calibration.calibrate(prepared, run)
    return count


@dataclass(frozen=True)
class _Extremes:
    """What a moving average met in one call: the batch, and its minimum and maximum."""

    batch: int
    low: Tensor
    high: Tensor


@dataclass
class _Log:
    """What the moving averages of a model met, by module path."""

    met: dict[str, list[_Extremes]] = field(default_factory=dict)
    batch: int = 0

    def replay(self, model: nn.Module, group: Group) -> None:
        """Average over the batches of all ranks, in order."""
        for path, calls in self.met.items():
            observer: Any = model.get_submodule(path)
            everywhere = [call for each in gather(calls, group) for call in each]
            if not everywhere:  # of a fake-quantize module, which asks its observer for nothing but the state
                continue
            observer.reset_min_max_vals()
            for call in sorted(everywhere, key=lambda call: call.batch):  # stable: calls of a batch keep their order
                observer.observe_extremes(call.low, call.high)


@contextmanager
def _logged(model: nn.Module) -> Iterator[_Log]:
    """While active, moving averages start anew at each call and their extremes are logged."""
    log, handles = _Log(), []
    for path, module in model.named_modules():
        if isinstance(module, _AVERAGES):
            calls = log.met.setdefault(path, [])
            handles.append(module.register_forward_pre_hook(_start_anew))
            handles.append(module.register_forward_hook(_logging(log, calls)))
    try:
        yield log
    finally:
        for handle in handles:
            handle.remove()


def _start_anew(observer: Any, _: Any) -> None:
    observer.reset_min_max_vals()


def _logging(log: _Log, calls: list[_Extremes]) -> Any:
    def after(observer: Any, _: Any, __: Any) -> None:
        if observer.min_val.numel() and bool((observer.min_val <= observer.max_val).all()):
            calls.append(_Extremes(log.batch, observer.min_val.cpu().clone(), observer.max_val.cpu().clone()))

    return after
