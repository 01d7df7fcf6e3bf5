"""int8 against float: both networks are int8 throughout, and the command states a ratio for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import qfx
from benchmarks.speed import NETWORKS, main, pair


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads(), qfx.get_num_threads()
    yield
    torch.set_num_threads(before[0])
    qfx.set_num_threads(before[1])


@pytest.mark.parametrize(("name", "layers"), [("convolutions", 5), ("linear layers", 2)])
def test_every_layer_is_int8(name: str, layers: int) -> None:
    model, quantized, x = pair(name)
    assert [r.decision for r in quantized.report] == ["int8"] * layers
    want, got = model(x), quantized(x)
    assert (want - got).square().sum() < 1e-3 * want.square().sum()


@pytest.mark.inventory("S170")
@pytest.mark.usefixtures("threads")
def test_the_speed_against_float_is_stated(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--seconds", "0.01", "--rounds", "2"])
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("|")][2:]
    assert [(name, threads) for name, threads, *_ in rows] == [(name, t) for name in NETWORKS for t in ("1", "2")]
    for _, _, *numbers, spread in rows:
        assert all(float(number) > 0 for number in numbers)
        least, _, most = spread.split(" ")
        assert float(least) <= float(numbers[-1]) <= float(most)
