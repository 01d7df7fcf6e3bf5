"""What a converted model holds in memory: ``python -m benchmarks.memory [model ...] [--batch 1]``.

The plan against the largest set of values alive at once, which no plan can undercut, and the weights as the kernels
keep them, what the executable keeps of the program's constants beside them, and the float ones.
"""

from __future__ import annotations

import argparse

from torch import nn

import qfx
from benchmarks import photos, zoo
from benchmarks.report import header, row

MB = 1e6


def quantized(name: str) -> tuple[int, nn.Module]:
    """Bytes of the float weights, and the network in int8."""
    model = zoo.load(name)
    bytes_of_float = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    qmodel = qfx.quantize_fx(model, {"": qfx.get_default_qconfig()}, calibration=photos.calibration(16))
    return bytes_of_float, qmodel


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["resnet18", "resnet50", "mobilenet_v2", "efficientnet_lite0"])
    parser.add_argument("--batch", type=int, default=1)
    options = parser.parse_args(arguments)
    columns = (
        "plan MB",
        "largest live set MB",
        "plan / live",
        "packed int8 weights MB",
        "constants beside them MB",
        "float weights MB",
    )
    header("model", *columns)
    for name in options.models:
        bytes_of_float, qmodel = quantized(name)
        images = photos.crops(options.batch, photos.TIMING_SEED)
        for part in qmodel.compiled.segments:
            if part.executable is None:
                continue
            memory = part.executable.explain(tuple(images.shape)).memory
            plan, live = memory.arena_bytes, memory.largest_live_bytes
            ratio = f"{plan / max(1, live):.2f}"
            weights = (memory.packed_bytes, memory.constant_bytes, bytes_of_float)
            row(name, *(f"{b / MB:.2f}" for b in (plan, live)), ratio, *(f"{b / MB:.2f}" for b in weights))


if __name__ == "__main__":
    main()
