"""Steps that go by rows, in one pass to the codes: the values of a run in which each step has memory of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from qfx.runtime import Executable, Program, ProgramBuilder, get_num_threads, isa_names, set_num_threads, steps
from qfx.runtime.writing import Step, write

RNG = np.random.default_rng(3)


@pytest.fixture(autouse=True)
def same_threads_afterwards() -> Iterator[None]:
    before = get_num_threads()
    yield
    set_num_threads(before)


def vector(b: ProgramBuilder, width: int) -> int:
    return b.constant(RNG.uniform(0.5, 1.5, width).astype(np.float32))


def layer_norm(b: ProgramBuilder, x: int, width: int) -> Step:
    return steps.layer_norm(x, ndim=1, eps=1e-5, weight=vector(b, width), bias=vector(b, width))


def rms_norm(b: ProgramBuilder, x: int, width: int) -> Step:
    return steps.rms_norm(x, ndim=1, eps=1e-6, weight=vector(b, width))


def gelu(b: ProgramBuilder, x: int, width: int) -> Step:
    return steps.pointwise_f32(x, function="gelu", args=[0.0])


def rotate(b: ProgramBuilder, x: int, width: int) -> Step:
    return steps.rotate(x, block=16)


def static(b: ProgramBuilder, x: int, width: int) -> Step:
    return steps.quantize(x, perm=[0, 1, 2], zero_point=120, scale=0.02)


def dynamic(b: ProgramBuilder, x: int, width: int) -> Step:
    weight = b.constant(RNG.integers(-127, 128, (24, width), dtype=np.int8))
    scale = b.constant(RNG.uniform(1e-3, 2e-3, 24).astype(np.float32))
    return steps.linear_dynamic(x, per_row=True, weight=weight, weight_scale=scale)


MAPS = (layer_norm, rms_norm, gelu, rotate)
ENDS = {static: ("u8", None), dynamic: ("f32", 24)}


def chain(maps: tuple[Any, ...], end: Any, width: int, extra: str = "") -> Program:
    """``extra``: "read" where another step reads what the last map makes, "left" where it is an output too."""
    b = ProgramBuilder()
    x = v = b.value("x", "f32", (-1, -1, width))
    for i, each in enumerate(maps):
        v = write(b, f"map{i}", each(b, v, width), (-1, -1, width))[0]
    dtype, columns = ENDS[end]
    y = write(b, "end", end(b, v, width), (-1, -1, columns or width), dtype=None if dtype == "f32" else dtype)[0]
    more = {"read": lambda: [write(b, "more", steps.mul_f32(v, x), (-1, -1, width))[0]], "left": lambda: [v]}
    return b.build([x], [y, *(more[extra]() if extra else [])])


def floats(rows: int, width: int) -> np.ndarray:
    return np.random.default_rng(rows).normal(size=(2, rows, width)).astype(np.float32)


def ops(executable: Executable, x: np.ndarray) -> list[str]:
    return [step.op for step in executable.explain(x.shape).steps]


def check(executable: Executable, x: np.ndarray) -> None:
    """As if every step had been alone, as it is where all values are kept."""
    program = executable.program
    assert program is not None
    kept = executable.run_and_fetch([x], program.outputs)[1]
    for value, got in zip(program.outputs, executable(x), strict=True):
        np.testing.assert_array_equal(got, kept[value])


@pytest.mark.parametrize("isa", isa_names())
@pytest.mark.parametrize("end", ENDS)
def test_chains_of_all_maps(isa: str, end: Any) -> None:
    for maps in (*itertools.permutations(MAPS, 1), *itertools.permutations(MAPS, 2), MAPS, MAPS[::-1]):
        width = 48 if rotate in maps else 37
        executable = Executable(chain(maps, end, width), isa)
        for rows, threads in ((0, 1), (1, 1), (5, 2), (150, 3)):
            set_num_threads(threads)
            check(executable, floats(rows, width))
        (first, *rest) = ops(executable, floats(5, width))
        assert first.count("+") == len(maps) - (end is dynamic)
        assert rest == ([] if end is static else ["linear_dynamic"])


@pytest.mark.parametrize("isa", isa_names())
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_what_is_not_finite(isa: str, end: Any, value: float) -> None:
    x = floats(9, 48)
    x[1, 4, 17] = value
    for maps in ((rotate,), (layer_norm, rotate), (gelu, rotate), (rms_norm,)):
        check(Executable(chain(maps, end, 48), isa), x)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("extra", ["read", "left"])
def test_what_more_reads_stays_a_value(end: Any, extra: str) -> None:
    executable = Executable(chain((gelu, layer_norm), end, 40, extra), "scalar")
    x = floats(7, 40)
    assert not any("+" in op for op in ops(executable, x))
    check(executable, x)


def test_rows_wider_than_a_group_and_inputs_with_gaps() -> None:
    executable = Executable(chain((gelu, rotate), static, 8192))
    check(executable, floats(3, 8192))
    check(executable, floats(3, 2 * 8192)[:, :, ::2])


def test_a_chain_is_called_by_the_names_of_its_steps() -> None:
    executable = Executable(chain((layer_norm, gelu, rotate), static, 64))
    (step,) = executable.explain((1, 3, 64)).steps
    assert (step.name, step.op) == ("map0+map1+map2+end", "layer_norm+pointwise_f32+rotate+quantize")
    assert step.names == ("map0", "map1", "map2", "end")
    assert step.shape == (1, 3, 64)
    assert len(step.kernels) == 4


def test_chains_take_no_memory_for_what_is_between() -> None:
    executable = Executable(chain((gelu, rotate), static, 64))
    assert executable.explain((1, 4096, 64)).memory.arena_bytes < 4096 * 64 * 4
