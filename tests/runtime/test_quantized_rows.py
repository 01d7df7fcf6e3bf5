"""Rows that several dynamic layers read: quantized once, with the result of layers that quantize their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from qfx.runtime import Executable, Program, ProgramBuilder, get_num_threads, isa_names, set_num_threads, steps
from qfx.runtime.writing import write

FEATURES = 48


@pytest.fixture(autouse=True)
def same_threads_afterwards() -> Iterator[None]:
    before = get_num_threads()
    yield
    set_num_threads(before)


KINDS: dict[str, dict[str, int]] = {
    "row": {"outputs": 24},
    "wide_row": {"outputs": 300},
    "shifted": {"outputs": 24, "zero_point": 3},
    "tensor": {"outputs": 24, "per_row": 0},
}


@dataclass
class Layers:
    """Dynamic layers of some kinds over one value, an input or made."""

    kinds: tuple[str, ...]
    made: bool = False
    b: ProgramBuilder = field(default_factory=ProgramBuilder)

    def program(self) -> Program:
        rng = np.random.default_rng(0)
        x = self.b.value("x", "f32", (-1, -1, FEATURES))
        read = write(self.b, "made", steps.rotate(x, block=16), (-1, -1, FEATURES))[0] if self.made else x
        outputs = [self.layer(f"{kind}{i}", read, rng, **KINDS[kind]) for i, kind in enumerate(self.kinds)]
        return self.b.build([x], outputs)

    def layer(
        self, name: str, x: int, rng: np.random.Generator, *, outputs: int, per_row: int = 1, zero_point: int = 0
    ) -> int:
        weight = rng.integers(-127, 128, (outputs, FEATURES), dtype=np.int8)
        step = steps.linear_dynamic(
            x,
            per_row=bool(per_row),
            weight=self.b.constant(weight),
            weight_scale=self.b.constant(rng.uniform(1e-3, 2e-3, outputs).astype(np.float32)),
            weight_zero_point=self.b.constant(np.full(outputs, zero_point, np.int32)) if zero_point else None,
        )
        return write(self.b, name, step, (-1, -1, outputs))[0]


def floats(rows: int) -> np.ndarray:
    return np.random.default_rng(rows).normal(size=(2, rows, FEATURES)).astype(np.float32)


def quantized(executable: Executable, x: np.ndarray) -> int:
    """How often rows are quantized apart from layers: alone, or by the step that makes them."""
    apart = [step for step in executable.explain(x.shape).steps if step.op != "linear_dynamic"]
    return sum(any("quantize" in kernel for kernel in step.kernels) for step in apart)


def check(executable: Executable, x: np.ndarray) -> None:
    """The values are those of a run that keeps them all, in which every layer quantizes its own rows."""
    assert executable.program is not None
    kept = executable.run_and_fetch([x], executable.program.outputs)[1]
    for value, got in zip(executable.program.outputs, executable(x), strict=True):
        np.testing.assert_array_equal(got, kept[value])


@pytest.mark.parametrize("isa", isa_names())
@pytest.mark.parametrize("made", [False, True])
@pytest.mark.parametrize(
    ("kinds", "times"),
    [
        (("row",), (0, 1)),
        (("row", "row", "row"), (1, 1)),
        (("row", "tensor", "tensor"), (0, 0)),
        (("row", "tensor", "shifted", "row", "shifted"), (2, 2)),
    ],
)
def test_layers_that_want_rows_alike_share_them(
    isa: str, made: bool, kinds: tuple[str, ...], times: tuple[int, int]
) -> None:
    """``times``: of rows that are an input, and of rows that a step makes, which may quantize them itself."""
    executable = Executable(Layers(kinds, made).program(), isa)
    for rows, threads in ((1, 1), (7, 2), (130, 3)):
        set_num_threads(threads)
        assert quantized(executable, floats(rows)) == times[made]
        check(executable, floats(rows))


@pytest.mark.parametrize("isa", isa_names())
def test_rows_of_layers_of_any_widths(isa: str) -> None:
    executable = Executable(Layers(tuple(KINDS) * 2).program(), isa)
    for rows in (0, 1, 33):
        check(executable, floats(rows))


@pytest.mark.parametrize("isa", isa_names())
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_row(isa: str, value: float) -> None:
    x = floats(9)
    x[1, 4, 17] = value
    executable = Executable(Layers(("row", "row")).program(), isa)
    check(executable, x)
    where = np.zeros((2, 9), bool)
    where[1, 4] = True
    for y in executable(x):
        np.testing.assert_array_equal(np.isnan(y).all(-1), where)
        np.testing.assert_array_equal(np.isnan(y).any(-1), where)


def test_an_input_with_gaps_is_read_where_it_lies() -> None:
    executable = Executable(Layers(("row", "row")).program())
    wide = np.random.default_rng(1).normal(size=(2, 5, 2 * FEATURES)).astype(np.float32)
    check(executable, wide[:, :, ::2])


def test_constant_rows_are_shared_too() -> None:
    layers = Layers(("row", "row"))
    b, rng = layers.b, np.random.default_rng(2)
    x = b.constant_value("x", floats(3))
    outputs = [layers.layer(name, x, rng, outputs=8) for name in ("a", "b")]
    executable = Executable(b.build([], outputs))
    assert Counter(step.op for step in executable.explain().steps)["quantize_rows"] == 1
