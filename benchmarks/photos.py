"""Real photographs to calibrate and evaluate with: those that scikit-image and scikit-learn ship."""

from __future__ import annotations

import functools
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image

CALIBRATION_SEED = 1
EVALUATION_SEED = 11
TIMING_SEED = 3

_SKIMAGE = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "rocket.jpg",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "hubble_deep_field.jpg",
    "retina.jpg",
    "ihc.png",
)
_SKLEARN = ("china.jpg", "flower.jpg")


def folder(package: str, *parts: str) -> Path:
    """A folder inside an installed package, which is not imported.

    Raises:
        SystemExit: The package is not installed.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"real data come with {package}: run through `make`, which installs it")
    return Path(spec.submodule_search_locations[0], *parts)


@functools.cache
def photographs() -> dict[str, Image.Image]:
    """Every photograph, RGB, by its file's stem; always in the same order, which the crops depend on."""
    paths = [folder("skimage", "data") / name for name in _SKIMAGE]
    paths += [folder("sklearn", "datasets", "images") / name for name in _SKLEARN]
    return {path.stem: Image.open(path).convert("RGB") for path in paths}


def as_input(image: Image.Image) -> np.ndarray:
    """float32 [size, size, 3] in [-1, 1], as EfficientNet-Lite was trained: (x - 127) / 128."""
    return (np.asarray(image, np.float32) - 127.0) / 128.0


def square(image: Image.Image, size: int = 224) -> torch.Tensor:
    """The largest centred square of a photograph, resized: float32 [1, 3, size, size]."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    crop = image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(as_input(crop)).permute(2, 0, 1)[None].contiguous()


def crops(count: int, seed: int, size: int = 224) -> torch.Tensor:
    """Random square crops of the photographs in turn, resized, half of them mirrored: float32 [count, 3, size, size].

    The draws per crop (side, left, top, mirror) and their order are fixed: accuracy figures are comparable
    only over the same crops.
    """
    draw, sources = np.random.RandomState(seed), list(photographs().values())
    batch = np.empty((count, size, size, 3), np.float32)
    for i in range(count):
        image = sources[i % len(sources)]
        side = int(min(image.size) * draw.uniform(0.5, 1.0))
        left, top = draw.randint(0, image.width - side + 1), draw.randint(0, image.height - side + 1)
        crop = image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BICUBIC)
        pixels = as_input(crop)
        batch[i] = pixels[:, ::-1] if draw.rand() < 0.5 else pixels
    return torch.from_numpy(batch.transpose(0, 3, 1, 2).copy())


def calibration(count: int = 32, batch: int = 8) -> list[torch.Tensor]:
    """The calibration crops in batches: float32 [batch, 3, 224, 224] each."""
    return list(crops(count, CALIBRATION_SEED).split(batch))


def evaluation(count: int = 200, batch: int = 8) -> list[torch.Tensor]:
    """Crops that calibration has not seen, in batches."""
    return list(crops(count, EVALUATION_SEED).split(batch))
