"""Observing and fake-quantizing the activations of a network in training: ``python -m benchmarks.fake_quant [model]``.

Forward and backward of one module on each size of activation that the network's convolutions give, from batches that
alternate between two ranges, so that a moving average never settles and some values are clamped. The contenders take
turns in one process; medians over all turns.
"""

from __future__ import annotations

import argparse
import warnings
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, nn

import qfx
from benchmarks import zoo
from benchmarks.report import header, row
from benchmarks.timing import Turn, summary, take_turn
from benchmarks.workloads import workload
from qfx.quantization import FakeQuantize, MovingAverageMinMaxObserver

PEER = "torch.ao fused"
Shape = tuple[int, ...]


def activations(model: str, batch: int) -> Counter[Shape]:
    """How many convolutions give each shape."""
    net, found = workload(model).load(), Counter[Shape]()

    def count(_module: nn.Module, _inputs: object, y: Tensor) -> None:
        found[(batch, *y.shape[1:])] += 1

    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.inference_mode():
        net(*workload(model).inputs(1))
    return found


def torch_ao() -> nn.Module:
    """torch.ao's module for the same: a moving average of minimum and maximum, 0..255."""
    import torch.ao.quantization as ao

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ao.FusedMovingAvgObsFakeQuantize.with_args(
            observer=ao.MovingAverageMinMaxObserver, quant_min=0, quant_max=255
        )()


def rounding_alone() -> Callable[[Tensor], Tensor]:
    """torch.fake_quantize_per_tensor_affine, which observes nothing."""
    scale, zero_point = torch.tensor(0.03), torch.tensor(128, dtype=torch.int32)
    return lambda x: torch.fake_quantize_per_tensor_affine(x, scale, zero_point, 0, 255)


CONTENDERS: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {
    "qfx": lambda: FakeQuantize(MovingAverageMinMaxObserver, quant_min=0, quant_max=255),
    PEER: torch_ao,
    "torch.fake_quantize alone": rounding_alone,
    "relu6": nn.ReLU6,
}


def step(module: Callable[[Tensor], Tensor], shape: Shape) -> Callable[[], None]:
    """Forward and backward on the next of two batches."""
    batches = [(torch.randn(shape) * factor).requires_grad_() for factor in (1.0, 1.3)]
    gradient = torch.randn(shape)

    def run() -> None:
        batches.reverse()
        torch.autograd.grad(module(batches[0]), batches[0], gradient)

    return run


def compare(shape: Shape, seconds: float, rounds: int) -> dict[str, list[Turn]]:
    """Each contender's turns, one of each after the other."""
    steps = {name: step(make(), shape) for name, make in CONTENDERS.items()}
    turns: dict[str, list[Turn]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, call in steps.items():
            turns[name].append(take_turn(call, seconds))
    return turns


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="mobilenet_v2", help=f"of {', '.join(zoo.NAMES)}")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.1, help="of one turn")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    qfx.set_num_threads(options.threads)
    header("activation", "times", *(f"{name}, ms" for name in CONTENDERS), f"{PEER} / qfx", "qfx / relu6")
    totals = dict.fromkeys(CONTENDERS, 0.0)
    for shape, times in activations(options.model, options.batch).items():
        turns = compare(shape, options.seconds, options.rounds)
        ms = {name: summary(taken).median for name, taken in turns.items()}
        totals = {name: totals[name] + times * ms[name] for name in totals}
        _row("x".join(map(str, shape)), times, ms)
    _row("whole network", sum(activations(options.model, options.batch).values()), totals)


def _row(what: str, times: int, ms: dict[str, float]) -> None:
    cells = [f"{value:.2f}" for value in ms.values()]
    row(what, times, *cells, f"{ms[PEER] / ms['qfx']:.1f}", f"{ms['qfx'] / ms['relu6']:.2f}")


if __name__ == "__main__":
    main()
