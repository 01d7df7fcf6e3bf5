"""The fuzzer of inputs, for a few seconds."""

from tests.fuzz.driver import fuzz
from tests.fuzz.inputs import FUZZER


def test_bad_inputs() -> None:
    outcome = fuzz(FUZZER, 4.0, 0)
    assert outcome.cases > 0
    assert [failure.text for failure in outcome.failures] == []
