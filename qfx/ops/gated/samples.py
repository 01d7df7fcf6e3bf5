"""Samples of gated products."""

from __future__ import annotations

from qfx.errors import InputError
from qfx.ops.sample import Sample, Samples, call, normal, refused


def gated() -> list[Sample]:
    x, y = normal(3, 5, 70) * 3.0, normal(3, 5, 70, seed=1)
    return [
        call(x, y, function="silu"),
        call(x, y, function="sigmoid"),
        call(x, y, function="gelu"),
        call(x, y, function="gelu", approximate="tanh"),
        call(normal(9, seed=2), normal(9, seed=3), function="gelu", approximate="none"),
    ]


def gated_bad() -> list[Sample]:
    return [
        refused(InputError, "can't multiply", normal(3, 5), normal(3, 1), function="silu"),
        refused(InputError, "can't multiply", normal(3), normal(3), function="floor"),
    ]


GOOD: dict[str, Samples] = {"gated": gated}
BAD: dict[str, Samples] = {"gated": gated_bad}
