"""One executable, many sizes: plans share what was found for earlier ones, and compute the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from qfx.runtime import Executable, MemoryRecord, Program, get_num_threads, set_num_threads
from tests.runtime.step_programs import small_network
from tests.runtime.test_branches import inception

Shape = tuple[int, ...]


@pytest.fixture(autouse=True)
def same_threads_afterwards() -> Iterator[None]:
    before = get_num_threads()
    yield
    set_num_threads(before)


NETS: dict[str, tuple[Callable[[], Program], Callable[[int, int], Shape], type]] = {
    "chain": (lambda: small_network(channels=16, blocks=3)[0], lambda h, w: (1, 3, h, w), np.float32),
    "branches": (lambda: inception(32, 2), lambda h, w: (1, h, w, 3), np.uint8),
}


def given(shape: Shape, dtype: type) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape).astype(dtype)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", NETS)
def test_every_size_gives_what_a_fresh_executable_gives(name: str, threads: int) -> None:
    make, shape_of, dtype = NETS[name]
    program = make()
    kept = Executable(program)
    set_num_threads(threads)
    for height, width in np.random.default_rng(1).integers(1, 40, (60, 2)).tolist():
        x = given(shape_of(height, width), dtype)
        for one, other in zip(kept(x), Executable(program)(x), strict=True):
            np.testing.assert_array_equal(one, other)


def memories(sizes: Sequence[int]) -> list[MemoryRecord]:
    make, shape_of, _ = NETS["branches"]
    kept = Executable(make())
    return [kept.explain(shape_of(n, 8)).memory for n in sizes]


def test_a_length_that_grows_is_laid_out_only_where_it_outgrows_its_memory() -> None:
    layouts = [m.arena_bytes for m in memories(range(1, 129))]
    assert layouts == sorted(layouts)
    assert len(set(layouts)) <= 2 + 7, "one for the first length, one for the second, then one each time it doubles"


def test_memory_of_sizes_that_vary_stays_near_what_they_need() -> None:
    make, shape_of, _ = NETS["branches"]
    program = make()
    for n, memory in zip(sizes := (1, 90, 40, 7, 128, 1, 2), memories(sizes), strict=True):
        assert memory.arena_bytes <= 5 * Executable(program).explain(shape_of(n, 8)).memory.arena_bytes


def test_large_memory_has_no_room_to_grow() -> None:
    make, shape_of, _ = NETS["branches"]
    program = make()
    kept = Executable(program)
    for n in (300, 310, 320):
        memory = kept.explain(shape_of(n, n)).memory
        assert memory.arena_bytes == Executable(program).explain(shape_of(n, n)).memory.arena_bytes > 4 << 20


@pytest.mark.parametrize("name", NETS)
def test_steps_of_a_phase_share_no_memory_that_one_of_them_writes(name: str) -> None:
    make, shape_of, _ = NETS[name]
    kept = Executable(make())
    for n in (30, 5, 11, 13, 17, 23, 24, 25):
        shape = shape_of(n, n)
        strides = tuple(int(np.prod(shape[i + 1 :])) for i in range(4))
        plan = kept._core.plan(((shape, strides),))
        written: list[tuple[int, int]] = []
        for work, (operands, outs, sizes) in zip(plan.works, plan.placement, strict=True):
            written = [] if work[9] else written
            single = work[8] == 1
            for place in operands:
                assert place[0] != 0 or single or all(not begin <= place[2] < end for begin, end in written)
            written += [(out[2], out[2] + size) for out, size in zip(outs, sizes, strict=True) if out[0] == 0]
