"""Plans: views, copies at the border, buffer reuse, barriers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from qfx.runtime import _C, Executable, Program, ProgramBuilder
from tests.runtime.step_programs import one_step, small_network

ARENA, INPUT, OUTPUT = 0, 1, 2


def plan_of(program: Program, *shapes: Sequence[int]) -> _C.Plan:
    strides = [tuple(int(np.prod(s[i + 1 :])) for i in range(len(s))) for s in shapes]
    return _C.Executable(program).plan(tuple(zip(map(tuple, shapes), strides, strict=True)))


def ops(program: Program, *shapes: Sequence[int]) -> list[str]:
    return [work[2] for work in plan_of(program, *shapes).works]


def test_no_two_live_buffers_overlap_in_a_network() -> None:
    plan = plan_of(small_network(channels=16, blocks=5)[0], (2, 3, 17, 13))
    written = [(out, size) for _, outs, sizes in plan.placement for out, size in zip(outs, sizes, strict=True)]
    assert len(written) == len(plan.placement)
    last_read = {}
    for at, (operands, _, _) in enumerate(plan.placement):
        for place in operands:
            last_read[max(w for w in range(at) if written[w][0] == place) if place[0] == ARENA else -1] = at
    live = [(w, last_read.get(w, w), out[2], size) for w, (out, size) in enumerate(written) if out[0] == ARENA]
    for i, (first_a, last_a, at_a, size_a) in enumerate(live):
        for first_b, last_b, at_b, size_b in live[:i]:
            together = first_a <= last_b and first_b <= last_a
            assert not together or at_a + size_a <= at_b or at_b + size_b <= at_a


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (2, 3, 33, 17), (7, 3, 64, 64)])
def test_network_memory_is_close_to_the_largest_live_set(shape: tuple[int, ...]) -> None:
    memory = Executable(small_network(channels=16, blocks=6)[0]).explain(shape).memory
    assert memory.largest_live_bytes <= memory.arena_bytes <= 1.3 * memory.largest_live_bytes


def test_output_is_written_in_place() -> None:
    plan = plan_of(small_network()[0], (1, 3, 8, 8))
    assert plan.placement[-1][1][0][0] == OUTPUT
    assert plan.works[-1][2] == "dequantize"


def test_quantize_reads_the_callers_memory() -> None:
    plan = plan_of(small_network()[0], (1, 3, 8, 8))
    assert plan.placement[0][0][0][0] == INPUT
    assert plan.works[0][2] == "quantize"


def chain(dtype: str = "u8") -> tuple[ProgramBuilder, int, int]:
    """A builder with input x [-1, -1, -1] and a concat of it with itself, so that steps read an arena buffer."""
    b = ProgramBuilder()
    x, y = b.value("x", dtype, (-1, -1, -1)), b.value("twice", dtype, (-1, -1, -1))
    b.step("concat", "twice", [x, x], y, ints={"axis": 2})
    return b, x, y


def test_moves_that_change_nothing_are_views() -> None:
    b, x, h = chain("f32")
    const = b.expr_const
    names = ("reshape", "permute", "slice", "expand", "concat", "pad")
    values = [b.value(n, "f32", (-1, -1, -1)) for n in names]
    b.step("reshape", "reshape", [h], values[0], exprs={"shape": [const(2), const(1), const(-1)]})
    b.step("permute", "permute", [values[0]], values[1], ints={"perm": [0, 2, 1]})
    b.step("slice", "slice", [values[1]], values[2], ints={"axis": 1}, exprs={"start": [const(0)], "end": [const(999)]})
    b.step("expand", "expand", [values[2]], values[3], exprs={"shape": [const(-1), const(-1), const(1)]})
    b.step("concat", "concat", [values[3]], values[4], ints={"axis": 0})
    b.step("pad", "pad", [values[4]], values[5], ints={"lo": [0] * 3, "hi": [0] * 3})
    program = b.build([x], [values[5]])
    plan = plan_of(program, (2, 3, 4))
    assert plan.views == list(names)
    assert [work[2] for work in plan.works] == ["concat"]
    array = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    np.testing.assert_array_equal(
        Executable(program)(array)[0], np.concatenate([array, array], 2).reshape(2, 1, -1).transpose(0, 2, 1)
    )


def test_an_unaligned_slice_is_a_copy() -> None:
    b, x, h = chain()
    y = b.value("y", "u8", (-1, -1, -1))
    b.step("slice", "slice", [h], y, ints={"axis": 0}, exprs={"start": [b.expr_const(1)], "end": [b.expr_const(2)]})
    assert ops(b.build([x], [y]), (2, 3, 4)) == ["copy_input", "concat", "slice"]


def test_a_view_of_part_of_a_buffer_is_copied_to_the_output() -> None:
    b, x, h = chain()
    y = b.value("y", "u8", (-1, -1, -1))
    b.step("slice", "slice", [h], y, ints={"axis": 0}, exprs={"start": [b.expr_const(1)], "end": [b.expr_const(2)]})
    program = b.build([x], [y])
    assert ops(program, (2, 4, 8)) == ["copy_input", "concat", "copy_output"]
    array = np.arange(64, dtype=np.uint8).reshape(2, 4, 8)
    np.testing.assert_array_equal(Executable(program)(array)[0], np.concatenate([array, array], 2)[1:2])


@pytest.mark.parametrize("dtype", ["u8", "f32"])
def test_outputs_may_be_inputs_constants_and_repeated(dtype: str) -> None:
    array = np.arange(6, dtype=np.uint8 if dtype == "u8" else np.float32).reshape(2, 3)
    b = ProgramBuilder()
    x, y = b.value("x", dtype, (-1, -1)), b.value("y", dtype, (-1, -1))
    c = b.constant_value("c", array + 1)
    b.step("concat", "concat", [x, c], y, ints={"axis": 0})
    outputs = Executable(b.build([x], [x, y, c, y]))(array)
    both = np.concatenate([array, array + 1])
    for got, expected in zip(outputs, (array, both, array + 1, both), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_an_output_that_is_also_read() -> None:
    b = ProgramBuilder()
    x, y, z = (b.value(n, "u8", (-1,)) for n in "xyz")
    for source, target, shift in ((x, y, 1), (y, z, 2)):
        table = np.roll(np.arange(256, dtype=np.uint8), -shift)
        b.step("lookup", f"plus{shift}", [source], target, constants={"table": b.constant(table)})
    codes = np.arange(100, dtype=np.uint8)
    outputs = Executable(b.build([x], [y, z]))(codes)
    np.testing.assert_array_equal(outputs[0], codes + 1)
    np.testing.assert_array_equal(outputs[1], codes + 3)


def test_strided_inputs() -> None:
    """Byte inputs of a convolution-like consumer are copied; a permute reads them as they are."""
    codes = np.random.default_rng(0).integers(0, 256, (4, 6, 10), dtype=np.uint8)
    identity = {"table": np.arange(256, dtype=np.uint8)}
    lookup = Executable(one_step("lookup", [codes], ("u8", 3), constants=identity))
    permute = Executable(one_step("permute", [codes], ("u8", 3), ints={"perm": [2, 0, 1]}))
    for view in (codes[::2, 1:, ::3], codes[::-1], codes.transpose(1, 2, 0), np.broadcast_to(codes[:1], codes.shape)):
        np.testing.assert_array_equal(lookup(view)[0], view)
        np.testing.assert_array_equal(permute(view)[0], view.transpose(2, 0, 1))


def test_strided_float_inputs_of_float_ops() -> None:
    x = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    program = one_step("add_f32", [x, x], ("f32", 2))
    np.testing.assert_array_equal(Executable(program)(x.T[::2], x.T[::2])[0], x.T[::2] + x.T[::2])
    assert ops(program, x.shape, x.shape) == ["add_f32"]


def test_dimension_expressions() -> None:
    b = ProgramBuilder()
    x, y = b.value("x", "u8", (-1, -1)), b.value("y", "u8", (-1, -1))
    rows, two = b.expr_dim(x, 0), b.expr_const(2)
    half = b.expr("floordiv", rows, two)
    start = b.expr("sub", b.expr("mul", half, two), b.expr("add", rows, b.expr("neg", two)))
    b.step("slice", "slice", [x], y, ints={"axis": 0}, exprs={"start": [start], "end": [half]})
    exe = Executable(b.build([x], [y]))
    for n in (7, 8, 20):
        codes = np.arange(n * 2, dtype=np.uint8).reshape(n, 2)
        np.testing.assert_array_equal(exe(codes)[0], codes[n // 2 * 2 - (n - 2) : n // 2])


def test_steps_that_share_nothing_need_no_barrier() -> None:
    b = ProgramBuilder()
    x = b.value("x", "u8", (-1, -1))
    values = [b.value(f"y{i}", "u8", (-1, -1)) for i in range(3)]
    table = b.constant(np.arange(256, dtype=np.uint8))
    b.step("lookup", "a", [x], values[0], constants={"table": table})
    b.step("lookup", "b", [x], values[1], constants={"table": table})
    b.step("lookup", "c", [values[1]], values[2], constants={"table": table})
    steps = Executable(b.build([x], [values[0], values[2]])).explain((1, 10**6)).steps
    barriers = {s.name: s.barrier for s in steps}
    assert barriers == {"x": False, "a": True, "b": False, "c": True}, "x: the copy of the input"
