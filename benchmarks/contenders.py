"""Everyone who takes part: qfx, and its peers."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import nn

from benchmarks import peers, workloads
from benchmarks.peers import Call, Peer
from benchmarks.workloads import Workload, workload

OURS = "qfx"
OURS_DYNAMIC = "qfx dynamic"
OURS_GROUPS = "qfx dynamic by groups"


def quantize(given: Workload) -> nn.Module:
    """The network quantized by qfx with its defaults."""
    import qfx

    return qfx.quantize_fx(given.load(), {"": qfx.get_default_qconfig()}, calibration=given.calibration())


def quantize_dynamic(given: Workload) -> nn.Module:
    """The network quantized by qfx with the default dynamic qconfig, without calibration."""
    import qfx

    return qfx.quantize_fx(given.load(), {"": qfx.default_dynamic_qconfig}, example_inputs=given.inputs(2))


def quantize_groups(given: Workload) -> nn.Module:
    """The network quantized by qfx with a scale for 32 neighbours of a row of activations, without calibration."""
    import qfx

    return qfx.quantize_fx(given.load(), {"": qfx.per_group_dynamic_qconfig}, example_inputs=given.inputs(2))


OWN: dict[str, Callable[[Workload], nn.Module]] = {
    OURS: quantize,
    OURS_DYNAMIC: quantize_dynamic,
    OURS_GROUPS: quantize_groups,
}
"""qfx's own ways, which are no peers to each other."""


@functools.cache
def quantized(contender: str, network: str) -> nn.Module:
    """What a contender of ``OWN`` makes of a network; made once."""
    return OWN[contender](workload(network))


def _load(contender: str, given: Workload, _batch: int, threads: int) -> Call:
    import qfx

    torch.set_num_threads(threads)
    qfx.set_num_threads(threads)
    return quantized(contender, given.name)


TABLE = {**{name: Peer(functools.partial(_load, name)) for name in OWN}, **peers.TABLE}
QUANTIZED = (OURS, *(name for name, peer in peers.TABLE.items() if peer.quantized and not peer.dynamic))
ENCODING = (OURS, OURS_DYNAMIC, "torch fp32", "openvino int8", "onnxruntime dynamic")


def usual(network: str) -> tuple[str, ...]:
    """Who is measured on a network unless the command says otherwise."""
    return ENCODING if network in workloads.ENCODERS else QUANTIZED


def missing(name: str) -> list[str]:
    """The packages that a contender needs and that are not installed."""
    return [] if name in OWN else peers.missing(name)
