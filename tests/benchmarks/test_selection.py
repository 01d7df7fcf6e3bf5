"""Layer shapes, and the lines that the C++ benchmark prints."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.selection import Shape, parse, shapes
from benchmarks.workloads import Workload


def test_layers_of_one_shape_count_once() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), *(nn.Conv2d(8, 8, 3, padding=1, groups=8) for _ in range(2)))
    net.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)])
    given = Workload("net", lambda: net, lambda count, _seed: (torch.zeros(count, 3, 12, 12),))
    assert shapes(given, 2) == {
        Shape(2, 12, 3, 8, 3, 2, 1),
        Shape(2, 6, 8, 8, 3, 1, 8),
        Shape(2, 0, 8, 5, 1, 1, 1),
    }


def test_a_choice_is_a_ratio() -> None:
    assert parse("1 56 64 64 3 1 1 0\tgood\t12.0\tbest\t10.0").ratio == pytest.approx(1.2)
    assert parse("1 56 64 64 3 1 1 0\tother\t-1.000\tbest\t10.0").ratio == float("inf")
