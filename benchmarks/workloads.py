"""What is timed: the float networks of the zoo, a perceptron, encoders, each with calibration data and inputs."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TypeAlias

import torch
from torch import nn

from benchmarks import encoder_models, encoder_weights, photos, sentences, zoo

MLP = "mlp"
NAMES = ("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_large", "efficientnet_lite0", "efficientnet_b0", MLP)
ENCODERS = encoder_models.NAMES
CALIBRATION_SAMPLES = 32

Tensors: TypeAlias = tuple[torch.Tensor, ...]
"""What a network takes, an input each; the first dimension is the batch."""


@dataclass(frozen=True)
class Provenance:
    """What decides a network's weights and data: modules of ours and installed packages."""

    modules: tuple[ModuleType, ...]
    packages: tuple[str, ...]

    @functools.cached_property
    def key(self) -> str:
        """Changes with any of them."""
        sources = [Path(str(file)).read_bytes() for file in (__file__, *(module.__file__ for module in self.modules))]
        versions = " ".join(map(version, self.packages))
        return hashlib.sha256(b"".join([*sources, versions.encode()])).hexdigest()[:10]


IMAGES = Provenance((photos, zoo), ("torch", "timm", "numpy", "pillow"))
ENCODED = Provenance(
    (photos, sentences, encoder_weights, encoder_models), ("torch", "transformers", "numpy", "pillow", "scikit-learn")
)


@dataclass(frozen=True)
class Attention:
    """What tools for transformers want to know: which fusions of onnxruntime's apply, how many heads of which width."""

    fusions: str
    heads: int
    width: int


@dataclass(frozen=True)
class Workload:
    """A float network and its data.

    Attributes:
        name: As the tables print it.
        load: Makes the network, in eval mode; the same weights at every call.
        samples: The network's inputs, of ``count`` samples drawn from a seed: each ``[count, ...]``, of any dtype.
        takes: The inputs' names.
        provenance: What decides the weights and the data.
        attention: Of a transformer; else None.
        load_spelled_out: Makes the same network with attention as two products and a softmax; ``load`` where None.
    """

    name: str
    load: Callable[[], nn.Module]
    samples: Callable[[int, int], Tensors]
    takes: tuple[str, ...] = ("x",)
    provenance: Provenance = IMAGES
    attention: Attention | None = None
    load_spelled_out: Callable[[], nn.Module] | None = None

    @property
    def key(self) -> str:
        """Changes with whatever decides the weights and the data: part of the name of what is made from them."""
        return self.provenance.key

    def calibration(self, batch: int = 8) -> list[Tensors]:
        """The calibration samples in batches."""
        given = self.samples(CALIBRATION_SAMPLES, photos.CALIBRATION_SEED)
        return list(zip(*(tensor.split(batch) for tensor in given), strict=True))

    def inputs(self, batch: int) -> Tensors:
        """What the network is timed on."""
        return self.samples(batch, photos.TIMING_SEED)


def perceptron() -> nn.Module:
    """1024-4096-4096-1024 with ReLU between, random weights."""
    torch.manual_seed(0)
    layers = (nn.Linear(1024, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1024))
    return nn.Sequential(*layers).eval().requires_grad_(False)


def _normal(count: int, seed: int) -> Tensors:
    return (torch.randn(count, 1024, generator=torch.Generator().manual_seed(seed)),)


def _crops(count: int, seed: int) -> Tensors:
    return (photos.crops(count, seed),)


_TEXT = (sentences.tokens, ("ids", "mask"), "bert")
_DATA = {
    "minilm": _TEXT,
    "mpnet_base": (functools.partial(sentences.tokens, encoder="mpnet_base"), ("ids", "mask"), "bert"),
    "bert_base": _TEXT,
    "vit_b16": (_crops, ("x",), "vit"),
    "whisper_tiny_encoder": (encoder_models.spectrograms, ("mels",), "bert"),
}


def _encoder(name: str) -> Workload:
    samples, takes, fusions = _DATA[name]
    width, heads = encoder_models.SIZES[name]
    load = functools.partial(encoder_models.load, name)
    spelled_out = functools.partial(encoder_models.load, name, "eager")
    return Workload(name, load, samples, takes, ENCODED, Attention(fusions, heads, width), spelled_out)


def workload(name: str) -> Workload:
    """The workload of that name.

    Raises:
        KeyError: It is not in ``NAMES``, not in ``ENCODERS``, and not in ``zoo.NAMES``.
    """
    if name == MLP:
        return Workload(name, perceptron, _normal)
    if name in ENCODERS:
        return _encoder(name)
    if name not in zoo.NAMES:
        raise KeyError(name)
    return Workload(name, lambda: zoo.plain(zoo.load(name)), _crops)
