"""The fuzzer of networks, for a few seconds."""

from tests.fuzz.driver import fuzz
from tests.fuzz.networks import FUZZER


def test_random_networks() -> None:
    outcome = fuzz(FUZZER, 4.0, 1000)
    assert outcome.cases > 0
    assert [failure.text for failure in outcome.failures] == []
