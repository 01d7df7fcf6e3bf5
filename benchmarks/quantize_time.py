"""How long quantizing takes: ``python -m benchmarks.quantize_time [model ...]``.

The float network's forward over the 32 calibration crops is the unit. Each contender starts from the float module and
ends with something that runs int8; onnxruntime's time includes no export.
"""

from __future__ import annotations

import argparse
import copy
import functools
import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks import bench, contenders, peers, zoo
from benchmarks.report import header, row
from benchmarks.workloads import Tensors, Workload, workload


def seconds(action: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def float_forward(model: torch.nn.Module, batches: list[Tensors]) -> float:
    """Seconds that the float model takes for all batches, after one untimed batch; the better of two."""

    def once() -> None:
        with torch.inference_mode():
            for batch in batches:
                model(*batch)

    model(*batches[0])
    return min(seconds(once), seconds(once))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["resnet50"], help=f"of {', '.join(zoo.NAMES)}")
    parser.add_argument("--threads", type=int, default=bench.THREADS)
    parser.add_argument("--without-qfx", action="store_true")
    options = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    torch.set_num_threads(options.threads)
    header("model", "", f"seconds, {options.threads} threads", "times the float forward")
    for name in options.models:
        given = _loaded(workload(name))
        batches = given.calibration()
        unit = float_forward(given.load(), batches)
        row(name, f"float forward of {sum(len(first) for first, *_ in batches)} samples", f"{unit:.2f}", 1)
        for label, action in quantizers(given, with_qfx=not options.without_qfx).items():
            taken = seconds(action)
            row(name, label, f"{taken:.2f}", f"{taken / unit:.1f}")


def _loaded(given: Workload) -> Workload:
    """The same, with the network in memory: what makes it is no part of quantizing."""
    return replace(given, load=functools.partial(copy.deepcopy, given.load()))


def quantizers(given: Workload, *, with_qfx: bool) -> dict[str, Callable[[], object]]:
    """What is timed, by its label."""
    actions: dict[str, Callable[[], object]] = {}
    if with_qfx:
        actions[contenders.OURS] = lambda: contenders.quantize(given)
    actions["torch.ao onednn"] = lambda: _in_folder(lambda to: peers.quantize_torch_ao(given, "onednn", to))
    if not peers.missing("onnxruntime int8"):
        peers.onnx_file(given)
        actions["onnxruntime int8"] = lambda: _in_folder(lambda to: peers.quantize_onnx(given, to))
    if not peers.missing("openvino int8"):
        actions["openvino int8"] = lambda: _in_folder(lambda to: peers.quantize_nncf(given, to))
    return actions


def _in_folder(quantize: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        quantize(Path(folder))


if __name__ == "__main__":
    main()
