"""The first steps of a network over a batch, a few images at a time: the same integers, whatever the cut."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from qfx.errors import InputError
from qfx.runtime import Executable, Explanation, ProgramBuilder, get_num_threads, set_num_threads
from tests.runtime.step_programs import small_network
from tests.runtime.test_steps import CASES, Case

CHANNELS = 24
IDENTITY = {"a_zero_point": 0, "b_zero_point": 0, "zero_point": 0}
HALVES = {"a_multiplier": 0.5, "b_multiplier": 0.5}


@pytest.fixture(autouse=True)
def same_threads_afterwards() -> Iterator[None]:
    before = get_num_threads()
    yield
    set_num_threads(before)


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def codes(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


def sliced(explanation: Explanation) -> list[str]:
    return [step.name for step in explanation.steps if step.slices > 1]


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize("batch", [2, 7, 8, 13])
def test_slices_give_what_whole_batches_give(batch: int, threads: int) -> None:
    program, ids = small_network(channels=CHANNELS, blocks=4)
    exe = Executable(program)
    x = images(batch, 3, 96, 96)
    set_num_threads(threads)
    assert "add2" in sliced(exe.explain(x.shape))
    whole, _ = exe.run_and_fetch([x], [ids["add3"]])  # keeps every value, so without slices
    np.testing.assert_array_equal(exe(x)[0], whole[0])
    np.testing.assert_array_equal(exe(x)[0], np.concatenate([exe(x[i : i + 1])[0] for i in range(batch)]))


def test_slices_of_inputs_with_any_strides() -> None:
    exe = Executable(small_network(channels=CHANNELS, blocks=4)[0])
    x = images(14, 3, 96, 96)
    expected = exe(x)[0]
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    outermost = np.ascontiguousarray(x.transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2)
    for same in (last, outermost):
        np.testing.assert_array_equal(exe(same)[0], expected)
    np.testing.assert_array_equal(exe(x[::2])[0], expected[::2])
    np.testing.assert_array_equal(exe(x[::-1])[0], expected[::-1])


def test_small_images_go_together() -> None:
    exe = Executable(small_network(channels=CHANNELS, blocks=4)[0])
    counts = {step.slices for step in exe.explain((96, 3, 24, 24)).steps}
    assert max(counts) in range(2, 48), "several images to a slice"


def test_a_small_batch_is_not_sliced() -> None:
    exe = Executable(small_network(channels=CHANNELS, blocks=4)[0])
    assert sliced(exe.explain((1, 3, 96, 96))) == []
    assert sliced(exe.explain((8, 3, 8, 8))) == []


def test_times_of_slices_add_up() -> None:
    exe = Executable(small_network(channels=CHANNELS, blocks=4)[0])
    for threads in (1, 2):
        set_num_threads(threads)
        times = [step.microseconds for step in exe.profile(images(7, 3, 96, 96), repeats=2)]
        assert len(times) == len(exe.explain((7, 3, 96, 96)).steps)
        assert all(t is not None and t > 0 for t in times)


def _doubled(builder: ProgramBuilder, x: int, name: str) -> int:
    y = builder.value(name, "u8", (-1, -1, -1))
    builder.step("add", name, [x, x], y, ints=IDENTITY, floats=HALVES)
    return y


def test_steps_that_mix_images_end_the_slices() -> None:
    b = ProgramBuilder()
    x = b.value("x", "u8", (-1, -1, -1))
    h = _doubled(b, x, "first")
    swapped, y = b.value("swapped", "u8", (-1, -1, -1)), b.value("y", "u8", (-1, -1, -1))
    b.step("permute", "swapped", [h], swapped, ints={"perm": [1, 0, 2]})
    b.step("add", "y", [swapped, swapped], y, ints=IDENTITY, floats=HALVES)
    exe = Executable(b.build([x], [y]))
    given = codes(64, 64, 640)
    assert sliced(exe.explain(given.shape)) == ["x", "first"]
    np.testing.assert_array_equal(exe(given)[0], given.transpose(1, 0, 2))


def test_softmax_over_the_batch_is_not_sliced() -> None:
    b = ProgramBuilder()
    x, y = b.value("x", "f32", (-1, -1, -1)), b.value("y", "f32", (-1, -1, -1))
    b.step("softmax", "y", [x], y, ints={"axis": 0})
    exe = Executable(b.build([x], [y]))
    assert sliced(exe.explain((8, 256, 512))) == []
    np.testing.assert_allclose(exe(images(8, 256, 512))[0].sum(0), 1.0, rtol=1e-5)


def test_a_declared_batch_is_not_sliced() -> None:
    b = ProgramBuilder()
    x, y = b.value("x", "u8", (8, -1, -1)), b.value("y", "u8", (8, -1, -1))
    b.step("add", "y", [x, x], y, ints=IDENTITY, floats=HALVES)
    exe = Executable(b.build([x], [y]))
    given = codes(8, 512, 512)
    assert sliced(exe.explain(given.shape)) == []
    np.testing.assert_array_equal(exe(given)[0], given)


def test_an_operand_that_all_images_share() -> None:
    b = ProgramBuilder()
    x, shared = b.value("x", "u8", (-1, -1, -1)), codes(1, 512, 512)
    constant = b.constant_value("shared", shared)
    y = b.value("y", "u8", (-1, -1, -1))
    b.step("add", "y", [x, constant], y, ints=IDENTITY, floats={"a_multiplier": 1.0, "b_multiplier": 1.0})
    exe = Executable(b.build([x], [y]))
    given = codes(6, 512, 512)
    assert "y" in sliced(exe.explain(given.shape))
    np.testing.assert_array_equal(exe(given)[0], np.minimum(given.astype(int) + shared, 255))


def test_inputs_of_two_batches_are_not_sliced() -> None:
    b = ProgramBuilder()
    x, z, y = (b.value(name, "u8", (-1, -1, -1)) for name in "xzy")
    b.step("add", "y", [x, z], y, ints=IDENTITY, floats={"a_multiplier": 1.0, "b_multiplier": 1.0})
    exe = Executable(b.build([x, z], [y]))
    assert sliced(exe.explain((8, 512, 512), (1, 512, 512))) == []
    assert sliced(exe.explain((8, 512, 512), (8, 512, 512))) != []


def test_the_sliced_value_can_be_the_output() -> None:
    b = ProgramBuilder()
    x = b.value("x", "u8", (-1, -1, -1))
    exe = Executable(b.build([x], [_doubled(b, _doubled(b, x, "first"), "second")]))
    given = codes(9, 512, 512)
    set_num_threads(2)
    assert "second" in sliced(exe.explain(given.shape))
    np.testing.assert_array_equal(exe(given)[0], given)


def test_a_value_read_after_the_cut_and_returned_too() -> None:
    b = ProgramBuilder()
    x = b.value("x", "u8", (-1, -1, -1))
    h = _doubled(b, x, "first")
    turned = b.value("turned", "u8", (-1, -1, -1))
    b.step("permute", "turned", [h], turned, ints={"perm": [1, 0, 2]})
    exe = Executable(b.build([x], [h, turned]))
    given = codes(16, 256, 512)
    out, other = exe(given)
    assert sliced(exe.explain(given.shape)) == ["x", "first"]
    np.testing.assert_array_equal(out, given)
    np.testing.assert_array_equal(other, given.transpose(1, 0, 2))


def test_a_pad_that_moves_images_ends_the_slices() -> None:
    b = ProgramBuilder()
    x = b.value("x", "u8", (-1, -1, -1))
    h, moved = _doubled(b, x, "first"), b.value("moved", "u8", (-1, -1, -1))
    b.step("pad", "moved", [h], moved, ints={"lo": [1, 0, 0], "hi": [-1, 0, 0]}, floats={"fill": 7.0})
    exe = Executable(b.build([x], [_doubled(b, moved, "last")]))
    given = codes(8, 512, 512)
    assert sliced(exe.explain(given.shape)) == ["x", "first"]
    np.testing.assert_array_equal(exe(given)[0], np.concatenate([np.full_like(given[:1], 7), given[:-1]]))


def test_an_operand_whose_batch_is_another_dim_is_not_sliced() -> None:
    b = ProgramBuilder()
    x, z, y = b.value("x", "u8", (-1, -1)), b.value("z", "u8", (-1, -1, -1)), b.value("y", "u8", (-1, -1, -1))
    b.step("add", "y", [x, z], y, ints=IDENTITY, floats={"a_multiplier": 1.0, "b_multiplier": 1.0})
    exe = Executable(b.build([x, z], [y]))
    rows, images_ = codes(8, 1 << 17), codes(8, 8, 1 << 17)
    assert sliced(exe.explain(rows.shape, images_.shape)) == []
    np.testing.assert_array_equal(exe(rows, images_)[0], np.minimum(rows.astype(int) + images_, 255))


def test_a_place_that_the_batch_decides_ends_the_slices() -> None:
    b = ProgramBuilder()
    x = b.value("x", "u8", (-1, -1, -1))
    h, y = _doubled(b, x, "first"), b.value("y", "u8", (-1, -1, -1))
    images_ = b.expr_dim(x, 0)
    last = b.expr("add", images_, b.expr_const(-1))
    b.step("slice", "picked", [h], y, ints={"axis": 1}, exprs={"start": [last], "end": [images_]})
    exe = Executable(b.build([x], [_doubled(b, y, "y")]))
    given = codes(8, 64, 8192)
    assert sliced(exe.explain(given.shape)) == ["x", "first"]
    np.testing.assert_array_equal(exe(given)[0], given[:, 7:8])


def test_what_is_computed_for_all_images_is_computed_by_every_slice() -> None:
    b = ProgramBuilder()
    x, y = b.value("x", "f32", (-1, -1, -1)), b.value("y", "f32", (-1, -1, -1))
    table = np.random.default_rng(0).normal(size=(1, 500, 512)).astype(np.float32)
    rows = b.value("rows", "f32", (1, -1, 512))
    exprs = {"start": [b.expr_const(0)], "end": [b.expr("mul", b.expr_dim(x, 1), b.expr_const(2))]}
    b.step("slice", "rows", [b.constant_value("table", table)], rows, ints={"axis": 1, "step": 2}, exprs=exprs)
    b.step("add_f32", "y", [x, rows], y)
    exe = Executable(b.build([x], [y]))
    given = images(6, 200, 512)
    explanation = exe.explain(given.shape)
    assert sliced(explanation) == ["rows", "y"]
    assert [step.shape for step in explanation.steps if step.slices > 1] == [(1, 200, 512), (6, 200, 512)]
    np.testing.assert_array_equal(exe(given)[0], given + table[:, :400:2])


@pytest.mark.parametrize("counted", ["images", "from one", "given"])
def test_numbers_of_the_images_pick_images(counted: str) -> None:
    b = ProgramBuilder()
    x, y = b.value("x", "f32", (-1, -1, -1)), b.value("y", "f32", (-1, -1, -1))
    rows, first = b.expr_dim(x, 0), int(counted == "from one")
    numbers = b.value("numbers", "s64", (-1,))
    count = {"count": [b.expr("sub", rows, b.expr_const(first))]}
    b.step("arange", "numbers", [b.constant_value("first", np.array(first))], numbers, ints={"step": 1}, exprs=count)
    turned, given = b.value("turned", "s64", (-1, 1)), np.array([[4], [3], [2], [1], [0]] * 2)
    b.step("reshape", "turned", [numbers], turned, exprs={"shape": [b.expr_const(-1), b.expr_const(1)]})
    other = b.constant_value("other", np.array([[2, 0]]))
    index = b.constant_value("given", given) if counted == "given" else turned
    b.step("take", "taken", [x, index, other], y)
    exe = Executable(b.build([x], [y]))
    x_given = images(10, 3, 1 << 16)
    place = given if counted == "given" else np.arange(first, 10)[:, None]
    assert sliced(exe.explain(x_given.shape)) == (["numbers", "taken"] if counted == "images" else [])
    np.testing.assert_array_equal(exe(x_given)[0], x_given[place, [[2, 0]]])


# ---------------------------------------------------------------- every operation

X, Y = images(4, 3, 6), images(4, 3, 5, 6)[:, :, 0]
INDEX = np.random.default_rng(0).integers(0, 3, (4, 2, 6))
SAME_BATCH = [
    *(Case(op, (X, Y), np.add) for op in ("add_f32", "sub_f32", "mul_f32", "div_f32")),
    Case("pairwise", (X, Y), np.less, {"text": {"function": "lt"}}),
    Case("where", (X > 0, X, Y), np.where),
    Case("gather", (X, INDEX), lambda x, index: np.take_along_axis(x, index, 1), {"ints": {"axis": 1}}),
    Case(
        "rotary",
        (images(4, 3, 5, 16), images(4, 1, 5, 16), images(4, 1, 5, 16)),
        lambda x, cos, sin: x,
        {"ints": {"length": 16, "interleaved": 0, "perm": [0, 1, 2, 3]}},
    ),
]
NOT_SLICED = {"rnn_tanh", "rnn_relu", "gru", "lstm", "arange", "take", "ragged_embedding_bag"}
"""Operations that do not treat each entry of their first dim alone."""
UNTRIED = {"expand", "reshape"}
"""Whose cases name the batch."""


def batches_of(case: Case, exe: Executable) -> list[np.ndarray] | None:
    """Its inputs with so many images, each picked from the case's, that slices pay; None where they share no batch."""
    counts = {x.shape[0] if x.ndim and x.size else 0 for x in case.inputs}
    if len(counts) != 1 or counts == {0}:
        return None
    results = (4 * math.prod(shape) for shape in exe.output_shapes(*(x[:1].shape for x in case.inputs)))
    rng, bytes_of_one = np.random.default_rng(3), sum(x[:1].nbytes for x in case.inputs) + sum(results)
    count = 3 ** max(4, math.ceil(math.log((4 << 20) / bytes_of_one, 3)))  # slices begin anywhere in memory
    return [x[rng.integers(0, len(x), count)] for x in case.inputs]


def is_sliced(case: Case) -> bool:
    """Whether a case over many images goes in slices, which give what they give together."""
    exe = Executable(case.program())
    try:
        given = batches_of(case, exe)
        if given is None or not sliced(exe.explain(*(x.shape for x in given))):
            return False
    except InputError:  # it takes no other batch
        return False
    for got, whole in zip(exe(*given), exe.run_and_fetch(given, [])[0], strict=True):
        np.testing.assert_array_equal(got, whole)
    return True


@pytest.mark.parametrize("op", sorted({case.op for case in CASES}))
def test_an_operation_in_slices_gives_what_it_gives_together(op: str) -> None:
    found = [is_sliced(case) for case in (*CASES, *SAME_BATCH) if case.op == op]
    assert any(found) == (op not in NOT_SLICED | UNTRIED)
