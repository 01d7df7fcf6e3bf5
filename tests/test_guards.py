"""Facts about inputs: how they are checked, written, and told from what no file may bring."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from qfx.errors import InputError
from qfx.guards import KINDS, OPERATIONS, Guard, evaluate, is_sound, read_by, require, structure, written

X = torch.zeros(4, 3, 8, 6)
ROWS, COLUMNS = ("size", ("x",), 2), ("size", ("x",), 3)


@pytest.mark.parametrize(
    ("expression", "value", "text"),
    [
        (("+", ROWS, COLUMNS), 14, "(x.shape[2] + x.shape[3])"),
        (("//", ROWS, 3), 2, "(x.shape[2] // 3)"),
        (("trunc", ("*", 0.4, ("float", ROWS))), 3, "int(0.4 * float(x.shape[2]))"),
        (("max", ROWS, ("neg", COLUMNS)), 8, "max(x.shape[2], -x.shape[3])"),
        (("and", (">", ROWS, 2), ("not", ("==", COLUMNS, 2))), True, "x.shape[2] > 2 and not x.shape[3] == 2"),
        (("sqrt", ROWS), math.sqrt(8), "math.sqrt(x.shape[2])"),
    ],
)
def test_relations_are_evaluated_and_written_as_code(expression: Any, value: Any, text: str) -> None:
    assert evaluate(expression, {"x": X}) == value
    assert written(expression) == text
    assert read_by(expression) == [("x",)]


def test_every_operation_takes_as_many_operands_as_it_writes() -> None:
    for name, (function, template) in OPERATIONS.items():
        operands = (8, 2)[: template.count("{}")]
        assert function(*operands) is not None
        assert is_sound(Guard("relation", (), (name, *operands)))
        assert not is_sound(Guard("relation", (), (name, *operands, 1)))


HOLD: list[tuple[Guard, Any, Any]] = [
    (Guard("sort", ("x",), "a tensor"), X, None),
    (Guard("value", ("x",), True), True, 1),
    (Guard("value", ("x",), math.nan), math.nan, 1.0),
    (Guard("items", ("x",), (0, 1)), [1, 2], [1]),
    (Guard("items", ("x",), ("a",)), {"a": 1}, {"a": 1, "b": 2}),
    (Guard("rank", ("x",), 4), X, X[0]),
    (Guard("dtype", ("x",), (torch.int64,)), X.long(), X.int()),
    (Guard("sizes", ("x",), (None, 3, 8, 6)), X[:1], X[:, :2]),
    (Guard("traced", ("x",), None), X, None),
    (Guard("sizes", ("x", 1, "a"), (4, None, None, None)), [None, {"a": X}], [None, {"a": X[:2]}]),
    (Guard("relation", (), ("==", ("%", ("size", ("x",), 0), 4), 0)), X, X[:3]),
]


@pytest.mark.parametrize(("guard", "holds", "fails"), HOLD)
def test_a_fact_holds_or_is_told_with_a_remedy(guard: Guard, holds: Any, fails: Any) -> None:
    assert is_sound(guard)
    require([guard], {"x": holds})
    with pytest.raises(InputError, match=r"['\"]x") as caught:
        require([guard], {"x": fails})
    assert caught.value.remedy


def test_every_kind_is_walked() -> None:
    assert {guard.kind for guard, *_ in HOLD} == {*KINDS, "relation"}


@pytest.mark.parametrize(
    "guard",
    [
        Guard("relation", (), ("exec", 1)),
        Guard("relation", (), ("size", ("x",), -1)),
        Guard("relation", (), ("+", 1, "x")),
        Guard("relation", ("x",), ("==", 1, 1)),
        Guard("sizes", ("x",), [1, 2]),
        Guard("rank", (), 4),
        Guard("rank", ((),), 4),
        Guard("nothing", ("x",), 4),
        Guard("value", ("x",), X),
    ],
)
def test_what_no_capture_makes_is_no_fact(guard: Guard) -> None:
    assert not is_sound(guard)


def test_the_facts_of_an_example() -> None:
    found = structure(("x",), {"a": X, "b": [None, 2]}, exact=True)
    assert all(map(is_sound, found))
    require(found, {"x": {"a": X[:1], "b": [None, 2]}})
    for other in ({"a": X}, {"a": X, "b": [None, 3]}, {"a": X, "b": [X, 2]}, {"a": X.long(), "b": [None, 2]}):
        with pytest.raises(InputError):
            require(found, {"x": other})
