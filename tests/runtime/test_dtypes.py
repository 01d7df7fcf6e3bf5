"""Every type of the list goes into a program and out of it: as an input, a constant, and bytes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qfx.errors import InputError, RuntimeLoadError
from qfx.runtime import Executable, Program, ProgramBuilder
from qfx.runtime.dtypes import DTYPES, DType

WHOLE = [row for row in DTYPES.values() if row.bits >= 8]
PACKED = [row for row in DTYPES.values() if row.bits < 8]
BITS = np.random.default_rng(0).integers(0, 2, (3, 5, 64), dtype=np.uint8)


def tensor(row: DType) -> torch.Tensor:
    """``[3, 5]`` elements of any bits; NaNs too."""
    data = np.packbits(BITS[..., : row.bits], axis=-1)
    data = data & 1 if row.name == "bool" else data
    return torch.from_numpy(data).view(getattr(torch, row.torch)).reshape(3, 5)


def constant(b: ProgramBuilder, row: DType, data: np.ndarray, shape: tuple[int, ...]) -> int:
    """A value that holds it: of the array's type where numpy has it, else of its bytes."""
    if row.numpy:
        return b.constant_value("c", data.view(row.numpy).reshape(shape))
    return b.constant_value("c", data, row.name, shape)


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and one.contiguous().view(torch.uint8).equal(other.contiguous().view(torch.uint8))


def through(row: DType) -> Program:
    """Gives its input back."""
    b = ProgramBuilder()
    x = b.value("x", row.name, (-1, -1))
    return b.build([x], [x])


@pytest.mark.parametrize("row", WHOLE, ids=lambda r: r.name)
def test_an_input_comes_out_as_it_is(row: DType) -> None:
    x = tensor(row)
    executable = Executable(Program.from_bytes(through(row).to_bytes()))
    assert executable.output_dtypes == (row.name,)
    for given in (x, x.t(), x[1:, ::2], x[:0]):
        assert same_bits(executable(given)[0], given)
        if row.numpy:
            (made,) = executable(given.numpy())
            assert made.dtype == np.dtype(row.numpy)
            assert made.tobytes() == given.numpy().tobytes()
    other = torch.zeros(3, 5, dtype=torch.float64)
    with pytest.raises(InputError, match="dtype" if row.numpy else "numpy does not have"):
        executable(other.numpy())
    with pytest.raises(InputError, match="dtype"):
        executable(other)


@pytest.mark.parametrize("row", WHOLE, ids=lambda r: r.name)
def test_a_constant_comes_out_as_it_is(row: DType) -> None:
    x, b = tensor(row), ProgramBuilder()
    y, given = constant(b, row, x.contiguous().view(torch.uint8).numpy(), (3, 5)), b.value("x", "f32", (-1,))
    program = b.build([given], [y])
    assert program.constant_bytes == 15 * row.bits // 8
    (made,) = Executable(Program.from_bytes(program.to_bytes()))(torch.zeros(1))
    assert same_bits(made, x)


@pytest.mark.parametrize("row", PACKED, ids=lambda r: r.name)
def test_elements_that_share_bytes(row: DType) -> None:
    """Five of four bits take three bytes; a program neither takes nor gives them."""
    b = ProgramBuilder()
    constant(b, row, np.array([0x21, 0x43, 0x05], np.uint8), (5,))
    x = b.value("x", "f32", (-1,))
    program = b.build([x], [x])
    assert program.constant_bytes == 3
    assert Program.from_bytes(program.to_bytes()).to_bytes() == program.to_bytes()
    with pytest.raises(RuntimeLoadError, match="share bytes"):
        through(row)
    b = ProgramBuilder()
    packed = constant(b, row, np.zeros(3, np.uint8), (5,))
    with pytest.raises(RuntimeLoadError, match="share bytes"):
        b.build([], [packed])


@pytest.mark.parametrize("row", DTYPES.values(), ids=lambda r: r.name)
def test_bytes_of_another_size(row: DType) -> None:
    with pytest.raises(ValueError, match="bytes of"):
        ProgramBuilder().constant(np.zeros(7, np.uint8), row.name, (15,))


@pytest.mark.parametrize("row", DTYPES.values(), ids=lambda r: r.name)
def test_a_step_takes_what_it_is_for(row: DType) -> None:
    b = ProgramBuilder()
    x, y = b.value("x", row.name, (-1,)), b.value("y", "f32", (-1,))
    b.step("softmax", "the_step", [x], y, ints={"axis": 0})
    if row.name == "f32":
        b.build([x], [y])
        return
    with pytest.raises(RuntimeLoadError, match=f"is {row.name}, not f32|share bytes"):
        b.build([x], [y])


def test_an_unknown_type_is_told_with_all_that_there_are() -> None:
    with pytest.raises(ValueError, match=", ".join(DTYPES)):
        ProgramBuilder().value("x", "u9", (-1,))
