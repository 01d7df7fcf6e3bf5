"""Time of one training step, float and with quantization: ``python -m benchmarks.qat_step [model]``.

A step is forward, cross entropy, backward and SGD, on one batch of photographs. The contenders take turns in one
process; medians of each turn's steps. torch.ao's is ``prepare_qat_fx`` with the x86 qconfig mapping.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from torch import nn

import qfx
from benchmarks import zoo
from benchmarks.report import header, row
from benchmarks.workloads import workload

Step = Callable[[], None]


def step(model: nn.Module, x: torch.Tensor, labels: torch.Tensor) -> Step:
    """One step of training ``model``, to be called again and again."""
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()

    return run


def of_torch(model: nn.Module, x: torch.Tensor) -> nn.Module:
    """torch.ao's model for training."""
    from torch.ao.quantization import get_default_qat_qconfig_mapping
    from torch.ao.quantization.quantize_fx import prepare_qat_fx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return prepare_qat_fx(model, get_default_qat_qconfig_mapping("x86"), (x,))


def models(name: str, x: torch.Tensor) -> dict[str, nn.Module]:
    """The contenders, each in training mode with weights of its own."""
    net = workload(name).load().requires_grad_(True).train()
    return {
        "float": copy.deepcopy(net),
        "qfx": qfx.prepare_qat_fx(net, {"": qfx.get_default_qat_qconfig()}, (x,)),
        "torch.ao": of_torch(copy.deepcopy(net), x),
    }


def measure(steps: dict[str, Step], rounds: int) -> dict[str, list[float]]:
    """Seconds of every step of each contender, in turns of two, after one untimed turn."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, run in steps.items():
            for _ in range(2):
                start = time.perf_counter()
                run()
                if turn > 0:
                    taken[name].append(time.perf_counter() - start)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="mobilenet_v2", help=f"of {', '.join(zoo.NAMES)}")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    (x,) = workload(options.model).inputs(options.batch)
    labels = torch.arange(options.batch) % 1000
    steps = {name: step(model, x, labels) for name, model in models(options.model, x).items()}
    taken = measure(steps, options.rounds)
    unit = statistics.median(taken["float"])
    header("model", "", f"seconds a step, batch {options.batch}, {options.threads} threads", "times the float step")
    for name, seconds in taken.items():
        median = statistics.median(seconds)
        row(options.model, name, f"{median:.3f} ({min(seconds):.3f}-{max(seconds):.3f})", round(median / unit, 2))


if __name__ == "__main__":
    main()
