"""Executables that keep nothing of their program but what is read at run time."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from qfx.runtime import Executable, Program, ProgramBuilder, isa_names
from tests.runtime.step_programs import small_network
from tests.runtime.test_steps import CASES, Case

X = np.random.default_rng(0).standard_normal((2, 3, 9, 8)).astype(np.float32)


@contextmanager
def released(program: Program, path: Path, isa: str | None = None) -> Iterator[Executable]:
    """The program loaded from a file that is overwritten afterwards, and that nothing may have in use at the end."""
    data = program.to_bytes()
    path.write_bytes(data)
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        executable = Executable(Program.from_bytes(mapped), isa, release=True)
        file.write(b"\x55" * len(data))
        file.flush()
    assert mapped[:] == b"\x55" * len(data)
    yield executable
    mapped.close()  # raises BufferError if it is in use


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.op}-{c.label}" if c.label else c.op)
def test_every_step_runs_without_its_program(case: Case, tmp_path: Path) -> None:
    program = case.program()
    for isa in isa_names():
        with released(program, tmp_path / isa, isa) as executable:
            results = executable(*case.inputs)
        for one, other in zip(results, Executable(program, isa)(*case.inputs), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_network_is_explained_profiled_and_looked_into_without_its_program(tmp_path: Path) -> None:
    program, ids = small_network(channels=16)
    whole = Executable(program)
    computed = [v for name, v in ids.items() if name != "x"]
    (expected,), others = whole.run_and_fetch([X], computed)
    with released(program, tmp_path / "program") as executable:
        assert executable.program is None
        assert executable.explain(X.shape).steps == whole.explain(X.shape).steps
        assert [r.name for r in executable.profile(X, repeats=1)] == [r.name for r in whole.profile(X, repeats=1)]
        (y,), values = executable.run_and_fetch([X], computed)
    np.testing.assert_array_equal(y, expected)
    for v, array in others.items():
        np.testing.assert_array_equal(values[v], array)


def test_weights_are_in_memory_once() -> None:
    program, _ = small_network(channels=16)
    kept, alone = (Executable(program, release=r).explain(X.shape).memory for r in (False, True))
    assert kept.packed_bytes == alone.packed_bytes > 0
    assert (kept.constant_bytes, alone.constant_bytes) == (program.constant_bytes, 0)


def test_constant_operands_stay(tmp_path: Path) -> None:
    b = ProgramBuilder()
    x, y = b.value("x", "u8", (-1, 4)), b.value("y", "u8", (-1, 4))
    operand = b.constant_value("operand", np.arange(4, dtype=np.uint8))
    ints = {"a_zero_point": 0, "b_zero_point": 0, "zero_point": 0}
    b.step("add", "add", [x, operand], y, ints=ints, floats={"a_multiplier": 1.0, "b_multiplier": 1.0})
    with released(b.build([x], [y]), tmp_path / "program") as executable:
        np.testing.assert_array_equal(executable(np.full((2, 4), 7, np.uint8))[0], [[7, 8, 9, 10]] * 2)
        assert executable.explain((2, 4)).memory.constant_bytes == 4
