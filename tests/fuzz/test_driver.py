"""The fuzzers' driver finds failures of each kind, names their seeds, and repeats them."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.fuzz.driver import Fuzzer, _Apart, fuzz, main

HERE = "tests.fuzz.test_driver"


def case(seed: int) -> None:
    """Fails by seed: an exception, a signal, a hanging case; a case prints, which disturbs nobody."""
    print("noise")
    if seed == 3:
        raise ValueError("three")
    if seed == 5:
        os.kill(os.getpid(), signal.SIGSEGV)
    if seed == 7:
        time.sleep(30)
    if seed == 8:
        os._exit(4)


APART = Fuzzer(HERE, case, apart=True, limit=1.0)


@pytest.mark.parametrize(
    ("seed", "how"), [(2, None), (3, "ValueError: three"), (5, "SIGSEGV"), (7, "no answer"), (8, "status 4")]
)
def test_a_case_apart_ends_as_it_ends(seed: int, how: str | None) -> None:
    outcome = fuzz(APART, 0, seed)
    assert outcome.cases == 1
    assert [f.seed for f in outcome.failures] == ([] if how is None else [seed])
    assert all(how in f.text for f in outcome.failures if how is not None)


def test_cases_go_on_after_one_that_ends_its_process() -> None:
    seeds = []

    def until(seed: int) -> None:
        seeds.append(seed)

    fuzz(Fuzzer(HERE, until), 0.05, 11)
    assert seeds == list(range(11, 11 + len(seeds)))
    assert len(seeds) > 1


def test_a_process_that_ended_is_started_again() -> None:
    with _Apart(Fuzzer(HERE, case, apart=True, limit=2.0)) as run:
        assert [seed for seed in range(4, 11) if run(seed) is not None] == [5, 7, 8]


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(Fuzzer(HERE, case), ["--seconds", "0", "--seed", "2"]) == 0
    assert main(Fuzzer(HERE, case), ["--seconds", "0", "--seed", "3"]) == 1
    said = capsys.readouterr().out
    assert "again: python -m tests.fuzz.test_driver --seconds 0 --seed 3" in said
    assert "1 cases, 1 failed" in said


if __name__ == "__main__":
    raise SystemExit(main(APART))
