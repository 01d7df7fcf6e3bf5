"""Histograms of values and ranges of weight channels."""

from __future__ import annotations

import pytest
import torch

import qfx
from qfx.comparison.compare import NodeValues
from qfx.comparison.statistics import INSIDE, OUTSIDE, Statistics, channel_ranges, measure
from qfx.ir.types import QDType, QParams
from qfx.passes.report import Record
from tests.viz.models import images, residual


def _point(qparams: QParams | None) -> Record:
    return Record("node", "conv", "", None, "int8", "", qparams)


def test_clipped_is_what_rounds_to_no_integer_of_the_range() -> None:
    statistics = Statistics()
    real = torch.tensor([-1.0, -0.4, 0.0, 255.4, 255.6, 300.0])
    statistics(NodeValues(_point(QParams(1.0, 0, QDType.quint8)), real, None, real.clamp(0, 255)))
    found = statistics.distributions()["node"]
    assert found.clipped == pytest.approx(3 / 6)
    assert found.real is not None
    assert found.ours is not None
    assert (found.real.total, found.ours.total) == (6, 6)
    assert (found.real.above, found.real.below) == (1, 0), "300 is more than 8 bins of 4 beyond 255.5"
    assert (found.real.minimum, found.real.maximum) == (-1.0, 300.0)
    assert len(found.real.counts) == INSIDE + 2 * OUTSIDE


def test_every_bin_inside_holds_equally_many_integers() -> None:
    statistics = Statistics()
    codes = torch.arange(256.0)
    statistics(NodeValues(_point(QParams(0.5, 128, QDType.quint8)), None, None, (codes - 128) * 0.5))
    found = statistics.distributions()["node"].ours
    assert found is not None
    assert found.counts == (0,) * OUTSIDE + (256 // INSIDE,) * INSIDE + (0,) * OUTSIDE


def test_values_that_are_not_finite_and_batches_add_up() -> None:
    statistics = Statistics()
    for batch in (torch.tensor([1.0, float("nan")]), torch.tensor([float("inf"), 5.0]), torch.tensor([])):
        statistics(NodeValues(_point(None), batch, None, None))
    found = statistics.distributions()["node"]
    assert found.real is not None
    assert (found.real.total, found.real.maximum, found.ours, found.clipped) == (2, 5.0, None, None)


def test_a_comparison_and_its_statistics_see_the_same_values() -> None:
    model, _, qmodel = residual()
    compared, found = measure(qmodel, [images(), images()], model)
    assert compared is not None
    assert set(found) == {record.name for record in compared}
    assert [r.total for r in compared] == [r.total for r in qfx.compare(model, qmodel, [images(), images()])]
    conv = found["conv1"]
    assert conv.real is not None
    assert conv.ours is not None
    assert conv.real.total == conv.ours.total == 2 * 2 * 16 * 16 * 16
    alone, without = measure(qmodel, [images(), images()])
    assert alone is None
    assert without["conv1"].ours == conv.ours
    assert without["conv1"].real is None


def test_channel_ranges_are_those_of_the_stored_weights() -> None:
    qmodel = residual()[2]
    found = channel_ranges(qmodel)
    state = qmodel.state_dict()
    assert set(found) == {"stem_0", "conv1", "conv2", "project", "fc"}
    real = state["conv2.weight"].double().flatten(1) * state["conv2.weight_scale"].double()[:, None]
    assert torch.tensor(found["conv2"].minimum, dtype=torch.float64).equal(real.amin(1))
    assert torch.tensor(found["conv2"].maximum, dtype=torch.float64).equal(real.amax(1))
