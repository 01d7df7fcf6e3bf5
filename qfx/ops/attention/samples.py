"""Samples of attention."""

from __future__ import annotations

import torch

from qfx.ops.sample import Sample, Samples, call, normal, refused


def attention() -> list[Sample]:
    heads = [normal(2, 3, 40, 8, seed=seed) for seed in range(3)]
    mask = normal(40, 40, seed=3)
    padding = torch.zeros(2, 1, 1, 40)
    padding[1, ..., 30:] = -20.0
    operands = [
        (*heads, None), (*heads, mask), (*heads, padding), (normal(5, 7), normal(33, 7), normal(33, 3), None),
        (normal(2, 5, 8), normal(2, 1, 8), normal(2, 1, 8), None),
        (normal(2, 6, 5, 8), normal(2, 2, 7, 8), normal(2, 2, 7, 3), None),
        (normal(6, 5, 8), normal(3, 7, 8), normal(1, 7, 8), normal(5, 7)),
        (normal(2, 4, 5, 8), normal(2, 7, 8), normal(2, 1, 2, 7, 8)[0], None),
    ]  # fmt: skip
    return [*(call(*given, scale=0.35) for given in operands), call(*heads, scale=0.35, causal=True)]


def attention_bad() -> list[Sample]:
    return [
        refused(RuntimeError, "match|same|Expected size", normal(2, 3, 4), normal(2, 3, 5), normal(2, 3, 5), scale=1.0),
        refused(RuntimeError, "must match", normal(4, 3, 4), normal(3, 3, 4), normal(3, 3, 4), scale=1.0),
    ]


GOOD: dict[str, Samples] = {"attention": attention}
BAD: dict[str, Samples] = {"attention": attention_bad}
