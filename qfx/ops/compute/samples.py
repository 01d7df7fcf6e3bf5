"""Samples of the ops that multiply and add."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qfx.errors import InputError
from qfx.ops.sample import Sample, Samples, call, normal, refused

RELU = ("clamp", 0.0, None)
RELU6 = ("clamp", 0.0, 6.0)
NARROW = ("clamp", -0.3, 0.45)


def _conv(
    x: Sequence[int],
    weight: Sequence[int],
    bias: bool = True,
    *,
    residual: Sequence[int] | None = None,
    activation: Any = None,
    **geometry: Any,
) -> Sample:
    spatial = len(weight) - 2
    defaults = {"stride": (1,) * spatial, "padding": ((0, 0),) * spatial, "dilation": (1,) * spatial, "groups": 1}
    return call(
        normal(*x),
        normal(*weight, seed=1) * 0.2,
        normal(weight[0], seed=2) if bias else None,
        None if residual is None else normal(*residual, seed=3),
        **defaults | geometry,
        activation=activation,
    )


def conv() -> list[Sample]:
    return [
        _conv((2, 3, 9, 8), (5, 3, 3, 3)),
        _conv((2, 3, 9, 8), (5, 3, 3, 3), False, stride=(2, 1), padding=((1, 1), (0, 2)), activation=RELU),
        _conv((1, 4, 10, 10), (6, 2, 3, 2), groups=2, dilation=(2, 3), padding=((2, 1), (1, 3)), activation=RELU6),
        _conv((2, 6, 7, 7), (6, 1, 3, 3), groups=6, padding=((1, 1), (1, 1)), activation=NARROW),
        _conv((1, 6, 5, 5), (12, 1, 3, 3), groups=6, stride=(2, 2), padding=((0, 1), (0, 1))),
        _conv((2, 8, 4, 4), (8, 8, 1, 1), residual=(2, 8, 4, 4)),
        _conv((2, 4, 6, 6), (4, 4, 3, 3), padding=((1, 1),) * 2, residual=(2, 4, 6, 6), activation=RELU),
        _conv((2, 3, 12), (4, 3, 5), stride=(2,), padding=((2, 2),), dilation=(2,)),
        _conv((2, 4, 11), (4, 1, 3), groups=4, padding=((2, 0),), activation=RELU),
        _conv((1, 2, 5, 6, 4), (3, 2, 2, 3, 1), stride=(1, 2, 1), padding=((1, 0), (1, 1), (0, 0))),
        _conv((3, 9, 8), (5, 3, 3, 3), padding=((1, 1), (1, 1))),
        _conv((0, 3, 9, 8), (5, 3, 3, 3)),
    ]


def conv_bad() -> list[Sample]:
    window = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
    x, weight = normal(1, 3, 8, 8), normal(4, 3, 3, 3)
    return [
        refused(InputError, "rank-4 weight", x, weight, **window | {"stride": (1,)}),
        refused(InputError, "rank-2 weight", x, normal(4, 3), **window),
        refused(InputError, "'relu' is not an activation", x, weight, **window, activation=("relu", None, None)),
        refused(RuntimeError, "channels", normal(1, 2, 8, 8), weight, **window),
        refused(RuntimeError, "Kernel size", normal(1, 3, 2, 2), weight, **window),
        refused(RuntimeError, "size of tensor", x, weight, None, normal(1, 4, 5, 5), **window),
    ]


def linear() -> list[Sample]:
    weight, bias = normal(6, 10, seed=1) * 0.3, normal(6, seed=2)
    return [
        call(normal(4, 10), weight, bias),
        call(normal(10), weight, None),
        call(normal(2, 3, 10), weight, bias, activation=RELU),
        call(normal(2, 3, 10), weight, bias, normal(2, 3, 6, seed=3), activation=NARROW),
        call(normal(2, 3, 2, 10), weight, None, normal(2, 3, 2, 6, seed=3)),
        call(normal(0, 10), weight, bias),
    ]


def linear_bad() -> list[Sample]:
    return [
        refused(RuntimeError, "shapes cannot be multiplied", normal(4, 9), normal(6, 10)),
        refused(RuntimeError, "size of tensor", normal(4, 10), normal(6, 10), None, normal(4, 5)),
    ]


def channel_affine() -> list[Sample]:
    weight, bias = normal(5, seed=1), normal(5, seed=2)
    return [
        call(normal(2, 5, 4, 3), weight, bias),
        call(normal(2, 5, 7), weight, None, activation=RELU),
        call(normal(6, 5), weight, bias, activation=RELU6),
        call(normal(1, 5, 2, 3, 2), weight, bias),
    ]


def channel_affine_bad() -> list[Sample]:
    return [
        refused(InputError, r"needs \[N, C, ...\]", normal(5), normal(5)),
        refused(RuntimeError, "size of tensor", normal(2, 4, 3), normal(5)),
    ]


def arithmetic() -> list[Sample]:
    return [
        call(normal(2, 3, 4, 5), normal(2, 3, 4, 5, seed=1)),
        call(normal(2, 3, 4, 5), normal(2, 3, 1, 1, seed=1), activation=RELU),
        call(normal(3, 1), normal(2, 3, 4, seed=1), activation=NARROW),
        call(normal(2, 4), normal(seed=1)),
        call(normal(2, 3, 4) * 0.01, normal(2, 3, 4, seed=1) * 30.0),
        call(normal(0, 4), normal(1, 4, seed=1)),
    ]


def arithmetic_bad() -> list[Sample]:
    return [refused(RuntimeError, "size of tensor", normal(2, 3), normal(2, 4))]


def matmul() -> list[Sample]:
    return [
        call(normal(4, 6), normal(6, 5, seed=1)),
        call(normal(2, 3, 4, 6), normal(2, 3, 6, 5, seed=1), factor=0.125),
        call(normal(2, 1, 4, 6), normal(3, 6, 5, seed=1) + 0.5, activation=RELU),
        call(normal(6), normal(6, 5, seed=1)),
        call(normal(2, 4, 6), normal(6, seed=1), factor=-2.0, activation=NARROW),
        call(normal(6), normal(6, seed=1)),
        call(normal(2, 4, 6), normal(6, 5, seed=1)),
        call(normal(4, 6), normal(2, 6, 5, seed=1)),
        call(normal(0, 4, 6), normal(6, 5, seed=1)),
    ]


def matmul_bad() -> list[Sample]:
    return [
        refused(RuntimeError, "cannot be multiplied", normal(4, 6), normal(5, 6)),
        refused(InputError, "'relu' is not an activation", normal(4, 6), normal(6, 5), activation=("relu", None, None)),
    ]


GOOD: dict[str, Samples] = {
    "conv": conv,
    "linear": linear,
    "channel_affine": channel_affine,
    "add": arithmetic,
    "sub": arithmetic,
    "mul": arithmetic,
    "matmul": matmul,
}
BAD: dict[str, Samples] = {
    "conv": conv_bad,
    "linear": linear_bad,
    "channel_affine": channel_affine_bad,
    "add": arithmetic_bad,
    "sub": arithmetic_bad,
    "mul": arithmetic_bad,
    "matmul": matmul_bad,
}
