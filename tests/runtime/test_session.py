"""Sessions: states live from run to run, in memory that is the session's own."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

import qfx
from qfx.runtime import Executable, Program, ProgramBuilder, Session

RANK = (-1, -1)


def decoder(initial: np.ndarray | None = None) -> Program:
    """``past`` grows by the rows of ``x``; the result is ``x`` and all that came before, each code looked up."""
    b = ProgramBuilder()
    x, past = b.value("x", "u8", RANK), b.value("past", "u8", RANK)
    longer, y = b.value("longer", "u8", RANK), b.value("y", "u8", RANK)
    b.step("concat", "concat", [past, x], longer, ints={"axis": 0})
    b.step("lookup", "lookup", [longer], y, constants={"table": b.constant(np.arange(255, -1, -1, dtype=np.uint8))})
    b.state(past, longer, None if initial is None else b.constant(initial))
    return b.build([x, past], [y, longer])


def counter() -> Program:
    """``total`` becomes ``total + x``; the result is what it was before."""
    b = ProgramBuilder()
    x, total, added, before = (b.value(name, "u8", (-1,)) for name in ("x", "total", "added", "before"))
    ints = {"a_zero_point": 0, "b_zero_point": 0, "zero_point": 0}
    b.step("add", "add", [x, total], added, ints=ints, floats={"a_multiplier": 1.0, "b_multiplier": 1.0})
    identity = b.constant(np.arange(256, dtype=np.uint8))
    b.step("lookup", "lookup", [total], before, constants={"table": identity})
    b.state(total, added)
    return b.build([total, x], [before, added])


def rows(seed: int, count: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 4), dtype=np.uint8)


def test_a_state_that_grows_holds_all_that_came() -> None:
    session = Session(decoder())
    given = [rows(i, 1 + i % 3) for i in range(40)]
    session.set(past=given[0])
    for i in range(1, len(given)):
        (y,) = session(given[i])
        np.testing.assert_array_equal(y, 255 - np.concatenate(given[: i + 1]))
    np.testing.assert_array_equal(session.get("past"), np.concatenate(given))


def test_a_state_may_begin_empty() -> None:
    session = Session(decoder())
    session.set(past=np.zeros((0, 4), np.uint8))
    np.testing.assert_array_equal(session(rows(1, 2))[0], 255 - rows(1, 2))


@pytest.mark.parametrize("release", [False, True])
@pytest.mark.parametrize("count", [0, 3])
def test_a_state_begins_as_the_program_says(count: int, release: bool) -> None:
    program = Program.from_bytes(decoder(rows(7, count)).to_bytes())
    executable = Executable(program, release=release)
    del program
    for _ in range(2):  # the second is not where the first left off
        session = Session(executable)
        np.testing.assert_array_equal(session.get("past"), rows(7, count))
        np.testing.assert_array_equal(session(rows(1))[0], 255 - np.concatenate([rows(7, count), rows(1)]))


def test_a_session_gives_what_runs_with_their_states_passed_by_hand_give() -> None:
    executable = Executable(counter())
    session, total = Session(executable), np.zeros(5, np.uint8)
    session.set(total=total)
    for i in range(20):
        x = np.random.default_rng(i).integers(0, 9, 5, dtype=np.uint8)
        before, total = executable(total, x)
        np.testing.assert_array_equal(session(x)[0], before)
        np.testing.assert_array_equal(session.get("total"), total)


def test_sessions_of_one_executable_do_not_meet() -> None:
    executable = Executable(counter())
    sessions = [Session(executable) for _ in range(4)]

    def count(session: Session, step: int) -> None:
        for _ in range(50):
            session(np.full(3, step, np.uint8))

    for session in sessions:
        session.set(total=np.zeros(3, np.uint8))
    threads = [threading.Thread(target=count, args=(s, step)) for step, s in enumerate(sessions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for step, session in enumerate(sessions):
        assert session.get("total").tolist() == [50 * step] * 3


def test_torch_tensors_in_give_torch_tensors_out() -> None:
    session = Session(Executable(decoder(), release=True))
    session.set(past=rows(0))
    (y,) = session(torch.from_numpy(rows(1)))
    assert torch.equal(y, torch.from_numpy(255 - np.concatenate([rows(0), rows(1)])))


def test_without_states_it_is_a_call() -> None:
    b = ProgramBuilder()
    x, y = b.value("x", "u8", RANK), b.value("y", "u8", RANK)
    b.step("lookup", "lookup", [x], y, constants={"table": b.constant(np.arange(255, -1, -1, dtype=np.uint8))})
    np.testing.assert_array_equal(Session(b.build([x], [y]))(rows(0))[0], 255 - rows(0))


def test_what_fails_leaves_states_as_they_were() -> None:
    session = Session(decoder())
    session.set(past=rows(0))
    for wrong in (np.zeros((1, 5), np.uint8), np.zeros((1, 4), np.float32), np.zeros(4, np.uint8)):
        with pytest.raises(qfx.InputError):
            session(wrong)
    with pytest.raises(qfx.InputError):
        session.set(past=np.zeros((1, 4), np.int8))
    np.testing.assert_array_equal(session.get("past"), rows(0))


def test_mistakes_are_told() -> None:
    session = Session(decoder())
    for call in (lambda: session(rows(0)), lambda: session.get("past")):
        with pytest.raises(qfx.InputError, match="'past' has no value before the first run"):
            call()
    with pytest.raises(qfx.InputError, match="no state 'future'"):
        session.set(future=rows(0))
    with pytest.raises(qfx.RuntimeLoadError, match="is no program"):
        Session("decoder")  # type: ignore[arg-type]
    with pytest.raises(qfx.InputError, match="takes 1 inputs"):
        session(rows(0), rows(1))
