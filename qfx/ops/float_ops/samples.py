"""Samples of the ops that stay float."""

from __future__ import annotations

from qfx.ops.compute import samples as compute
from qfx.ops.sample import Sample, Samples, call, normal, refused


def softmax() -> list[Sample]:
    return [call(normal(4, 10) * 3.0, dim=-1), call(normal(2, 5, 3, 4), dim=1), call(normal(6), dim=0)]


def softmax_bad() -> list[Sample]:
    return [refused(IndexError, "out of range", normal(2, 3), dim=2)]


def causal_softmax() -> list[Sample]:
    return [call(normal(2, 3, 5, 5) * 3.0), call(normal(4, 2, 7)), call(normal(6, 3))]


def causal_softmax_bad() -> list[Sample]:
    return [refused(RuntimeError, "at least 2 dim", normal(4))]


def layer_norm() -> list[Sample]:
    return [
        call(normal(2, 5, 8) + 1.0, normal(8, seed=1), normal(8, seed=2), normalized_shape=(8,), eps=1e-5),
        call(normal(2, 5, 8), normalized_shape=(5, 8), eps=1e-3),
        call(normal(2, 5, 8), normal(8, seed=1), normalized_shape=(8,), eps=1e-6),
    ]


def layer_norm_bad() -> list[Sample]:
    return [refused(RuntimeError, "normalized_shape", normal(2, 5, 8), normalized_shape=(7,), eps=1e-5)]


def rms_norm() -> list[Sample]:
    return [
        call(normal(2, 5, 8) + 1.0, normal(8, seed=1), normalized_shape=(8,), eps=1e-6),
        call(normal(2, 5, 8), normalized_shape=(5, 8), eps=1e-3),
        call(normal(3, 70), normal(70, seed=1), normalized_shape=(70,), eps=1e-5),
    ]


def rms_norm_bad() -> list[Sample]:
    return [refused(RuntimeError, "normalized_shape", normal(2, 5, 8), normalized_shape=(7,), eps=1e-5)]


def group_norm() -> list[Sample]:
    return [
        call(normal(2, 6, 4, 3) - 2.0, normal(6, seed=1), normal(6, seed=2), groups=3, eps=1e-5),
        call(normal(2, 6, 7), groups=1, eps=1e-5),
        call(normal(3, 6), normal(6, seed=1), normal(6, seed=2), groups=2, eps=1e-3),
    ]


def group_norm_bad() -> list[Sample]:
    return [refused(RuntimeError, "divisible", normal(2, 6, 4), groups=4, eps=1e-5)]


def instance_norm() -> list[Sample]:
    return [
        call(normal(2, 6, 4, 3) + 1.0, normal(6, seed=1), normal(6, seed=2), eps=1e-5),
        call(normal(2, 6, 7), eps=1e-3),
    ]


def instance_norm_bad() -> list[Sample]:
    return [refused(RuntimeError, "weight", normal(2, 6, 4), normal(5), eps=1e-5)]


def div() -> list[Sample]:
    return [
        call(normal(2, 3, 4), normal(2, 3, 4, seed=1).abs() + 0.5),
        call(normal(2, 3, 4), normal(3, 1, seed=1).abs() + 0.5),
    ]


GOOD: dict[str, Samples] = {
    "softmax": softmax,
    "causal_softmax": causal_softmax,
    "log_softmax": softmax,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "group_norm": group_norm,
    "instance_norm": instance_norm,
    "div": div,
}
BAD: dict[str, Samples] = {
    "softmax": softmax_bad,
    "causal_softmax": causal_softmax_bad,
    "log_softmax": softmax_bad,
    "layer_norm": layer_norm_bad,
    "rms_norm": rms_norm_bad,
    "group_norm": group_norm_bad,
    "instance_norm": instance_norm_bad,
    "div": compute.arithmetic_bad,
}
