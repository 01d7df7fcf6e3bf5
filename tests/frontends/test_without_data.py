"""Calls without data that have been made before come to what they came to, and no other call does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from qfx.frontends import capture, normalize, propagate_shapes, without_data
from qfx.frontends.without_data import call_without_data
from qfx.ops import TABLE, Op


def on_meta(value: Any) -> Any:
    return fx.node.map_aggregate(value, lambda v: v.to("meta") if isinstance(v, Tensor) else v)


@pytest.fixture(autouse=True)
def _nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(without_data, "_RESULTS", {})


def kind(value: Any) -> Any:
    return (value.shape, value.stride(), value.dtype, value.device.type) if isinstance(value, Tensor) else value


@pytest.mark.parametrize("op", TABLE.values(), ids=lambda op: op.name)
def test_every_call_of_a_row_comes_to_what_it_came_to(op: Op) -> None:
    calls = [(on_meta(sample.args), dict(sample.kwargs)) for sample in op.samples()]
    want = [kind(op.fn(*args, **kwargs)) for args, kwargs in calls]
    for _ in range(2):  # none is taken for another of the row's, before or after it is known
        assert [kind(call_without_data(op.fn, args, kwargs)) for args, kwargs in calls] == want


def test_a_known_call_is_not_computed() -> None:
    seen = []

    def fn(x: Tensor, *, dim: Any) -> Tensor:
        seen.append(dim)
        return x.new_empty(2)

    x = torch.empty(2, 3, 4, device="meta")
    for _ in range(2):
        for dim in (1, 1.0, True, (1, 2), (True, 2)):  # 1 == 1.0 == True, and they are three
            call_without_data(fn, (x,), {"dim": dim})
        call_without_data(fn, (x.mT,), {"dim": 1})
        call_without_data(fn, (x.int(),), {"dim": 1})
    assert list(map(repr, seen)) == ["1", "1.0", "True", "(1, 2)", "(True, 2)", "1", "1"]


def test_the_dtype_of_numbers_is_part_of_a_call() -> None:
    x = torch.ones(2, dtype=torch.int64, device="meta")
    assert call_without_data(torch.true_divide, (x, 2), {}).dtype is torch.float32
    torch.set_default_dtype(torch.float64)
    try:
        assert call_without_data(torch.true_divide, (x, 2), {}).dtype is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_result_that_is_changed_in_place_changes_no_other() -> None:
    x = torch.empty(2, 3, device="meta")
    first = call_without_data(torch.relu, (x,), {})
    call_without_data(torch.relu, (x,), {}).t_()
    assert call_without_data(torch.relu, (x,), {}).shape == first.shape == (2, 3)


def test_errors_and_what_follows_from_values_are_computed_every_time() -> None:
    x = torch.empty(2, 3, device="meta")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="broadcast"):
            call_without_data(torch.add, (x, torch.empty(4, device="meta")), {})
        assert call_without_data(torch.nonzero, (torch.eye(2),), {}).shape == (2, 2)
        assert call_without_data(torch.nonzero, (torch.zeros(2, 2),), {}).shape == (0, 2)
    assert not without_data._RESULTS


def test_no_more_are_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(without_data, "_MOST", 3)
    for n in range(10):
        assert call_without_data(torch.relu, (torch.empty(n, device="meta"),), {}).shape == (n,)
        assert len(without_data._RESULTS) <= 3


def test_layers_of_one_shape_are_computed_once() -> None:
    net = nn.Sequential(*[layer for _ in range(3) for layer in (nn.Linear(4, 4), nn.ReLU())])
    propagate_shapes(normalize(capture(net)), torch.randn(2, 4))
    computed = [(call[0], call[2][1][1]) for call in without_data._RESULTS]
    rows = TABLE["linear"].fn, TABLE["relu"].fn
    assert computed == [(fn, (n, 4)) for n in (2, 3) for fn in rows]  # as given, and with one more in the batch
