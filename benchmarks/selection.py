"""Whether the cost model picks well: over the layer shapes of the networks, the picked kernel against the fastest."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from benchmarks.workloads import Workload

BINARY = Path("build/cpp-tests/bench_conv")


@dataclass(frozen=True, order=True)
class Shape:
    """A layer as ``bench_conv --selection`` reads it: square images and kernels, padded to keep their size.

    Size 0 is a linear layer of so many rows.
    """

    images: int
    size: int
    c_in: int
    c_out: int
    kernel: int
    stride: int
    groups: int

    def __str__(self) -> str:
        return f"{self.images} {self.size} {self.c_in} {self.c_out} {self.kernel} {self.stride} {self.groups} 0"


@dataclass(frozen=True)
class Choice:
    """The picked kernel and the fastest one for a shape, with their microseconds."""

    shape: str
    picked: str
    picked_us: float
    best: str
    best_us: float

    @property
    def ratio(self) -> float:
        """Time over the fastest candidate's; infinite where the picked kernel is not among the candidates."""
        return self.picked_us / self.best_us if self.picked_us > 0 else float("inf")


def shapes(given: Workload, batch: int) -> set[Shape]:
    """The convolution and linear layers of a network, each shape once; those that are not square are left out."""
    found: set[Shape] = set()

    def note(module: nn.Module, inputs: tuple[torch.Tensor], _output: torch.Tensor) -> None:
        if isinstance(module, nn.Linear):
            rows = inputs[0].numel() // module.in_features
            found.add(Shape(rows, 0, module.in_features, module.out_features, 1, 1, 1))
            return
        assert isinstance(module, nn.Conv2d)
        images, channels, height, width = inputs[0].shape
        kernel, stride = module.kernel_size[0], module.stride[0]
        if height == width and module.kernel_size == (kernel, kernel) and kernel <= height:
            found.add(Shape(images, height, channels, module.out_channels, kernel, stride, module.groups))

    network = given.load()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(note)
    with torch.inference_mode():
        network(*given.inputs(batch))
    return found


def choices(layers: Iterable[Shape]) -> list[Choice]:
    """What ``bench_conv --selection`` measures, a choice a layer."""
    lines = "".join(f"{layer}\n" for layer in sorted(layers))
    done = subprocess.run([str(BINARY), "--selection"], input=lines, capture_output=True, text=True, check=True)
    return [parse(line) for line in done.stdout.splitlines()]


def parse(line: str) -> Choice:
    """One line of the benchmark's output."""
    shape, picked, picked_us, best, best_us = line.split("\t")
    return Choice(shape, picked, float(picked_us), best, float(best_us))
