"""Samples of the rotation."""

from __future__ import annotations

from qfx.errors import InputError
from qfx.ops.sample import Sample, Samples, call, normal, refused


def rotate() -> list[Sample]:
    return [
        call(normal(2, 5, 96), block=32),
        call(normal(64), block=16),
        call(normal(3, 128), block=64),
        call(normal(1, 2, 3, 128), block=128),
    ]


def rotate_bad() -> list[Sample]:
    return [
        refused(InputError, "blocks of", normal(2, 40), block=16),
        refused(InputError, "blocks of", normal(8), block=8),
    ]


GOOD: dict[str, Samples] = {"rotate": rotate}
BAD: dict[str, Samples] = {"rotate": rotate_bad}
