"""Verdicts: ratios, directions, and what is said where there is no figure."""

from __future__ import annotations

import pytest

from benchmarks import targets
from benchmarks.targets import Verdict
from benchmarks.timing import Sample, Turn, summary


def sample(median: float) -> Sample:
    return Sample(median, median, median, 1, (median,), 0.0)


def test_the_best_peer_is_the_fastest_of_the_others() -> None:
    samples = {"qfx": sample(1.0), "slow": sample(4.0), "fast": sample(2.0)}
    verdict = targets.against_best("row", samples, "qfx", 0.6)
    assert (verdict.value, verdict.met) == (0.5, True)
    assert "fast" in verdict.detail


@pytest.mark.parametrize(
    ("samples", "why"), [({"qfx": sample(1.0)}, "no peer ran"), ({"a": sample(1.0)}, "qfx did not")]
)
def test_a_row_without_both_sides_is_no_figure(samples: dict[str, Sample], why: str) -> None:
    verdict = targets.against_best("row", samples, "qfx", 0.6)
    assert verdict.value is None
    assert verdict.met is None
    assert why in verdict.detail
    assert verdict.cells()[1] == "n/a"


def test_the_overall_mean_is_geometric_and_skips_rows_without_a_figure() -> None:
    rows = [Verdict("a", 0.25), Verdict("b", 1.0), Verdict("c", None)]
    assert targets.overall(rows).value == pytest.approx(0.5)
    assert targets.overall([]).value is None


@pytest.mark.parametrize(("value", "at_most", "met"), [(0.9, True, True), (1.1, True, False), (1.1, False, True)])
def test_targets_have_a_direction(value: float, at_most: bool, met: bool) -> None:
    assert Verdict("x", value, 1.0, at_most).met is met


def test_a_sample_is_over_all_calls_and_remembers_its_turns() -> None:
    found = summary([Turn([1.0, 2.0, 3.0], 0.1), Turn([10.0], 0.3)])
    assert (found.median, found.runs, found.turns, found.foreign) == (2.5, 4, (2.0, 10.0), 0.3)
