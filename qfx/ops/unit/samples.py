"""Samples of scaling to length one."""

from __future__ import annotations

import torch

from qfx.ops.sample import Sample, Samples, call, normal, refused


def l2_normalize() -> list[Sample]:
    return [
        call(normal(3, 8) * 5.0, dim=-1, eps=1e-12),
        call(normal(2, 5, 3, 4), dim=1, eps=1e-6),
        call(torch.cat([normal(2, 6), torch.zeros(1, 6)]), dim=1, eps=1e-3),
        call(normal(7), dim=0, eps=1e-12),
    ]


def l2_normalize_bad() -> list[Sample]:
    return [refused(IndexError, "out of range", normal(2, 3), dim=2, eps=1e-12)]


GOOD: dict[str, Samples] = {"l2_normalize": l2_normalize}
BAD: dict[str, Samples] = {"l2_normalize": l2_normalize_bad}
