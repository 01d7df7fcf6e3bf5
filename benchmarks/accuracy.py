"""How far int8 is from float: ``python -m benchmarks.accuracy [model ...]``.

32 calibration crops, 200 other crops; top-1 agreement with float and SQNR of the logits, qfx beside its peers.
Only EfficientNet-Lite0 has trained weights: for the others the agreement says little, the SQNR is what counts.
"""

from __future__ import annotations

import argparse
import logging

from benchmarks import bench, peers, photos, zoo
from benchmarks.metrics import agreement, logits, sqnr
from benchmarks.report import header


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=[zoo.PRETRAINED], help=f"of {', '.join(zoo.NAMES)}")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--peers", default=",".join(name for name in peers.TABLE if "fp32" not in name))
    parser.add_argument("--without-qfx", action="store_true")
    options = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    chosen = [peer for peer in options.peers.split(",") if peer and peers.available(peer)]
    batches = photos.evaluation(options.images)
    header("model", "", f"top-1 agreement, {options.images} crops", "SQNR dB")
    for name in options.models:
        reference = logits(zoo.load(name), batches)
        for label, start in bench.starts(name, chosen, with_qfx=not options.without_qfx).items():
            contender = start(bench.THREADS)
            contender.prepare(bench.THREADS)
            other = logits(contender.call, batches)
            print(
                f"| {name} | {label} | {agreement(reference, other):.3f} | {sqnr(reference, other):.1f} |", flush=True
            )


if __name__ == "__main__":
    main()
