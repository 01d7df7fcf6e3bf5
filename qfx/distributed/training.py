"""Ranges that all ranks share while they train."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn

from qfx.distributed.synchronize import Group, world_size
from qfx.errors import UnsupportedError
from qfx.quantization.fake_quantize import FakeQuantize
from qfx.quantization.observer import FixedQParamsObserver, HistogramObserver, MinMaxObserver, QuantileHistogramObserver


@contextmanager
def synchronized_observers(model: nn.Module, group: Group = None) -> Iterator[nn.Module]:
    """While active, fake-quantize modules of ``model`` observe the minimum and maximum over all ranks' batches.

    So every rank has at every step the ranges that one process with the joint batch has, and nothing of them need be
    broadcast. One small all-reduce a module and forward: every rank runs as many forwards. A rank with an empty
    batch takes part. Does nothing where ``torch.distributed`` is not initialized when it begins.

    Args:
        model: Prepared for quantization-aware training, wrapped in DistributedDataParallel or not.
        group: The ranks that take part.

    Raises:
        UnsupportedError: A module's observer keeps more than minimum and maximum.
    """
    if world_size(group) == 1:
        yield model
        return
    modules = [m for m in model.modules() if isinstance(m, FakeQuantize) and _follows_data(m)]
    before = [m.synchronize for m in modules]
    for module in modules:
        module.synchronize = _Minimum(group)
    try:
        yield model
    finally:
        for module, earlier in zip(modules, before, strict=True):
            module.synchronize = earlier


class _Minimum:
    """An all-reduce of minima, in place. A group belongs to its process: a copy or an unpickled one is of all ranks."""

    def __init__(self, group: Group = None) -> None:
        self.group = group

    def __call__(self, values: Tensor) -> None:
        dist.all_reduce(values, dist.ReduceOp.MIN, self.group)

    def __reduce__(self) -> Any:
        return _Minimum, ()


def _follows_data(module: FakeQuantize) -> bool:
    observer = module.activation_post_process
    if isinstance(observer, FixedQParamsObserver):
        return False
    if isinstance(observer, MinMaxObserver) and not isinstance(
        observer, (HistogramObserver, QuantileHistogramObserver)
    ):
        return True
    raise UnsupportedError(
        f"{type(observer).__name__} can't follow the batches of all ranks.",
        where=module.label,
        source=module.source,
        why="It keeps more than minimum and maximum, which would have to be exchanged at every forward.",
        remedy="Train with MovingAverageMinMaxObserver or MinMaxObserver, or let the ranks observe on their own and "
        "call qfx.distributed.synchronize(model) once an epoch.",
    )
