"""What explain() and profile() report."""

from __future__ import annotations

from dataclasses import dataclass

from qfx.columns import table


@dataclass(frozen=True)
class StepRecord:
    """One kernel call of a plan.

    Attributes:
        name: The step's name in the program; for copies at the border the value's. Of several steps that go by rows in
            one pass, their names with ``+`` between, and so their operations.
        op: The operation; ``copy_input``, ``copy_output`` and ``prepare`` are the planner's own copies, and
            ``quantize_rows`` is what it takes out of several ``linear_dynamic`` that read the same rows.
        kernel: Kernel, tile and reason, as the kernel describes itself.
        kernels: The names of the kernels that it runs, as ``kernels.inc`` lists them; empty where it runs none of them.
        shape: Physical output shape.
        bytes: Bytes of the output.
        cost: Bytes touched plus multiply-accumulates.
        macs: Multiply-accumulates of integers: of convolutions, linear layers, attention, recurrent layers and matrix
            products, those with padding too; 0 for other steps.
        threads: How many threads share the step: all of them, or fewer where more would wait longer than they work.
        barrier: Whether all threads meet before this step.
        slices: How often it runs, each time on the next images of the batch, or on the next rows of one image, while
            they are in cache; 1: once for all. Shape, bytes and cost are those of all together; rows that two bands of
            an image both need count twice.
        operand: Physical shape of the first operand; empty for the planner's copies.
        microseconds: Median time; None unless profiled.
        share_of_peak: Of the dot products that ``threads`` threads can do in that time; None as ``gmacs``.
    """

    name: str
    op: str
    kernel: str
    kernels: tuple[str, ...]
    shape: tuple[int, ...]
    bytes: int
    cost: int
    macs: int
    threads: int
    barrier: bool
    slices: int = 1
    operand: tuple[int, ...] = ()
    microseconds: float | None = None
    share_of_peak: float | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of its steps, in order: one, but where several go by rows in one pass."""
        return tuple(self.name.split("+")) if "+" in self.op else (self.name,)

    @property
    def gmacs(self) -> float | None:
        """Billions of multiply-accumulates a second; None for a step without any, or not profiled."""
        return 1e-3 * self.macs / self.microseconds if self.macs and self.microseconds else None


@dataclass(frozen=True)
class MemoryRecord:
    """Bytes that a plan uses.

    Attributes:
        arena_bytes: Activations of one forward, with buffers reused, without those of slices. Where the executable ran
            other sizes before, it may be laid out for larger inputs than these.
        slice_bytes: Activations of one slice of the batch or band of rows; every thread has its own. 0 where there are
            none.
        largest_live_bytes: The most that is alive at one step: the lower bound of ``arena_bytes``.
        scratch_bytes: Working memory a thread.
        packed_bytes: Weights as the kernels hold them.
        constant_bytes: Constants of the program that the executable keeps beside them.
    """

    arena_bytes: int
    largest_live_bytes: int
    slice_bytes: int
    scratch_bytes: int
    packed_bytes: int
    constant_bytes: int


@dataclass(frozen=True)
class Explanation:
    """A plan, for reading: ``str()`` gives a table."""

    isa: str
    steps: tuple[StepRecord, ...]
    views: tuple[str, ...]
    memory: MemoryRecord

    def cells(self) -> list[list[str]]:
        """The table: names of columns, then a row a step."""
        return [_COLUMNS, *map(_row, self.steps)]

    def __str__(self) -> str:
        return "\n".join([*table(self.cells(), ruled=False), *self._footer()])

    def _footer(self) -> tuple[str, str]:
        m = self.memory
        plan = f"{m.arena_bytes:,} bytes planned, {m.largest_live_bytes:,} live at most"
        plan += f", {m.slice_bytes:,} more a thread for slices" if m.slice_bytes else ""
        return (
            f"isa {self.isa}; {len(self.steps)} kernel calls, {len(self.views)} steps are views of their input",
            f"{plan}; {m.scratch_bytes:,} scratch a thread; {m.packed_bytes:,} packed weights",
        )


_COLUMNS = ["step", "op", "shape", "bytes", "cost", "threads", "slices", "us", "GMAC/s", "of peak", "kernel"]


def _row(s: StepRecord) -> list[str]:
    time = "" if s.microseconds is None else f"{s.microseconds:.1f}"
    rate = "" if s.gmacs is None else f"{s.gmacs:.1f}"
    share = "" if s.share_of_peak is None else f"{s.share_of_peak:.0%}"
    counts = (f"{s.bytes:,}", f"{s.cost:,}", str(s.threads), str(s.slices))
    return [s.name, s.op, "x".join(map(str, s.shape)), *counts, time, rate, share, s.kernel]
