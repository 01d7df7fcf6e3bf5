"""A folder of images as batches: resized, cropped in the middle, normalized."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qfx.errors import InputError

CROP = 0.875
"""Share of the shorter side that the crop keeps, as usual for ImageNet: 224 of 256."""


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes an input: scaled so that the crop is 7/8 of the shorter side (bicubic), cropped in the
    middle, divided by 255, and then ``(x - mean) / std`` channel by channel.

    Attributes:
        size: Height and width of the crop, in pixels.
        mean: Of red, green and blue; one value makes gray images with one channel.
        std: As ``mean``.
    """

    size: tuple[int, int] = (224, 224)
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3):
            raise InputError(
                f"--mean has {len(self.mean)} values and --std {len(self.std)}.",
                remedy="Give three each for colour, or one each for gray.",
            )
        if not all(s > 0 for s in self.std):
            raise InputError(f"--std holds {min(self.std)}.", remedy="Give values above 0.")


class ImageFolder:
    """Batches of the images below a folder, in the order of their paths, read as they are needed."""

    def __init__(self, folder: Path, how: Preprocessing, batch_size: int) -> None:
        self.paths, self.how, self.batch_size = _images(folder), how, batch_size

    def __len__(self) -> int:
        return (len(self.paths) + self.batch_size - 1) // self.batch_size

    def __iter__(self) -> Iterator[Tensor]:
        for start in range(0, len(self.paths), self.batch_size):
            yield torch.stack([self._read(path) for path in self.paths[start : start + self.batch_size]])

    def _read(self, path: Path) -> Tensor:
        """The image as float32 [channels, height, width]."""
        pillow = _pillow()
        try:
            with pillow.open(path) as opened:
                image = opened.convert("RGB" if len(self.how.mean) == 3 else "L")
        except Exception as error:
            raise InputError(
                f"The image {str(path)!r} can't be read.",
                why=f"{type(error).__name__}: {error}.".replace(f" {str(path)!r}", ""),
                remedy="Take it out of the folder, or write it anew.",
            ) from error
        pixels = np.asarray(_cropped(image, self.how.size, pillow), np.float32) / 255
        pixels = pixels.reshape(*self.how.size, len(self.how.mean))
        normal = (pixels - np.asarray(self.how.mean, np.float32)) / np.asarray(self.how.std, np.float32)
        return torch.from_numpy(normal.transpose(2, 0, 1).copy())


def _cropped(image: Any, size: tuple[int, int], pillow: Any) -> Any:
    height, width = size
    factor = max(width / image.width, height / image.height) / CROP
    scaled = max(width, round(image.width * factor)), max(height, round(image.height * factor))
    left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
    resized = image.resize(scaled, pillow.Resampling.BICUBIC)
    return resized.crop((left, top, left + width, top + height))


def _images(folder: Path) -> list[Path]:
    known = _pillow().registered_extensions()
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and not _hidden(p.relative_to(folder))]
    images = [p for p in files if p.suffix.lower() in known]
    if not images:
        raise InputError(
            f"The folder {str(folder)!r} holds no images.",
            why=f"It holds {files[0].name!r}." if files else "It is empty.",
            remedy="Give a folder of .jpg, .png or other images, which may lie in folders below it.",
        )
    return images


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts) or os.path.basename(path) in ("Thumbs.db", "desktop.ini")


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise InputError(
            "A folder of images can't be read without Pillow.", remedy="Install it: pip install pillow."
        ) from error
    return Image
