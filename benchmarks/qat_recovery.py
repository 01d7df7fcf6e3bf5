"""How much of the accuracy that quantization costs training brings back: ``python -m benchmarks.qat_recovery``.

The network, data and training of ``examples/qat.py``, on several seeds: splits, initial weights and channel ranges.
"""

from __future__ import annotations

import argparse
import statistics

import torch

import qfx
from benchmarks.report import header, row
from examples import qat


def percent(values: list[float]) -> str:
    """Mean and standard deviation."""
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="two or more")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    header("weights", "seed", "float %", "after calibration %", "after training %", "of the loss recovered %")
    for precision in qat.PRECISIONS:
        columns: list[list[float]] = [[], [], []]
        for seed in range(options.seeds):
            digits = qat.Digits.split(seed)
            net = qat.float_network(digits, seed)
            ptq = qfx.quantize_fx(net, {"": precision.post_training()}, digits.calibration())
            trained = qat.after_training(net, digits, precision, lambda *unused: None)
            accuracies = [digits.accuracy(model) for model in (net, ptq, trained)]
            for column, accuracy in zip(columns, accuracies, strict=True):
                column.append(accuracy)
            row(precision.title, seed, *(f"{a:.2f}" for a in accuracies), f"{recovered(*accuracies):.0f}")
        means = [statistics.mean(column) for column in columns]
        row(precision.title, "mean ± deviation", *map(percent, columns), f"{recovered(*means):.0f} of the mean loss")


def recovered(real: float, calibrated: float, trained: float) -> float:
    """Percent of ``real - calibrated`` that ``trained`` gains."""
    return 100.0 * (trained - calibrated) / (real - calibrated)


if __name__ == "__main__":
    main()
