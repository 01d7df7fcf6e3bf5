"""Ranges of groups of weights."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import qfx
from qfx.quantization import MinMaxObserver, PerGroupMinMaxObserver

W = torch.randn(6, 96, generator=torch.Generator().manual_seed(3))
KINDS = [
    {"qscheme": scheme, "quant_min": low, "quant_max": high}
    for scheme in ("per_channel_symmetric", "per_channel_affine")
    for low, high in ((-128, 127), (-8, 7), (-7, 7))
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("size", [1, 32, 96, None])
def test_each_group_has_the_parameters_of_an_observer_of_its_own(kind: dict[str, Any], size: int | None) -> None:
    observer = PerGroupMinMaxObserver(group_size=size, **kind)
    assert observer(W) is W
    scale, zero_point = observer.calculate_qparams()
    each = size or 96
    assert scale.shape == zero_point.shape == (6, 96 // each)
    for row in range(6):
        for group in range(96 // each):
            own = MinMaxObserver(**{**kind, "qscheme": kind["qscheme"].replace("channel", "tensor")}, dtype="qint8")
            own(W[row, group * each : (group + 1) * each])
            assert (float(scale[row, group]), int(zero_point[row, group])) == tuple(map(float, own.calculate_qparams()))


def test_bits_follow_from_the_integers_in_use() -> None:
    assert [PerGroupMinMaxObserver(**kind).bits for kind in KINDS] == [8, 4, 4, 8, 4, 4]


def test_a_group_of_zeros_has_scale_one() -> None:
    observer = PerGroupMinMaxObserver(group_size=2)
    observer(torch.tensor([[0.0, 0.0, 0.0, 3.0]]))
    scale, _ = observer.calculate_qparams()
    assert scale[0, 0] == 1.0
    assert math.isclose(float(scale[0, 1]), 3 / 127.5, rel_tol=1e-6)


def test_state_comes_back() -> None:
    observer, other = PerGroupMinMaxObserver(), PerGroupMinMaxObserver()
    observer(W)
    other.load_state_dict(observer.state_dict())
    assert all(a.equal(b) for a, b in zip(observer.calculate_qparams(), other.calculate_qparams(), strict=True))


@pytest.mark.parametrize("shape", [(4,), (4, 33), (2, 4, 32)])
def test_what_has_no_whole_groups_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(qfx.QConfigError, match="group_size=32 met a tensor of shape"):
        PerGroupMinMaxObserver()(torch.ones(shape))


def test_no_integer_product_takes_a_scale_a_group() -> None:
    observer = PerGroupMinMaxObserver()
    with pytest.raises(qfx.CalibrationError):
        observer.calculate_qparams()
    observer(W)
    with pytest.raises(qfx.QConfigError, match="activations by groups"):
        observer.qparams()
    with pytest.raises(qfx.QConfigError, match="no number of weights"):
        PerGroupMinMaxObserver(group_size=0)
