"""The fuzzer of programs, for a few seconds."""

from tests.fuzz.driver import fuzz
from tests.fuzz.programs import FUZZER


def test_hostile_programs() -> None:
    outcome = fuzz(FUZZER, 4.0, 600)
    assert outcome.cases > 0
    assert [failure.text for failure in outcome.failures] == []
