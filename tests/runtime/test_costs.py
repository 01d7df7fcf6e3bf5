"""What a file says that a call takes, and limits that a caller sets."""

from __future__ import annotations

import bisect
import resource
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from qfx.errors import InputError
from qfx.file.container import Section, pack
from qfx.runtime import _C, Program, ProgramBuilder, isa_names, load
from tests.fuzz.served import KEPT, served
from tests.runtime.step_programs import one_step, small_network

PATHS = sorted(KEPT.glob("*.qfx"))


def chain(sizes: Sequence[int]) -> Program:
    """A row of 8 float32, repeated so many times and then the mean of that, once a size."""
    b = ProgramBuilder()
    row = x = b.value("x", "f32", [1, 8])
    for size in sizes:
        rows = b.value(f"rows_{size}", "f32", [1, size, 8])
        b.step("expand", f"repeat_{size}", [row], rows, exprs={"shape": [b.expr_const(n) for n in (1, size, 8)]})
        row = b.value(f"mean_{size}", "f32", [1, 8])
        b.step("mean_f32", f"mean_of_{size}", [rows], row)
    return b.build([x], [row])


def network(channels: int = 8) -> bytes:
    return served(small_network(channels=channels)[0], [(2, 3, 9, 8)])


def test_memory_is_of_what_lives_at_once() -> None:
    row = 8 * 4
    # input and output, and the rows beside the mean that they come from
    assert load(served(chain([3, 100, 7]), [(1, 8)])).verify().memory == 2 * row + (100 + 1) * row


def test_constants_are_part_of_it() -> None:
    table = np.arange(256, dtype=np.uint8)
    program = one_step("lookup", [np.zeros((2, 5), np.uint8)], ("u8", 2), constants={"table": table})
    assert load(served(program, [(2, 5)])).verify().memory == 256 + 10 + 10


def test_products_are_those_of_the_definition() -> None:
    blocks = sum(name.startswith("conv") for name in small_network()[0].step_names)
    pixels, taps, channels = 2 * 9 * 8, 9, 8
    assert load(network()).verify().products == pixels * taps * channels * (3 + blocks * channels)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_costs_are_the_same_on_every_level(path: Path) -> None:
    assert len({load(path, isa=isa).verify() for isa in isa_names()}) == 1


@pytest.mark.parametrize("field", [0, 1])
@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_that_lies_about_its_costs(field: int, change: int) -> None:
    program = small_network()[0]
    made = {name: network()[at : at + size] for name, at, size, _ in _C.sections(network(), "it")}
    costs = list(struct.unpack("<QQ", made["serving"][-16:]))
    costs[field] += change
    content = made["serving"][:-16] + struct.pack("<QQ", *costs)
    file = pack([Section("program", program.to_bytes()), Section("serving", content, optional=True)])
    with pytest.raises(InputError, match=rf"says that a call takes {costs[field]} (bytes|mult)"):
        load(file).verify()


def test_limits_are_exact() -> None:
    model = load(network())
    x = np.zeros((2, 3, 9, 8), np.float32)
    products = model.verify().products
    np.testing.assert_array_equal(load(network(), max_products=products)(x), model(x))
    with pytest.raises(InputError, match=f"takes {products} multiplications, and the limit is {products - 1}"):
        load(network(), max_products=products - 1)(x)
    enough = least_memory(network(), x)
    np.testing.assert_array_equal(load(network(), max_memory=enough)(x), model(x))
    assert enough >= model.verify().memory


def least_memory(file: bytes, x: np.ndarray) -> int:
    """The smallest limit with which a call is made."""

    def is_enough(limit: int) -> bool:
        try:
            load(file, max_memory=limit)(x)
        except InputError as error:
            return "the limit is" not in str(error)
        return True

    return bisect.bisect_left(range(1 << 24), True, key=is_enough)


def test_a_limit_holds_for_the_call_and_not_for_the_file() -> None:
    limit = load(network()).verify().products
    model = load(network(), max_products=limit)
    model(np.zeros((2, 3, 9, 8), np.float32))
    with pytest.raises(InputError, match="multiplications, and the limit is"):
        model(np.zeros((3, 3, 9, 8), np.float32))
    model(np.zeros((1, 3, 9, 8), np.float32))


def test_weights_over_the_limit_are_not_packed() -> None:
    file = network(channels=256)
    with pytest.raises(InputError, match="bytes of memory, and the limit is 600000"):
        load(file, max_memory=600_000)
    weights = one_layer(512, 512)
    with pytest.raises(InputError, match="bytes of memory, and the limit is"):
        load(weights, max_memory=len(weights) - 1000)
    with pytest.raises(InputError, match=r"step 'the_step' take .* bytes of memory, and the limit is"):
        load(weights, max_memory=len(weights) + 1000)


def one_layer(inputs: int, outputs: int) -> bytes:
    constants = {"weight": np.ones((outputs, inputs), np.int8), "weight_scale": np.ones(outputs, np.float32)}
    program = one_step("linear_dynamic", [np.zeros((1, inputs), np.float32)], ("f32", 2), constants=constants)
    return served(program, [(1, inputs)])


@pytest.mark.parametrize("size", [2**20, 2**30, 2**40])
def test_what_a_call_may_not_have_is_never_allocated(size: int) -> None:
    x = np.zeros((1, 8), np.float32)
    model = load(served(chain([size]), [(1, 8)]), max_memory=1 << 24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="and the limit is 16777216"):
        model(x)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4 << 10  # KiB
