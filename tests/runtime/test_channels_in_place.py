"""Concatenation and split of channels without a copy: convolutions write and read where the channels lie."""

from __future__ import annotations

import numpy as np
import pytest

from qfx.runtime import Executable, ProgramBuilder

RANK = (-1, -1, -1, -1)


class Net:
    """A builder of u8 networks over images, channels last."""

    def __init__(self) -> None:
        self.b, self.rng = ProgramBuilder(), np.random.default_rng(0)

    def value(self, name: str) -> int:
        return self.b.value(name, "u8", RANK)

    def conv(self, name: str, x: int, c_in: int, c_out: int, *, kernel: int = 1, groups: int = 1) -> int:
        y = self.value(name)
        constants = {
            "weight": self.b.constant(
                self.rng.integers(-127, 128, (c_out, kernel, kernel, c_in // groups), dtype=np.int8)
            ),
            "bias": self.b.constant(self.rng.integers(-2000, 2000, c_out, dtype=np.int32)),
            "multiplier": self.b.constant(self.rng.uniform(1e-4, 2e-3, c_out).astype(np.float32)),
        }
        pad = [kernel // 2] * 2
        ints = {"padding_lo": pad, "padding_hi": pad, "x_zero_point": 3, "zero_point": 90, "groups": groups}
        self.b.step("conv", name, [x], y, ints=ints, constants=constants)
        return y

    def concat(self, name: str, *parts: int) -> int:
        y = self.value(name)
        self.b.step("concat", name, list(parts), y, ints={"axis": 3})
        return y

    def take(self, name: str, x: int, start: int, end: int) -> int:
        y = self.value(name)
        self.b.step("slice", name, [x], y, ints={"axis": 3}, exprs={n: [self.b.expr_const(v)] for n, v in
                                                                    (("start", start), ("end", end))})  # fmt: skip
        return y

    def check(self, x: int, outputs: list[int], channels: int, in_place: set[str]) -> None:
        """The outputs are those of a run that keeps every value; exactly ``in_place`` cost nothing."""
        exe = Executable(self.b.build([x], outputs))
        for batch, size in ((1, 9), (3, 14), (6, 40)):
            given = self.rng.integers(0, 256, (batch, size, size, channels), dtype=np.uint8)
            kept, _ = exe.run_and_fetch([given], [])
            for ours, theirs in zip(exe(given), kept, strict=True):
                np.testing.assert_array_equal(ours, theirs)
            assert in_place == set(exe.explain(given.shape).views)


@pytest.mark.parametrize("widths", [(16, 32, 8), (5, 7, 3), (64, 1)])
def test_branches_write_side_by_side(widths: tuple[int, ...]) -> None:
    net = Net()
    x = net.value("x")
    parts = [net.conv(f"branch{i}", x, 8, width, kernel=1 + 2 * (i % 2)) for i, width in enumerate(widths)]
    joined = net.concat("joined", *parts)
    net.check(x, [net.conv("after", joined, sum(widths), 4)], 8, {"joined"})


def test_depthwise_and_grouped_branches() -> None:
    net = Net()
    x = net.value("x")
    parts = [net.conv("depthwise", x, 24, 24, kernel=3, groups=24), net.conv("grouped", x, 24, 18, kernel=3, groups=3)]
    net.check(x, [net.concat("joined", *parts)], 24, {"joined"})


def test_a_branch_that_others_read_is_copied() -> None:
    net = Net()
    x = net.value("x")
    read, only = net.conv("read", x, 8, 12), net.conv("only", x, 8, 5)
    joined = net.concat("joined", read, only)
    net.check(x, [joined, net.conv("again", read, 12, 4)], 8, set())


def test_a_branch_joined_twice_or_returned_is_copied() -> None:
    net = Net()
    x = net.value("x")
    twice, returned = net.conv("twice", x, 8, 6), net.conv("returned", x, 8, 6)
    net.check(x, [net.concat("joined", twice, twice, returned), returned], 8, set())


def test_halves_are_read_where_they_lie() -> None:
    net = Net()
    x = net.value("x")
    whole = net.conv("whole", x, 8, 40)
    left, right = net.take("left", whole, 0, 16), net.take("right", whole, 16, 40)
    parts = [net.conv("a", left, 16, 8), net.conv("b", right, 24, 24, kernel=3, groups=24)]
    net.check(x, [net.concat("joined", *parts)], 8, {"left", "right", "joined"})


def test_a_half_that_is_joined_unchanged_is_copied() -> None:
    net = Net()
    x = net.value("x")
    whole = net.conv("whole", x, 8, 32)
    left, right = net.take("left", whole, 0, 16), net.take("right", whole, 16, 32)
    net.check(x, [net.concat("joined", left, net.conv("b", right, 16, 16))], 8, {"right"})


def test_a_split_of_a_split_and_of_an_input() -> None:
    net = Net()
    x = net.value("x")
    first = net.take("of_input", x, 2, 8)
    whole = net.conv("whole", first, 6, 40)
    half = net.take("half", whole, 8, 32)
    quarter = net.take("quarter", half, 4, 16)
    net.check(x, [net.conv("a", quarter, 12, 8), net.conv("b", half, 24, 8)], 8, {"quarter"})
