"""What is timed: the float networks of the zoo and a perceptron, each with its calibration data and its inputs."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from benchmarks import photos, zoo

MLP = "mlp"
NAMES = ("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_large", "efficientnet_lite0", "efficientnet_b0", MLP)
CALIBRATION_SAMPLES = 32


@dataclass(frozen=True)
class Workload:
    """A float network and its data.

    Attributes:
        name: As the tables print it.
        load: Makes the network, in eval mode; the same weights at every call.
        samples: ``count`` float32 inputs drawn from a seed, [count, ...].
    """

    name: str
    load: Callable[[], nn.Module]
    samples: Callable[[int, int], torch.Tensor]

    @property
    def key(self) -> str:
        """Changes with whatever decides the weights and the data: part of the name of what is made from them."""
        return _key()

    def calibration(self, batch: int = 8) -> list[torch.Tensor]:
        """The calibration samples in batches."""
        return list(self.samples(CALIBRATION_SAMPLES, photos.CALIBRATION_SEED).split(batch))

    def inputs(self, batch: int) -> torch.Tensor:
        """What the network is timed on."""
        return self.samples(batch, photos.TIMING_SEED)


@functools.cache
def _key() -> str:
    sources = [Path(module).read_bytes() for module in (__file__, str(photos.__file__), str(zoo.__file__))]
    versions = " ".join(version(package) for package in ("torch", "timm", "numpy", "pillow"))
    return hashlib.sha256(b"".join([*sources, versions.encode()])).hexdigest()[:10]


def perceptron() -> nn.Module:
    """1024-4096-4096-1024 with ReLU between, random weights."""
    torch.manual_seed(0)
    layers = (nn.Linear(1024, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1024))
    return nn.Sequential(*layers).eval().requires_grad_(False)


def _normal(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 1024, generator=torch.Generator().manual_seed(seed))


def workload(name: str) -> Workload:
    """The workload of that name.

    Raises:
        KeyError: It is not in ``NAMES``, and not in ``zoo.NAMES``.
    """
    if name == MLP:
        return Workload(name, perceptron, _normal)
    if name not in zoo.NAMES:
        raise KeyError(name)
    return Workload(name, lambda: zoo.plain(zoo.load(name)), photos.crops)
