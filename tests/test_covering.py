"""The cases that stand for a product: every pair of values is there, and there are few."""

from __future__ import annotations

import itertools

import pytest

from tests.covering import pairs

SIZES = [(3, 2), (1, 1, 1), (17, 5, 2), (4, 3, 3), (2, 2, 2, 2), (6, 1, 3, 2), (3, 3, 3, 3)]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_every_two_values_meet_and_cases_are_few(sizes: tuple[int, ...]) -> None:
    settings = [[f"{i}{n}" for n in range(size)] for i, size in enumerate(sizes)]
    cases = pairs(*settings)
    for one, other in itertools.combinations(range(len(sizes)), 2):
        assert {(case[one], case[other]) for case in cases} == set(itertools.product(settings[one], settings[other]))
    largest, second, *_ = sorted(sizes, reverse=True)
    assert largest * second <= len(cases) == len(set(cases)) <= 2 * largest * second


def test_they_are_the_same_each_time_and_in_order() -> None:
    assert pairs("ab", [1, 1.0], (True, None)) == pairs("ab", [1, 1.0], (True, None))
    assert [case[0] for case in pairs("cab", "xy", "pq")] == list("ccaabb")


def test_a_case_that_is_none_takes_no_pair_with_it() -> None:
    cases = pairs("abc", "xy", "pq", but=lambda *case: case[:2] != ("a", "x"))
    assert {case[:2] for case in cases} == set(itertools.product("abc", "xy")) - {("a", "x")}
    assert {case[::2] for case in cases} == set(itertools.product("abc", "pq"))
    assert {case[1:] for case in cases} == set(itertools.product("xy", "pq"))
