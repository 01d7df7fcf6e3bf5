"""Observers' states on two ranks against one process with the same data, bit for bit where that is promised."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qfx
from qfx.distributed import calibrate, synchronize
from qfx.distributed.merge import merged
from qfx.errors import CalibrationError, InputError, UnsupportedError
from qfx.quantization import observer as observers
from tests.distributed.ranks import Ranks

PER_CHANNEL = {"dtype": qfx.qint8, "qscheme": qfx.per_channel_symmetric}
OBSERVERS = {
    "minmax": qfx.MinMaxObserver,
    "per channel": lambda: qfx.PerChannelMinMaxObserver(ch_axis=1, **PER_CHANNEL),
    "histogram": qfx.HistogramObserver,
    "small histogram": lambda: qfx.HistogramObserver(bins=7),
    "mean": observers.ChannelMean,
    "fixed": lambda: qfx.FixedQParamsObserver(1 / 256, 0),
}


def batches(count: int = 7, offset: float = 0.0) -> list[Tensor]:
    """Of different sizes and ranges, one of them constant, one empty."""
    generator = torch.Generator().manual_seed(3)
    made = [torch.randn(1 + i % 3, 3, 5, 5, generator=generator) * 10.0 ** (i % 4 - 1) + offset for i in range(count)]
    if count > 3:
        made[2] = torch.full((2, 3, 5, 5), 0.25 + offset)
        made[3] = torch.empty(0, 3, 5, 5)
    return made


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in module.named_buffers()}


def assert_same(got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    assert got.keys() == want.keys()
    for name, value in want.items():
        assert got[name].dtype == value.dtype, name
        assert torch.equal(got[name], value), name


# ---------------------------------------------------------------- merging, without processes


@pytest.mark.parametrize("offset", [0.0, 50.0, -50.0])
@pytest.mark.parametrize("name", OBSERVERS)
@pytest.mark.parametrize("split", [(0,), (3,), (1, 4), (7,)])
def test_merged_states_are_those_of_one_observer(name: str, offset: float, split: tuple[int, ...]) -> None:
    whole, parts = OBSERVERS[name](), []
    for first, last in itertools.pairwise((0, *split, 7)):
        part = OBSERVERS[name]()
        for batch in batches(offset=offset)[first:last]:
            part(batch)
        parts.append(state(part))
    for batch in batches(offset=offset):
        whole(batch)
    got = merged(whole, parts)
    if name == "mean":
        assert torch.allclose(got["total"], whole.total, rtol=1e-12)
        assert got["count"] == whole.count
    else:
        assert_same(dict(got), state(whole))


def test_a_moving_average_is_the_mean_over_the_ranks_that_saw_data() -> None:
    parts = [qfx.MovingAverageMinMaxObserver() for _ in range(3)]
    parts[0](torch.tensor([-1.0, 2.0]))
    parts[2](torch.tensor([-2.0, 7.0]))
    got = merged(parts[0], [state(p) for p in parts])
    assert (float(got["min_val"]), float(got["max_val"])) == (-1.5, 4.5)


def test_a_quantile_histogram_is_redistributed_over_the_whole_range() -> None:
    parts = [qfx.QuantileHistogramObserver(bins=8) for _ in range(2)]
    parts[0](torch.linspace(0, 4, 100))
    parts[1](torch.linspace(0, 8, 100))
    got = merged(parts[0], [state(p) for p in parts])
    assert float(got["histogram"].sum()) == pytest.approx(200)
    assert float(got["max_val"]) == 8
    assert float(got["histogram"][4:].sum()) == pytest.approx(50, abs=1)


def test_window_moments_add_up() -> None:
    parts = [observers.WindowMoments(observers.Window(3)) for _ in range(2)]
    for part in parts:
        part(torch.randn(4, 3))
    got = merged(parts[0], [state(p) for p in parts])
    assert torch.equal(got["second"], parts[0].second + parts[1].second)
    assert int(got["samples"]) == 8


class Midrange(qfx.Observer):
    """An observer of one's own: the mean of everything."""

    def __init__(self) -> None:
        super().__init__(qfx.quint8)
        self.register_buffer("sums", torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        self.sums += torch.tensor([float(x.sum()), float(x.numel())])
        return x

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        return self.sums[:1] / self.sums[1:], torch.zeros(1, dtype=torch.int64)


class Mergeable(Midrange):
    def merged_state(self, states: Any) -> dict[str, Tensor]:
        return {"sums": torch.stack([s["sums"] for s in states]).sum(0)}


def test_an_observer_of_ones_own_says_how_it_merges() -> None:
    parts = [Mergeable(), Mergeable()]
    parts[0](torch.ones(3))
    parts[1](3 * torch.ones(3))
    assert merged(parts[0], [state(p) for p in parts])["sums"].tolist() == [12, 6]
    with pytest.raises(UnsupportedError, match="Midrange") as caught:
        merged(Midrange(), [state(Midrange())] * 2)
    assert "merged_state" in str(caught.value.remedy)


def test_different_channel_counts_are_named() -> None:
    parts = [qfx.PerChannelMinMaxObserver(ch_axis=1, **PER_CHANNEL) for _ in range(2)]
    parts[0].label = "layer"
    parts[0](torch.randn(2, 3))
    parts[1](torch.randn(2, 4))
    with pytest.raises(CalibrationError, match="different shapes on different ranks") as caught:
        merged(parts[0], [state(p) for p in parts])
    assert caught.value.where == "layer"


# ---------------------------------------------------------------- two processes


def observed(names: list[str]) -> nn.Module:
    return nn.ModuleDict({name.replace(" ", "_"): OBSERVERS[name]() for name in names})


def _observe(rank: int, share: list[list[Tensor]]) -> dict[str, Tensor]:
    model = observed(list(OBSERVERS))
    for batch in share[rank]:
        for module in model.values():
            module(batch)
    return state(synchronize(model))


@pytest.mark.parametrize("split", [4, 0, 7])
def test_ranks_agree_and_are_one_process_a_rank_may_have_no_data(ranks: Ranks, split: int) -> None:
    data = batches()
    ours = observed(list(OBSERVERS))
    for batch in data:
        for module in ours.values():
            module(batch)
    first, second = ranks.run(_observe, [data[:split], data[split:]])
    assert_same(first, second)
    want = state(ours)
    assert torch.allclose(first.pop("mean.total"), want.pop("mean.total"), rtol=1e-12)
    assert_same(first, want)


def _fake_quantize(rank: int, share: list[Tensor]) -> dict[str, Tensor]:
    model = nn.Sequential(qfx.FakeQuantize(qfx.MinMaxObserver), qfx.FakeQuantize(qfx.MinMaxObserver))
    model[0](share[rank])
    return state(synchronize(model))


def test_scale_and_zero_point_of_fake_quantize_follow(ranks: Ranks) -> None:
    want = qfx.FakeQuantize(qfx.MinMaxObserver)
    want(torch.tensor([-1.0, 5.0]))
    for got in ranks.run(_fake_quantize, [torch.tensor([-1.0, 3.0]), torch.tensor([0.5, 5.0])]):
        assert_same({k: v for k, v in got.items() if k.startswith("0.")}, {f"0.{k}": v for k, v in state(want).items()})


def _different_models(rank: int) -> str:
    model = nn.Sequential(*[qfx.MinMaxObserver() for _ in range(1 + rank)])
    with pytest.raises(InputError) as caught:
        synchronize(model)
    return str(caught.value)


def test_different_models_are_named_on_every_rank(ranks: Ranks) -> None:
    assert all("they differ at '1'" in text for text in ranks.run(_different_models))


def test_without_a_process_group_nothing_happens() -> None:
    model = observed(["minmax"])
    model["minmax"](torch.ones(2))
    want = state(model)
    assert synchronize(model) is model
    assert_same(state(model), want)


# ---------------------------------------------------------------- calibration


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.second(torch.relu(self.first(x))))


ACTIVATIONS: dict[str, Any] = {
    "minmax": qfx.MinMaxObserver,
    "histogram": qfx.HistogramObserver,
    "moving average": qfx.MovingAverageMinMaxObserver.with_args(averaging_constant=0.3),
}


def prepared(activation: str) -> qfx.PreparedModel:
    torch.manual_seed(1)
    qconfig = qfx.QConfig(ACTIVATIONS[activation], qfx.default_per_channel_weight_observer)
    return qfx.prepare_fx(Net(), {"": qconfig}, (batches()[0],), adaptive_rounding=False)


def images(count: int) -> list[Tensor]:
    return [b + 0.1 for b in batches(count) if b.numel()]


def _alone(_: int, activation: str, count: int) -> dict[str, Tensor]:
    model = prepared(activation)
    for batch in images(count):
        model(batch)
    return state(model)


def _calibrate(rank: int, activation: str, count: int) -> dict[str, Tensor]:
    return state(calibrate(prepared(activation), images(count)))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("count", [1, 7])
def test_calibration_over_ranks_is_that_of_one_process(ranks: Ranks, activation: str, count: int) -> None:
    want, _ = ranks.run(_alone, activation, count)  # there, because torch's convolutions depend on its threads
    first, second = ranks.run(_calibrate, activation, count)
    assert_same(first, second)
    exact = {name for name in first if not name.endswith("total")}
    assert_same({k: v for k, v in first.items() if k in exact}, {k: v for k, v in want.items() if k in exact})
    for name in first.keys() - exact:
        assert torch.allclose(first[name], want[name], rtol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_calibration_in_one_process_is_calibration(activation: str) -> None:
    want = prepared(activation)
    for batch in images(7):
        want(batch)
    assert_same(state(calibrate(prepared(activation), images(7))), state(want))


def _calibrate_fake_quantized(rank: int, count: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    fake = qfx.QConfig(
        qfx.FakeQuantize.with_args(observer=ACTIVATIONS["moving average"]), qfx.default_per_channel_weight_observer
    )
    torch.manual_seed(1)
    options = {"adaptive_rounding": False, "bias_correction": False}
    model = qfx.prepare_fx(Net(), {"": fake}, (images(1)[0],), **options)
    alone = qfx.prepare_fx(Net(), {"": fake}, (images(1)[0],), **options)
    alone.load_state_dict(model.state_dict())
    for batch in images(count)[rank::2]:
        alone(batch)
    return state(calibrate(model, images(count))), state(alone)


def test_moving_averages_of_fake_quantize_modules_become_the_mean(ranks: Ranks) -> None:
    (first, even), (second, odd) = ranks.run(_calibrate_fake_quantized, 7)
    assert_same(first, second)
    lows = [name for name in first if name.endswith("min_val")]
    assert lows
    for name in lows:
        assert float(first[name]) == pytest.approx((float(even[name]) + float(odd[name])) / 2, rel=1e-6)


def _bad_batch(rank: int, bad: int) -> tuple[str, str]:
    data = images(4)
    data[bad] = torch.randn(2, 5, 5, 5)
    with pytest.raises(CalibrationError) as caught:
        calibrate(prepared("minmax"), data)
    return caught.value.what, str(caught.value.remedy)


def test_a_bad_batch_is_an_error_on_every_rank(ranks: Ranks) -> None:
    (first, remedy), (second, _) = ranks.run(_bad_batch, 1)
    assert second.startswith("Batch 1 does not run through the model")
    assert first == f"On rank 1: {second}"
    assert remedy


def _no_data(rank: int) -> str:
    with pytest.raises(CalibrationError) as caught:
        calibrate(prepared("minmax"), [])
    return caught.value.what


def test_no_data_is_an_error_on_every_rank(ranks: Ranks) -> None:
    assert set(ranks.run(_no_data)) == {"The calibration data is empty."}
