"""Branches side by side: the same integers, in memory that steps of one phase never share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from qfx.runtime import Executable, Explanation, Program, ProgramBuilder, get_num_threads, set_num_threads

RANK = (-1, -1, -1, -1)


@pytest.fixture(autouse=True)
def same_threads_afterwards() -> Iterator[None]:
    before = get_num_threads()
    yield
    set_num_threads(before)


class Net:
    """A builder of u8 networks over images, channels last."""

    def __init__(self) -> None:
        self.b, self.rng = ProgramBuilder(), np.random.default_rng(0)

    def conv(self, name: str, x: int, c_in: int, c_out: int, kernel: int = 1) -> int:
        y = self.b.value(name, "u8", RANK)
        constants = {
            "weight": self.b.constant(self.rng.integers(-127, 128, (c_out, kernel, kernel, c_in), dtype=np.int8)),
            "bias": self.b.constant(self.rng.integers(-2000, 2000, c_out, dtype=np.int32)),
            "multiplier": self.b.constant(self.rng.uniform(1e-4, 2e-3, c_out).astype(np.float32)),
        }
        pad = [kernel // 2] * 2
        ints = {"padding_lo": pad, "padding_hi": pad, "x_zero_point": 3, "zero_point": 90}
        self.b.step("conv", name, [x], y, ints=ints, constants=constants)
        return y

    def pool(self, name: str, x: int) -> int:
        y = self.b.value(name, "u8", RANK)
        window = {"kernel": [3, 3], "stride": [1, 1], "padding_lo": [1, 1], "padding_hi": [1, 1]}
        self.b.step("max_pool", name, [x], y, ints=window)
        return y

    def concat(self, name: str, parts: list[int]) -> int:
        y = self.b.value(name, "u8", RANK)
        self.b.step("concat", name, parts, y, ints={"axis": 3})
        return y


def inception(channels: int, blocks: int) -> Program:
    """Blocks of four branches, one after the other as they are traced, whose results lie side by side."""
    net, part = Net(), channels // 4
    x = net.b.value("x", "u8", RANK)
    h = net.conv("stem", x, 3, channels, 3)
    for i in range(blocks):
        one = net.conv(f"one{i}", h, channels, part)
        three = net.conv(f"three{i}", net.conv(f"reduce3_{i}", h, channels, part), part, part, 3)
        five = net.conv(f"five{i}", net.conv(f"reduce5_{i}", h, channels, part), part, part, 5)
        pooled = net.conv(f"project{i}", net.pool(f"pool{i}", h), channels, part)
        h = net.concat(f"joined{i}", [one, three, five, pooled])
    return net.b.build([x], [net.conv("last", h, channels, 8)])


def phases(explanation: Explanation) -> list[set[str]]:
    """The names of the steps between two barriers."""
    found: list[set[str]] = [set()]
    for step in explanation.steps:
        if step.barrier:
            found.append(set())
        found[-1].add(step.name)
    return found


def codes(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [3, 9, 28, 65])
def test_branches_give_what_one_thread_gives(size: int, threads: int) -> None:
    exe, given = Executable(inception(32, 3)), codes(1, size, size, 3)
    set_num_threads(1)
    kept, _ = exe.run_and_fetch([given], [])
    set_num_threads(threads)
    for _ in range(5):
        np.testing.assert_array_equal(exe(given)[0], kept[0])


def test_a_block_of_branches_takes_two_phases() -> None:
    explanation = Executable(inception(64, 2)).explain((1, 28, 28, 3))
    found = phases(explanation)
    assert {"one0", "reduce3_0", "reduce5_0", "pool0"} in found
    assert {"three0", "five0", "project0"} in found
    assert len(found) == 2 + 2 * 2 + 1  # the copy of the input, the stem, two blocks, the last


def test_memory_of_branches_is_close_to_the_largest_live_set() -> None:
    for size in (9, 28, 112, 256):
        memory = Executable(inception(64, 3)).explain((1, size, size, 3)).memory
        assert memory.arena_bytes <= 1.3 * memory.largest_live_bytes


def test_large_branches_stay_in_their_order() -> None:
    names = [step.name for step in Executable(inception(64, 1)).explain((1, 256, 256, 3)).steps]
    assert names.index("three0") == names.index("reduce3_0") + 1, "while it is in cache"


def test_phases_share_no_memory_that_one_of_their_steps_writes() -> None:
    plan = Executable(inception(32, 3))._core.plan((((1, 20, 20, 3), (1200, 60, 3, 1)),))
    writes: list[tuple[int, int]] = []
    reads: list[int] = []
    for work, (operands, (out,), (size,)) in zip(plan.works, plan.placement, strict=True):
        if work[9]:
            writes, reads = [], []
        for place in operands:
            assert place[0] != 0 or all(not begin <= place[2] < end for begin, end in writes)
        assert out[0] != 0 or all(not out[2] <= at < out[2] + size for at in reads)
        writes += [(out[2], out[2] + size)] if out[0] == 0 and work[2] != "conv" else []
        reads += [place[2] for place in operands if place[0] == 0]
