"""Contenders in processes of their own: turns, and what becomes of those that can't."""

from __future__ import annotations

import pytest

from benchmarks import contenders
from benchmarks.contest import ContenderError, Contest, Entrant, Process, _rotated
from benchmarks.workloads import MLP

FLOAT = "torch fp32"


@pytest.mark.slow
def test_contenders_take_turns_and_agree_on_the_outputs() -> None:
    with Contest({"one": Entrant(FLOAT, threads=1), "two": Entrant(FLOAT, threads=2)}) as contest:
        cell = contest.cell(MLP, 1, 1, seconds=0.01, rounds=2, aside=sorted)
    assert cell.absent == {}
    assert [len(found.turns) for found in cell.samples.values()] == [2, 2]
    assert cell.asides == [["one", "two"]] * 2
    assert cell.outputs["one"] == pytest.approx(cell.outputs["two"], rel=1e-3, abs=1e-4)


@pytest.mark.slow
def test_one_that_fails_is_absent_with_its_reason_and_can_go_on() -> None:
    with Contest({"it": Entrant(FLOAT)}) as contest:
        failed = contest.cell("no such network", 1, 1, seconds=0.01, rounds=1)
        assert (failed.samples, failed.absent) == ({}, {"it": "KeyError: 'no such network'"})
        assert contest.cell(MLP, 1, 1, seconds=0.01, rounds=1).absent == {}


def test_one_that_is_not_installed_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contenders, "missing", lambda _name: ["rocket"])
    with Contest({"it": Entrant(FLOAT)}) as contest:
        assert contest.cell(MLP, 1, 1, seconds=0.01, rounds=1).absent == {"it": "rocket not installed"}


@pytest.mark.slow
def test_a_process_that_ends_is_an_error_with_its_status() -> None:
    process = Process(FLOAT)
    process.process.kill()
    with pytest.raises(ContenderError, match="ended with -9"):
        process.ask("turn", seconds=0.01)
    process.close()


def test_the_order_rotates() -> None:
    assert [_rotated("abc", number)[0] for number in range(4)] == ["a", "b", "c", "a"]
