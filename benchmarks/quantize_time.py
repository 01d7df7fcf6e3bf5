"""How long quantizing takes: ``python -m benchmarks.quantize_time [model ...]``.

The float network's forward over the 32 calibration crops is the unit. Each contender starts from the float module and
ends with something that runs int8; onnxruntime's time includes no export.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable

import torch

from benchmarks import bench, peers, photos, zoo
from benchmarks.report import header, row


def seconds(action: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def float_forward(model: torch.nn.Module, batches: list[torch.Tensor]) -> float:
    """Seconds that the float model takes for all batches, after one untimed batch; the better of two."""

    def once() -> None:
        with torch.inference_mode():
            for batch in batches:
                model(batch)

    model(batches[0])
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
        model, batches = zoo.plain(zoo.load(name)), photos.calibration()
        unit = float_forward(model, batches)
        row(name, f"float forward of {sum(map(len, batches))} images", f"{unit:.2f}", 1)
        for label, action in quantizers(name, model, with_qfx=not options.without_qfx).items():
            taken = seconds(action)
            row(name, label, f"{taken:.2f}", f"{taken / unit:.1f}")


def quantizers(name: str, model: torch.nn.Module, *, with_qfx: bool) -> dict[str, Callable[[], object]]:
    """What is timed, by its label."""
    actions: dict[str, Callable[[], object]] = {}
    if with_qfx:
        actions[bench.OURS] = lambda: bench.qfx_contender(model)
    actions["torch.ao onednn"] = lambda: peers.TABLE["torch.ao onednn"](model, name)
    if peers.available("onnxruntime int8"):
        source = peers.onnx_file(model, name)
        target = source.with_name(f"{source.stem}-timed.onnx")
        actions["onnxruntime int8"] = lambda: peers.quantize_onnx(source, target)
    return actions


if __name__ == "__main__":
    main()
