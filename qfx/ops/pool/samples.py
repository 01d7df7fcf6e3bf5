"""Samples of pools, mean and interpolate."""

from __future__ import annotations

from typing import Any

from qfx.errors import InputError
from qfx.ops.sample import Sample, Samples, call, normal, refused


def max_pool() -> list[Sample]:
    plain = {"padding": (0, 0), "dilation": (1, 1), "ceil_mode": False}
    return [
        call(normal(2, 3, 8, 9), kernel=(2, 2), stride=(2, 2), **plain),
        call(normal(1, 3, 8, 9), kernel=(3, 2), stride=(2, 1), padding=(1, 1), dilation=(1, 2), ceil_mode=False),
        call(normal(1, 2, 7, 7), kernel=(3, 3), stride=(2, 2), padding=(1, 0), dilation=(1, 1), ceil_mode=True),
        call(normal(2, 3, 11), kernel=(3,), stride=(2,), padding=(1,), dilation=(2,), ceil_mode=True),
        call(
            normal(1, 2, 5, 6, 4), kernel=(2, 3, 2), stride=(1, 2, 2), padding=(1, 1, 0), dilation=(1, 1, 1),
            ceil_mode=False,
        ),
        call(normal(3, 8, 9), kernel=(2, 2), stride=(2, 2), **plain),
        call(normal(2, 3, 1, 4), kernel=(3, 5), stride=(3, 2), padding=(0, 0), dilation=(1, 1), ceil_mode=True),
    ]  # fmt: skip


def avg_pool() -> list[Sample]:
    def window(x: Any, *geometry: Any, ceil: bool = False, include: bool = True, divisor: int | None = None) -> Sample:
        kernel, stride, padding = geometry
        return call(
            x,
            kernel=kernel,
            stride=stride,
            padding=padding,
            ceil_mode=ceil,
            count_include_pad=include,
            divisor_override=divisor,
        )

    return [
        window(normal(2, 3, 8, 9), (2, 2), (2, 2), (0, 0)),
        window(normal(2, 3, 8, 9), (3, 2), (2, 1), (1, 1)),
        window(normal(2, 3, 8, 9), (3, 2), (2, 1), (1, 1), include=False),
        window(normal(1, 2, 7, 8), (3, 3), (2, 2), (1, 1), ceil=True),
        window(normal(1, 2, 7, 8), (3, 3), (2, 2), (1, 1), ceil=True, include=False),
        window(normal(1, 2, 7, 8), (3, 3), (2, 2), (1, 1), divisor=5),
        window(normal(2, 3, 11), (4,), (3,), (2,), ceil=True),
        window(normal(2, 3, 11), (4,), (3,), (2,), divisor=3),
        window(normal(1, 2, 5, 6, 4), (2, 3, 2), (1, 2, 2), (1, 1, 0), include=False),
        window(normal(3, 8, 9), (2, 2), (2, 2), (1, 0)),
        window(normal(2, 3, 1, 4), (3, 5), (3, 2), (0, 0), ceil=True),
        window(normal(2, 3, 1, 4), (3, 5), (3, 2), (1, 2), ceil=True, include=False),
    ]


def pool_bad(**extra: Any) -> list[Sample]:
    x = normal(1, 2, 8, 8)
    good = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), **extra}
    return [
        refused(InputError, "A pool with kernel", x, **good | {"stride": (2,)}),
        refused(InputError, "A pool with kernel", x, **good | {"kernel": (2,) * 4}),
        refused(InputError, "an input of rank 2", normal(8, 8), **good),
        refused(RuntimeError, "pad should be", x, **good | {"padding": (2, 2)}),
    ]


def max_pool_bad() -> list[Sample]:
    return pool_bad(dilation=(1, 1), ceil_mode=False)


def avg_pool_bad() -> list[Sample]:
    return pool_bad(ceil_mode=False, count_include_pad=True, divisor_override=None)


def adaptive() -> list[Sample]:
    return [
        call(normal(2, 3, 7, 9), output_size=(1, 1)),
        call(normal(2, 3, 7, 9), output_size=(3, 4)),
        call(normal(2, 3, 4, 5), output_size=(6, None)),
        call(normal(2, 3, 10), output_size=(4,)),
        call(normal(1, 2, 5, 6, 4), output_size=(2, None, 3)),
        call(normal(3, 7, 9), output_size=(2, 2)),
    ]


def adaptive_bad() -> list[Sample]:
    return [
        refused(InputError, "An adaptive pool to", normal(8, 8), output_size=(1, 1)),
        refused(InputError, "An adaptive pool to", normal(1, 2, 8, 8), output_size=()),
    ]


def mean() -> list[Sample]:
    """Of mean, sum and amax."""
    return [
        call(normal(2, 3, 7, 9), dims=(2, 3), keepdim=False),
        call(normal(2, 3, 7, 9), dims=(-1, -2), keepdim=True),
        call(normal(2, 3, 7, 9), dims=(1,), keepdim=True),
        call(normal(2, 3, 7), dims=(0, 2), keepdim=False),
        call(normal(2, 3, 7), dims=None, keepdim=False),
        call(normal(2, 3, 7), dims=(), keepdim=False),
    ]


def mean_bad() -> list[Sample]:
    return [
        refused(IndexError, "out of range", normal(2, 3), dims=(2,), keepdim=False),
        refused(RuntimeError, "appears multiple times", normal(2, 3), dims=(1, -1), keepdim=False),
    ]


def interpolate() -> list[Sample]:
    image = normal(2, 3, 5, 6)
    plain: dict[str, Any] = {"size": None, "scale_factor": None, "align_corners": None}
    return [
        call(image, **plain | {"scale_factor": 2.0, "mode": "nearest"}),
        call(image, **plain | {"size": (7, 4), "mode": "nearest"}),
        call(image, **plain | {"scale_factor": (1.5, 0.7), "mode": "nearest"}),
        call(image, **plain | {"scale_factor": 2.0, "mode": "bilinear", "align_corners": False}),
        call(image, **plain | {"size": (9, 4), "mode": "bilinear", "align_corners": True}),
        call(image, **plain | {"scale_factor": (1.5, 0.7), "mode": "bilinear"}),
        call(image, **plain | {"size": 8, "mode": "bilinear", "align_corners": False}),
        call(image, **plain | {"size": (1, 1), "mode": "bilinear", "align_corners": True}),
        call(normal(2, 3, 9), **plain | {"size": (14,), "mode": "linear", "align_corners": False}),
        call(normal(2, 3, 9), **plain | {"scale_factor": 0.5, "mode": "nearest"}),
        call(normal(1, 2, 3, 4, 5), **plain | {"scale_factor": 2.0, "mode": "trilinear", "align_corners": False}),
        call(normal(1, 2, 3, 4, 5), **plain | {"size": (4, 3, 7), "mode": "nearest"}),
        call(image, **plain | {"size": (7, 9), "mode": "bicubic", "align_corners": False}),
    ]


def interpolate_bad() -> list[Sample]:
    plain: dict[str, Any] = {"size": None, "scale_factor": None, "align_corners": None}
    image = normal(1, 2, 4, 4)
    return [
        refused(ValueError, "either size or scale_factor", image, **plain, mode="nearest"),
        refused(NotImplementedError, "Got 3D input", normal(1, 2, 4), **plain | {"size": 8}, mode="bilinear"),
        refused(ValueError, "align_corners", image, **plain | {"size": 8, "align_corners": True}, mode="nearest"),
    ]


GOOD: dict[str, Samples] = {
    "max_pool": max_pool,
    "avg_pool": avg_pool,
    "adaptive_avg_pool": adaptive,
    "adaptive_max_pool": adaptive,
    "mean": mean,
    "sum": mean,
    "amax": mean,
    "interpolate": interpolate,
}
BAD: dict[str, Samples] = {
    "max_pool": max_pool_bad,
    "avg_pool": avg_pool_bad,
    "adaptive_avg_pool": adaptive_bad,
    "adaptive_max_pool": adaptive_bad,
    "mean": mean_bad,
    "sum": mean_bad,
    "amax": mean_bad,
    "interpolate": interpolate_bad,
}
