"""The second moments that adaptive rounding needs, against torch's own unfolding of windows."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import qfx
from qfx.quantization.observer import Window, WindowMoments
from qfx.quantization.observer.window_moments import _spread, sample_windows


def unfolded(x: Tensor, window: Window) -> Tensor:
    """All windows of an image batch, ``[groups, samples, length]``."""
    (top, bottom), (left, right) = window.padding
    columns = F.unfold(F.pad(x, (left, right, top, bottom)), window.kernel, window.dilation, 0, window.stride)
    grouped = columns.reshape(x.shape[0], window.groups, window.length, -1)
    return grouped.permute(1, 0, 3, 2).reshape(window.groups, -1, window.length)


WINDOWS = [
    Window(6, 1, (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1))),
    Window(6, 6, (3, 3), (2, 2), (1, 1), ((0, 1), (0, 1))),
    Window(6, 2, (2, 3), (1, 2), (2, 1), ((2, 0), (0, 3))),
    Window(6, 3, (1, 1), (1, 1), (1, 1), ((0, 0), (0, 0))),
]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_a_small_image_gives_every_window(window: Window) -> None:
    x = torch.randn(3, 6, 4, 4)
    assert torch.equal(sample_windows(x, window, 0), unfolded(x, window))


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_a_large_image_gives_some_of_its_windows(window: Window) -> None:
    x = torch.randn(2, 6, 40, 40)
    chosen, every = sample_windows(x, window, 5), unfolded(x, window)
    assert chosen.shape == (window.groups, 2 * window.positions, window.length)
    distance = torch.cdist(chosen.double(), every.double()).min(2).values
    assert float(distance.max()) < 1e-6


def test_positions_are_spread_evenly() -> None:
    for seen in (0, 16, 1000):
        eighths = torch.bincount(_spread(12544, 64, seen) * 8 // 12544, minlength=8)
        assert int(eighths.min()) >= 6
        assert int(eighths.max()) <= 10


def test_the_next_forward_looks_elsewhere_and_the_same_data_gives_the_same_moments() -> None:
    x, window = torch.randn(2, 6, 40, 40), WINDOWS[0]
    assert not torch.equal(sample_windows(x, window, 0), sample_windows(x, window, 2 * window.positions))
    first, second = WindowMoments(window), WindowMoments(window)
    for _ in range(3):
        first(x)
        second(x)
    assert torch.equal(first.moments(centred=True), second.moments(centred=True))


def test_moments_of_one_and_three_dimensions_and_of_rows() -> None:
    line = Window(4, 1, (3,), (1,), (1,), ((1, 1),))
    x = torch.randn(2, 4, 9)
    assert torch.equal(
        sample_windows(x, line, 0)[0], F.pad(x, (1, 1)).unfold(2, 3, 1).permute(0, 2, 1, 3).reshape(18, 12)
    )
    cube = Window(2, 1, (2, 2, 2), (1, 1, 1), (1, 1, 1), ((0, 0),) * 3)
    y = torch.randn(1, 2, 3, 3, 3)
    want = y.unfold(2, 2, 1).unfold(3, 2, 1).unfold(4, 2, 1).permute(0, 2, 3, 4, 1, 5, 6, 7).reshape(8, 16)
    assert torch.equal(sample_windows(y, cube, 0)[0], want)
    rows = torch.randn(2, 5, 7)
    assert torch.equal(sample_windows(rows, Window(7), 0)[0], rows.reshape(10, 7))


def test_moments_are_those_of_the_windows_about_zero_or_their_mean() -> None:
    torch.manual_seed(0)
    moments, x = WindowMoments(WINDOWS[0]), torch.randn(8, 6, 4, 4) + 1.0
    for part in x.split(2):
        assert moments(part) is part
    windows = unfolded(x, WINDOWS[0])[0].double()
    about_zero = windows.T @ windows / len(windows)
    # Sums of 128 float32 products of up to about 16, each rounded to 24 bits.
    assert torch.allclose(moments.moments(centred=False)[0].double(), about_zero, rtol=0, atol=1e-4)
    covariance = torch.cov(windows.T, correction=0)
    assert torch.allclose(moments.moments(centred=True)[0].double(), covariance, rtol=0, atol=2e-4)
    assert torch.allclose(moments.mean(), x.double().mean((0, 2, 3)), rtol=0, atol=1e-6)


def test_long_windows_are_sampled_more_often() -> None:
    assert Window(8).positions == 16
    assert Window(512).positions == 32
    assert Window(4096).positions == 64


def test_no_data_empty_data_and_a_disabled_observer() -> None:
    moments = WindowMoments(WINDOWS[0])
    moments(torch.empty(0, 6, 4, 4))
    moments.enabled = False
    moments(torch.randn(1, 6, 4, 4))
    with pytest.raises(qfx.CalibrationError, match="no data"):
        moments.moments(centred=True)


def test_state_survives_copies_and_state_dicts() -> None:
    moments = WindowMoments(WINDOWS[1])
    moments(torch.randn(2, 6, 12, 12))
    fresh = WindowMoments(WINDOWS[1])
    fresh.load_state_dict(moments.state_dict())
    for other in (fresh, copy.deepcopy(moments)):
        assert torch.equal(other.moments(centred=True), moments.moments(centred=True))
        assert torch.equal(other.samples, moments.samples)
