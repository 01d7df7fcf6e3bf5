"""Indices that a table has no row for: an error, never a read outside, and nothing else is disturbed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import qfx
from qfx.errors import InputError
from qfx.runtime import Executable, Program, isa_names
from tests.runtime.step_programs import one_step

TABLE = np.arange(12, dtype=np.float32).reshape(4, 3)


def program(rank: int = 1) -> Program:
    indices = np.zeros((1,) * rank, np.int64)
    return one_step("embedding", (indices,), ("f32", rank + 1), constants={"table": TABLE})


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = qfx.get_num_threads()
    qfx.set_num_threads(request.param)
    yield
    qfx.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("isa", isa_names())
@pytest.mark.parametrize("wrong", [4, -1, 2**62, -(2**63), 2**32])
@pytest.mark.parametrize("place", [0, 1999])
def test_an_index_outside_is_refused_and_the_next_call_runs(isa: str, wrong: int, place: int) -> None:
    executable = Executable(program(), isa)
    indices = np.arange(2000) % 4
    outside = indices.copy()
    outside[place] = wrong
    for _ in range(2):
        with pytest.raises(InputError, match="outside of the table, which has 4 rows") as caught:
            executable(outside)
        assert caught.value.where == "the_step"
        (y,) = executable(indices)
        np.testing.assert_array_equal(y, TABLE[indices])


@pytest.mark.parametrize("call", [lambda e, x: e.run_and_fetch([x], []), lambda e, x: e.profile(x, repeats=1)])
def test_every_way_to_run_refuses(call: object) -> None:
    executable = Executable(program(2))
    with pytest.raises(InputError, match="outside of the table"):
        call(executable, np.array([[0, 4]]))  # type: ignore[operator]


def bags(*inputs: np.ndarray, **ints: int) -> Executable:
    op = "embedding_bag" if inputs[0].ndim == 2 else "ragged_embedding_bag"
    about = {"constants": {"table": TABLE}, "text": {"mode": "sum"}, "ints": ints}
    return Executable(one_step(op, inputs, ("f32", 2), **about))


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("wrong", [4, -1, 2**62, -(2**63), 2**32])
@pytest.mark.parametrize("place", [0, 1999])
@pytest.mark.parametrize("offsets", [None, np.arange(0, 2000, 50)])
def test_an_index_outside_in_a_bag_is_refused(wrong: int, place: int, offsets: np.ndarray | None) -> None:
    indices = np.arange(2000) % 4
    given = (indices.reshape(-1, 50),) if offsets is None else (indices, offsets)
    executable, outside = bags(*given), indices.copy()
    outside[place] = wrong
    for _ in range(2):
        with pytest.raises(InputError, match="outside of the table, which has 4 rows"):
            executable(outside.reshape(given[0].shape), *given[1:])
        (y,) = executable(*given)
        np.testing.assert_array_equal(y, TABLE[indices].reshape(40, 50, 3).sum(1))


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("offsets", [[1, 2], [0, 3, 2, 4], [0, 9], [0, -1], [0, 2**62], [0, -(2**63), 4]])
def test_offsets_that_do_not_rise_are_refused(offsets: list[int]) -> None:
    indices = np.arange(8) % 4
    executable = bags(indices, np.array([0]))
    with pytest.raises(InputError, match="offsets do not rise from 0"):
        executable(indices, np.array(offsets))
    np.testing.assert_array_equal(executable(indices, np.array([0, 8]))[0], [TABLE[indices].sum(0), np.zeros(3)])


def test_shapes_that_do_not_fit_are_errors() -> None:
    indices = np.zeros((2, 3), np.int64)
    with pytest.raises(InputError, match="factors of shape"):
        bags(indices, np.ones((2, 3), np.float32))(indices, np.ones((2, 2), np.float32))
    with pytest.raises(InputError, match="no last offset"):
        bags(indices[0], indices[0], include_last=1)(indices[0], indices[0][:0])
