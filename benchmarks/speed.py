"""int8 against float on the same threads: ``python -m benchmarks.speed [--seconds 0.2] [--rounds 6]``.

Two small networks, one of convolutions and one of linear layers, quantized with the default qconfig. Float and int8
take turns in one process, so that whatever slows the machine slows both.
"""

from __future__ import annotations

import argparse
import itertools
import statistics

import torch
from torch import Tensor, nn

import qfx
from benchmarks.report import header, row
from benchmarks.timing import Turn, summary, take_turn


def convolutions() -> tuple[nn.Module, Tensor]:
    """Five convolutions with ReLU; an image of 112 x 112."""
    layers = [nn.Conv2d(3, 64, 3, 2, 1), *(nn.Conv2d(64, 64, 3, 1, 1) for _ in range(4))]
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU()))), torch.randn(1, 3, 112, 112)


def linears() -> tuple[nn.Module, Tensor]:
    """Two linear layers with ReLU between; 64 vectors."""
    return nn.Sequential(nn.Linear(512, 2048), nn.ReLU(), nn.Linear(2048, 512)), torch.randn(64, 512)


NETWORKS = {"convolutions": convolutions, "linear layers": linears}


def pair(name: str) -> tuple[nn.Module, qfx.QuantizedModel, Tensor]:
    """The float network, its int8 program and an input."""
    torch.manual_seed(1)
    model, x = NETWORKS[name]()
    model = model.eval()
    return model, qfx.quantize_fx(model, qfx.get_default_qconfig_dict(), [x]), x


def compare(name: str, threads: int, seconds: float, rounds: int) -> tuple[list[Turn], list[Turn]]:
    """Turns of float and of int8, one of each after the other."""
    model, quantized, x = pair(name)
    torch.set_num_threads(threads)
    qfx.set_num_threads(threads)
    turns = [(take_turn(lambda: model(x), seconds), take_turn(lambda: quantized(x), seconds)) for _ in range(rounds)]
    return [a for a, _ in turns], [b for _, b in turns]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.2, help="of one turn")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args(arguments)
    header("network", "threads", "float32 ms", "int8 ms", "float32 / int8", "rounds' ratios")
    with torch.inference_mode():
        for name, threads in itertools.product(NETWORKS, options.threads):
            slow, fast = (summary(turns) for turns in compare(name, threads, options.seconds, options.rounds))
            ratios = [a / b for a, b in zip(slow.turns, fast.turns, strict=True)]
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            row(name, threads, f"{slow.median:.3f}", f"{fast.median:.3f}", f"{statistics.median(ratios):.2f}", spread)


if __name__ == "__main__":
    main()
