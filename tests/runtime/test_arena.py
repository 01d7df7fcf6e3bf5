"""Buffers that live at the same time never overlap, nor with what is read past them; the arena is nearly minimal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qfx.runtime import _C

ALIGNMENT = 64
READ_SLACK = 64  # bytes that a kernel may read past a buffer's end
Buffer = tuple[int, int, int]  # bytes, first and last step


def rounded(size: int) -> int:
    return -(-(size + READ_SLACK) // ALIGNMENT) * ALIGNMENT if size else 0


def live_bytes(buffers: list[Buffer], step: int) -> int:
    return sum(rounded(size) for size, first, last in buffers if first <= step <= last)


@st.composite
def networks(draw: st.DrawFn) -> list[Buffer]:
    """A chain whose values are read by the next step and sometimes once more, later."""
    sizes = draw(st.lists(st.integers(1, 10**6), min_size=1, max_size=60))
    reach = draw(st.lists(st.integers(1, 4), min_size=len(sizes), max_size=len(sizes)))
    return [(size, i, min(i + r, len(sizes))) for i, (size, r) in enumerate(zip(sizes, reach, strict=True))]


any_buffers = st.lists(
    st.tuples(st.integers(0, 10**6), st.integers(0, 30), st.integers(0, 10)).map(lambda b: (b[0], b[1], b[1] + b[2])),
    max_size=40,
)


@given(any_buffers)
def test_live_buffers_do_not_overlap(buffers: list[Buffer]) -> None:
    offsets, total, _ = _C.arena_layout(buffers)
    placed = list(zip(buffers, offsets, strict=True))
    for i, ((size_a, first_a, last_a), at_a) in enumerate(placed):
        assert at_a % ALIGNMENT == 0
        assert at_a + size_a <= total or size_a == 0
        for (size_b, first_b, last_b), at_b in placed[:i]:
            together = first_a <= last_b and first_b <= last_a
            apart = at_a + rounded(size_a) <= at_b or at_b + rounded(size_b) <= at_a
            assert not together or size_a == 0 or size_b == 0 or apart


@given(any_buffers)
def test_largest_live_is_the_lower_bound(buffers: list[Buffer]) -> None:
    _, total, largest = _C.arena_layout(buffers)
    assert largest == max((live_bytes(buffers, step) for step in range(45)), default=0)
    assert total >= largest


@given(networks())
def test_networks_need_at_most_1_3_of_the_largest_live_set(buffers: list[Buffer]) -> None:
    _, total, largest = _C.arena_layout(buffers)
    assert total <= 1.3 * largest
