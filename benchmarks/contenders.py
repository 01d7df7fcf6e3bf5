"""Everyone who takes part: qfx, and its peers."""

from __future__ import annotations

import functools

import torch
from torch import nn

from benchmarks import peers
from benchmarks.peers import Call, Peer
from benchmarks.workloads import Workload, workload

OURS = "qfx"


def quantize(given: Workload) -> nn.Module:
    """The network quantized by qfx with its defaults."""
    import qfx

    return qfx.quantize_fx(given.load(), {"": qfx.get_default_qconfig()}, calibration=given.calibration())


@functools.cache
def _quantized(name: str) -> nn.Module:
    return quantize(workload(name))


def _load(given: Workload, _batch: int, threads: int) -> Call:
    import qfx

    torch.set_num_threads(threads)
    qfx.set_num_threads(threads)
    return _quantized(given.name)


TABLE = {OURS: Peer(_load), **peers.TABLE}
QUANTIZED = tuple(name for name, peer in TABLE.items() if peer.quantized)


def missing(name: str) -> list[str]:
    """The packages that a contender needs and that are not installed."""
    return [] if name == OURS else peers.missing(name)
