"""The zoo's table: what a row counts, and rows for models that fail."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import qfx
from benchmarks import zoo_table
from benchmarks.zoo_measure import Measured, measure
from benchmarks.zoo_models import OWN, Entry, images, table
from benchmarks.zoo_pool import Limits, Outcome, run_each
from tests.benchmarks import zoo_jobs, zoo_nets

JOBS = zoo_jobs.__name__
GOOD = Measured("symbolic", "", 10, 0, 10**6, 1.0, 20.0, 20.3, 1, True, 0.5)


def test_every_job_has_an_outcome_however_it_ends() -> None:
    names = ["succeeds", "raises", "hangs", "crashes", "leaves", "exhausts", "succeeds"]
    limits = Limits(seconds=8.0, memory=2 << 30)
    outcomes = list(run_each(f"{JOBS}:run", names, processes=3, limits=limits))
    assert sorted(outcome.job for outcome in outcomes) == sorted(names)
    found = {outcome.job: outcome for outcome in outcomes}
    assert (found["succeeds"].value, found["succeeds"].error) == (7, None)
    assert found["raises"].error == "ValueError: the first line the second line"
    assert "in raises" in str(found["raises"].trace)
    assert found["hangs"].error == "no result after 8 s"
    assert found["crashes"].error == "its process ended with SIGSEGV"
    assert found["leaves"].error == "its process ended with status 3"
    assert "MemoryError" in str(found["exhausts"].error)


def test_a_function_that_is_not_there_is_an_outcome() -> None:
    (outcome,) = run_each(f"{JOBS}:no_such_function", ["succeeds"])
    assert "AttributeError" in str(outcome.error)


@pytest.mark.parametrize("name", zoo_nets.WORK)
def test_work_inside_islands_counts_as_float(name: str) -> None:
    before = torch.get_num_threads(), qfx.get_num_threads()
    try:
        found = measure(Entry(name, OWN, f"{zoo_nets.__name__}:{name}", images(8)))
    finally:
        torch.set_num_threads(before[0])
        qfx.set_num_threads(before[1])
    assert found.work == zoo_nets.WORK[name]
    assert found.int8_share == zoo_nets.SHARES[name]
    assert (found.islands > 0) == (found.int8_share < 1)
    assert found.exact
    assert found.sqnr_int8 > 20
    assert found.sqnr_int8 == pytest.approx(found.sqnr_qdq, abs=1.0)


@pytest.mark.parametrize(
    ("change", "good"),
    [
        ({}, True),
        ({"int8_share": 0.95}, True),
        ({"int8_share": 0.949}, False),
        ({"sqnr_int8": 20.9}, False),
        ({"sqnr_int8": math.nan}, False),
        ({"int8_share": math.nan}, False),
    ],
)
def test_a_model_meets_the_requirements_by_its_share_and_its_sqnr(change: dict[str, float], good: bool) -> None:
    assert zoo_table.meets(Outcome("it", replace(GOOD, **change), None, None, 1.0)) is good


def test_the_page_has_a_row_for_a_model_that_failed() -> None:
    outcomes = [Outcome("bad", None, "ValueError: a|b", "trace", 2.0), Outcome("good", GOOD, None, None, 1.0)]
    page = zoo_table.document(outcomes, {"good": "here", "bad": "there"}, "the command")
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| good", "| bad"]
    assert rows[3].startswith("| bad | there | ValueError: a\\|b | ")
    assert {row.replace("\\|", "").count("|") for row in rows} == {len(zoo_table.COLUMNS) + 1}
    assert "All of the first three: **1**" in page


def test_a_model_that_fails_is_not_one_that_meets_the_requirements() -> None:
    assert not zoo_table.meets(Outcome("bad", None, "no result after 1 s", None, 1.0))


def test_unknown_names_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        zoo_table.main(["--only", "resnet18", "no_such_model"])
    assert stopped.value.code == 2
    assert "no model or package is named no_such_model" in capsys.readouterr().err


def test_the_table_has_models_of_every_source() -> None:
    sources = [entry.source for entry in table().values()]
    assert {source: sources.count(source) >= 20 for source in ("timm", "transformers", "torchvision")} == {
        "timm": True,
        "transformers": True,
        "torchvision": True,
    }
