from __future__ import annotations

import copy
import itertools
import math
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from qfx.errors import CalibrationError, QConfigError
from qfx.ops.arithmetic import dequantize, quantize
from qfx.quantization import HistogramObserver, MinMaxObserver, QuantileHistogramObserver
from qfx.quantization.observer.bins import bin_grid, coarsen, count
from qfx.quantization.observer.range_search import Density, expected_error
from tests.quantization.peer import own_qparams, peer_module, peer_qparams

# Apart from zero no magnitude below 2**-60, so that no quotient by a bin width of these data underflows.
FLOATS = st.floats(-(2.0**60), 2.0**60, width=32).filter(lambda v: v == 0 or abs(v) >= 2.0**-60)


def squared_error(x: Tensor, scale: Tensor, zero_point: Tensor, low: int, high: int) -> float:
    error = x.double() - dequantize(quantize(x, scale, zero_point, low, high), scale, zero_point).double()
    return float(error.square().sum())


def error_of(observer: MinMaxObserver, x: Tensor) -> float:
    return squared_error(x, *observer.calculate_qparams(), observer.quant_min, observer.quant_max)


def observed(x: Tensor, **kwargs: Any) -> HistogramObserver:
    observer = HistogramObserver(**kwargs)
    observer(x)
    return observer


def sample(kind: str) -> Tensor:
    x = torch.randn(50_000)
    return {
        "normal": x,
        "relu": x.relu(),
        "relu6": (4 * x).clamp(0, 6),
        "silu": torch.nn.functional.silu(3 * x),
        "heavy": x / torch.randn(50_000).abs().sqrt(),
        "negative": -x.abs() - 2,
        "far": x + 1000,
        "outlier": torch.cat([x, torch.tensor([60.0])]),
        "two points": torch.tensor([0.0] * 99 + [1.0]),
    }[kind]


KINDS = ["normal", "relu", "relu6", "silu", "heavy", "negative", "far", "outlier", "two points"]


@settings(deadline=None)
@given(st.lists(FLOATS, min_size=1, max_size=40), st.sampled_from([2, 16, 100]))
def test_bins_hold_the_values_between_their_edges(values: list[float], bins: int) -> None:
    x = torch.tensor(values)
    grid = bin_grid(float(x.min()), float(x.max()), bins)
    counts = count(x, grid, bins)
    assert grid.used <= bins
    edges = (torch.arange(bins + 1, dtype=torch.float64) + grid.first) * grid.width
    expected = [int(((x >= a) & (x < b)).sum()) for a, b in itertools.pairwise(edges)]
    assert counts.tolist() == expected


@settings(deadline=None)
@given(st.lists(FLOATS, min_size=2, max_size=40), st.integers(1, 39), st.randoms())
@pytest.mark.inventory("S114")
def test_the_state_depends_on_the_data_alone(values: list[float], cut: int, random: Any) -> None:
    whole, parts = HistogramObserver(bins=32), HistogramObserver(bins=32)
    whole(torch.tensor(values))
    random.shuffle(values)
    for part in (values[:cut], values[cut:]):
        parts(torch.tensor(part))
    assert torch.equal(whole.histogram, parts.histogram)
    assert whole.qparams() == parts.qparams()


@settings(deadline=None)
@given(st.lists(FLOATS, min_size=1, max_size=20), st.lists(FLOATS, min_size=1, max_size=20))
def test_histograms_merge_exactly(a: list[float], b: list[float]) -> None:
    x, y = torch.tensor(a), torch.tensor(b)
    joint = torch.cat([x, y])
    total, own = bin_grid(float(joint.min()), float(joint.max()), 64), bin_grid(float(x.min()), float(x.max()), 64)
    merged = coarsen(count(x, own, 64), own, total) + count(y, total, 64)
    assert torch.equal(merged, count(joint, total, 64))


@pytest.mark.parametrize("values", [[-2164663648256.0, -1e-38], [-1e-38, 8388608.0], [-8388608.0, -1e-45, 1.0]])
@pytest.mark.parametrize("bins", [2, 64])
def test_negative_values_that_underflow_are_counted(values: list[float], bins: int) -> None:
    one, by_one = HistogramObserver(bins=bins), HistogramObserver(bins=bins)
    one(torch.tensor(values))
    for value in values:
        by_one(torch.tensor([value]))
    assert int(one.histogram.sum()) == int(by_one.histogram.sum()) == len(values)
    one.calculate_qparams()


def test_at_least_half_of_the_bins_are_used() -> None:
    for scale in (1e-20, 0.3, 7.0, 1e20):
        x = scale * torch.randn(1000)
        assert 1024 <= bin_grid(float(x.min()), float(x.max()), 2048).used <= 2048


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([(0, 255), (-8, 7), (0, 1)]), st.sampled_from(["normal", "relu", "far"]))
def test_expected_error_is_the_error_of_the_density(seed: int, integers: tuple[int, int], kind: str) -> None:
    torch.manual_seed(seed)
    x = sample(kind)[:300]
    low, high = float(x.min()), float(x.max())
    grid = bin_grid(low, high, 64)
    density = Density.of(count(x, grid, 64), grid, low, high)
    scale, zero_point = MinMaxObserver("qint32").affine(torch.tensor([low]), torch.tensor([high]))
    scale = scale * 2**32 / (integers[1] - integers[0]) * 0.7
    zero_point = torch.tensor([sum(integers) // 2])
    # The midpoint rule on 1000 points a bin; its error is within the distance of two points times the slope.
    points = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    inside = torch.from_numpy(density.edges)[:, None] + torch.from_numpy(density.widths)[:, None] * points
    weights = torch.from_numpy(density.counts)[:, None] / 1000
    restored = dequantize(quantize(inside, scale, zero_point, *integers), scale, zero_point).double()
    expected = float(((inside - restored).square() * weights).sum())
    got = float(expected_error(density, scale.double().numpy(), zero_point.double().numpy(), *integers)[0])
    step = grid.width / 1000
    slack = 2 * step * float((inside - restored).abs().max()) * float(density.counts.sum())
    assert got == pytest.approx(expected, abs=slack + 1e-9 * float(x.double().square().sum()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("integers", [(0, 255), (0, 15)])
@pytest.mark.inventory("S114")
def test_no_range_of_a_fine_grid_is_better(kind: str, integers: tuple[int, int]) -> None:
    x = sample(kind)[:2000]
    observer = observed(x, quant_min=integers[0], quant_max=integers[1])
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    shares = torch.linspace(0.15, 1, 35).tolist()
    candidates = (
        [(low * a, high * b) for a in shares for b in shares]
        if low < 0 < high
        else [(low * a, high * a) for a in shares]
    )
    best = min(
        squared_error(x, *observer.affine(torch.tensor([a]), torch.tensor([b])), *integers) for a, b in candidates
    )
    # The histogram moves no value by more than a bin, which is at most 1/1024 of the range.
    width = bin_grid(float(x.min()), float(x.max()), 2048).width
    slack = 2 * width * math.sqrt(best * x.numel()) + width * width * x.numel()
    assert error_of(observer, x) <= best + slack


@pytest.mark.parametrize("kind", ["normal", "relu", "silu", "heavy", "outlier"])
@pytest.mark.inventory("S114", "S192")
def test_better_than_minimum_and_maximum(kind: str) -> None:
    x = sample(kind)
    plain = MinMaxObserver()
    plain(x)
    assert error_of(observed(x), x) < error_of(plain, x)


# Not "far": with a spread below one step the error hangs on how the steps happen to fall.
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "far"])
def test_at_least_as_good_as_the_peer(kind: str) -> None:
    x = sample(kind)
    scales, zero_points = peer_qparams(peer_module("HistogramObserver"), [x])
    peer = squared_error(x, torch.tensor(scales), torch.tensor(zero_points), 0, 255)
    assert error_of(observed(x), x) <= peer * 1.001


def test_a_clamped_output_keeps_its_bound() -> None:
    x = (4 * torch.randn(100_000)).clamp(0, 6)
    assert observed(x).clipping_range() == (0.0, pytest.approx(6.0, rel=0.005))


def test_zeros_of_a_relu_do_not_count_as_error() -> None:
    """Zeros are exact at any scale, so a million more of them must not narrow the range."""
    x = torch.randn(20_000).relu()
    sparse = torch.cat([x, torch.zeros(1_000_000)])
    assert observed(sparse).clipping_range()[1] == pytest.approx(observed(x).clipping_range()[1], rel=0.02)


@pytest.mark.parametrize("value", [0.0, 2.5, -3.0, 1e-30, 1e30])
@pytest.mark.inventory("S114")
def test_one_value(value: float) -> None:
    observer = observed(torch.full((10,), value))
    scale, zero_point = observer.calculate_qparams()
    restored = dequantize(quantize(torch.tensor([value, 0.0]), scale, zero_point, 0, 255), scale, zero_point)
    assert restored[1].item() == 0.0
    assert restored[0].item() == pytest.approx(value, abs=float(scale))


def test_symmetric_and_signed() -> None:
    x = sample("normal")
    observer = observed(x, dtype="qint8", qscheme="per_tensor_symmetric")
    low, high = observer.clipping_range()
    assert low == -high
    assert high < float(x.abs().max())
    assert int(observer.calculate_qparams()[1]) == 0


def test_many_integers_keep_the_whole_range() -> None:
    x = sample("heavy")
    assert observed(x, dtype="qint32").clipping_range() == (float(x.min()), float(x.max()))


def test_the_answer_does_not_depend_on_threads_or_layout() -> None:
    x = torch.randn(2, 8, 40, 40)
    before, threads = observed(x).qparams(), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert observed(x.to(memory_format=torch.channels_last)).qparams() == before
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("make", [HistogramObserver, QuantileHistogramObserver])
def test_empty_never_ran_and_not_finite(make: Any) -> None:
    observer = make()
    observer(torch.empty(0))
    with pytest.raises(CalibrationError, match="has seen no data"):
        observer.calculate_qparams()
    observer(torch.ones(4))
    before = observer.histogram.clone()
    for value in (math.nan, math.inf):
        with pytest.raises(CalibrationError, match="not finite"):
            observer(torch.tensor([1.0, value]))
    assert torch.equal(observer.histogram, before)


@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize("make", [HistogramObserver, QuantileHistogramObserver])
def test_state_dict_deepcopy_and_pickle(make: Any, seen: bool) -> None:
    first = make()
    if seen:
        first(torch.randn(100))
    loaded = make(bins=64)
    loaded.load_state_dict(first.state_dict())
    more = torch.randn(50) * 5
    for other in (loaded, copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        assert torch.equal(other.histogram, first.histogram)
        other(more)
    first(more)
    assert loaded.qparams() == first.qparams()


def test_reset_forgets_the_data() -> None:
    observer = observed(torch.randn(100) * 9)
    observer.reset_min_max_vals()
    x = torch.randn(100)
    observer(x)
    assert observer.qparams() == observed(x).qparams()


def test_too_few_bins_are_an_error() -> None:
    with pytest.raises(QConfigError, match="at least 2 bins"):
        HistogramObserver(bins=1)


QUANTILE_CASES: list[tuple[str, dict[str, Any]]] = [
    *((kind, {}) for kind in (*KINDS, "zeros", "constant")),
    ("relu", {"reduce_range": True}),
    ("silu", {"qscheme": "per_tensor_symmetric"}),
    ("heavy", {"dtype": "qint8", "eps": 2**-12}),
]


@pytest.mark.parametrize(("kind", "kwargs"), QUANTILE_CASES)
def test_quantile_search_gives_the_peers_qparams(kind: str, kwargs: dict[str, Any]) -> None:
    points = {"zeros": [torch.zeros(5)], "constant": [torch.full((5,), 3.0), torch.full((2,), 2.0), torch.randn(50)]}
    data = points.get(kind) or [sample(kind)[:20_000], 1.5 * sample(kind)[:10_000], sample(kind)[:5000]]
    expected = peer_qparams(peer_module("HistogramObserver", **kwargs), data)
    assert own_qparams(QuantileHistogramObserver(**kwargs), data) == expected
