"""How far int8 is from float: ``python -m benchmarks.accuracy [model ...]``.

32 calibration crops, 200 other crops; top-1 agreement with float and SQNR of the logits, qfx beside its peers.
Only EfficientNet-Lite0 has trained weights: for the others the agreement says little, the SQNR is what counts.
"""

from __future__ import annotations

import argparse
import logging

import torch

from benchmarks import contenders, photos, zoo
from benchmarks.metrics import agreement, outputs, sqnr
from benchmarks.report import header, row
from benchmarks.workloads import workload

BATCH = 8  # some peers take one batch size only: the number of images is a multiple of it


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=[zoo.PRETRAINED], help=f"of {', '.join(zoo.NAMES)}")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--contenders", default=",".join(contenders.QUANTIZED))
    options = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    chosen = [name for name in options.contenders.split(",") if not contenders.missing(name)]
    batches = [(batch,) for batch in photos.evaluation(options.images, BATCH)]
    header("model", "", f"top-1 agreement, {options.images} crops", "SQNR dB")
    for network in options.models:
        given = workload(network)
        reference = outputs(given.load(), batches)
        for name in chosen:
            with torch.inference_mode():
                other = outputs(contenders.TABLE[name].load(given, BATCH, torch.get_num_threads()), batches)
            row(network, name, f"{agreement(reference, other):.3f}", f"{sqnr(reference, other):.1f}")


if __name__ == "__main__":
    main()
