"""Samples of rotary embedding."""

from __future__ import annotations

from qfx.errors import InputError
from qfx.ops.sample import Sample, Samples, call, normal, refused


def rotary() -> list[Sample]:
    x = normal(2, 3, 5, 12)
    return [
        call(x, normal(1, 1, 5, 12, seed=1), normal(1, 1, 5, 12, seed=2), length=12, interleaved=False),
        call(x, normal(5, 6, seed=1), normal(5, 6, seed=2), length=12, interleaved=True),
        call(x, normal(2, 1, 5, 8, seed=1), normal(2, 1, 5, 8, seed=2), length=8, interleaved=True),
        call(normal(4, 70), normal(4, 35, seed=1), normal(1, 35, seed=2), length=70, interleaved=False),
    ]


def rotary_bad() -> list[Sample]:
    x = normal(2, 5, 12)
    return [
        refused(InputError, "can't turn", x, normal(5, 7), normal(5, 7), length=7, interleaved=False),
        refused(InputError, "can't turn", x, normal(5, 14), normal(5, 14), length=14, interleaved=False),
        refused(InputError, "can't turn", x, normal(5, 12), normal(5, 6), length=12, interleaved=True),
        refused(InputError, "can't turn", x, normal(4, 12), normal(4, 12), length=12, interleaved=False),
    ]


GOOD: dict[str, Samples] = {"rotary": rotary}
BAD: dict[str, Samples] = {"rotary": rotary_bad}
