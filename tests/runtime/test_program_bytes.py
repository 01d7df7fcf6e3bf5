"""Programs as bytes: one form, the same program, constants where they lie; whatever else the bytes are is told."""

from __future__ import annotations

import gc
import mmap
import random
import struct
from pathlib import Path

import numpy as np
import pytest

from qfx.errors import InputError, RuntimeLoadError
from qfx.runtime import Executable, Program, Session
from tests.runtime.step_programs import small_network
from tests.runtime.test_session import decoder, rows
from tests.runtime.test_steps import CASES, Case

HEAD = struct.Struct("<8sIIQQ32s")
SLACK = 64
X = np.random.default_rng(0).standard_normal((2, 3, 9, 8)).astype(np.float32)


def network() -> bytes:
    return small_network()[0].to_bytes()


def parts(data: bytes) -> tuple[bytes, bytes]:
    """Tables and contents."""
    _, _, _, tables, contents, _ = HEAD.unpack_from(data)
    start = 64 + -(-tables // 64) * 64
    return data[64 : 64 + tables], data[start : start + contents]


def put_together(tables: bytes, contents: bytes, version: int = 1) -> bytes:
    magic, *_ = HEAD.unpack_from(network())
    head = HEAD.pack(magic, version, 0, len(tables), len(contents), b"")
    return head + tables + bytes(-len(tables) % 64) + contents + bytes(SLACK)


def refused(data: bytes, match: str) -> None:
    with pytest.raises(RuntimeLoadError, match=match):
        Program.from_bytes(data)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.op}-{c.label}" if c.label else c.op)
def test_every_step_comes_back(case: Case) -> None:
    program = case.program()
    data = program.to_bytes()
    again = Program.from_bytes(data)
    assert again.to_bytes() == data
    assert (again.input_specs, again.output_specs) == (program.input_specs, program.output_specs)
    assert (again.step_names, again.constant_bytes) == (program.step_names, program.constant_bytes)
    for one, other in zip(Executable(again)(*case.inputs), Executable(program)(*case.inputs), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_network_from_a_mapped_file_runs_on_what_is_mapped(tmp_path: Path) -> None:
    program, _ = small_network(channels=16)
    (tmp_path / "program").write_bytes(program.to_bytes())
    with (tmp_path / "program").open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    executable = Executable(Program.from_bytes(mapped))
    with pytest.raises(BufferError):  # it is in use
        mapped.close()
    np.testing.assert_array_equal(executable(X)[0], Executable(program)(X)[0])
    del executable
    gc.collect()
    mapped.close()


def test_bytes_that_somebody_may_change_are_copied() -> None:
    data = bytearray(network())
    program = Program.from_bytes(data)
    data[:] = bytes(len(data))
    assert program.to_bytes() == network()


def test_bytes_outlive_the_name_that_they_had() -> None:
    program = Program.from_bytes(network())
    gc.collect()
    np.testing.assert_array_equal(Executable(program)(X)[0], Executable(small_network()[0])(X)[0])


def test_what_was_taken_apart_fits_together() -> None:
    assert put_together(*parts(network())) == network()


@pytest.mark.parametrize("size", [0, 1, 63, 64, 127, 200])
def test_bytes_that_end_early(size: int) -> None:
    refused(network()[:size], "end within the head|not as many")


def test_every_shorter_and_longer_form_is_refused() -> None:
    data = network()
    for size in range(128, len(data), 61):
        refused(data[:size], "not as many")
    refused(data + bytes(64), "not as many")


def test_heads_of_others() -> None:
    data = network()
    refused(b"PK\x03\x04" + data[4:], "no program")
    for version in (0, 3, 2**32 - 1):
        refused(data[:8] + struct.pack("<I", version) + data[12:], f"version {version} .* reads versions 1 to 2")
    for tables, contents in [(2**64 - 1, 0), (0, 2**64 - 1), (2**63, 2**63), (2**64 - 64, 64)]:
        refused(data[:16] + struct.pack("<QQ", tables, contents) + data[32:], "not as many")


def test_counts_that_the_bytes_do_not_hold() -> None:
    tables, contents = parts(network())
    for count in (2**64 - 1, 2**40, len(tables)):
        refused(put_together(struct.pack("<Q", count) + tables[8:], contents), "end within the tables|twice|UTF-8|kind")
    refused(put_together(tables + b"\0", contents), "go on behind")
    refused(put_together(tables, contents + bytes(64)), "go on behind the last constant")
    refused(put_together(tables, contents[:-64]), "end within the constants")


@pytest.mark.parametrize("shape", [[-1], [2**62, 2**62], [2**63 - 1], [2**40, 0, 2**40], [3]])
def test_shapes_of_constants(shape: list[int]) -> None:
    """The first constant of the network is ``[8, 3, 3, 3]`` of s8."""
    tables, contents = parts(network())
    count, kind, rank = struct.unpack_from("<QBQ", tables)
    assert (kind, rank) == (1, 4)
    changed = struct.pack("<QBQ", count, kind, len(shape)) + struct.pack(f"<{len(shape)}q", *shape)
    refused(put_together(changed + tables[17 + 8 * rank :], contents), "too large|constant")


def test_names_are_utf8() -> None:
    tables, contents = parts(network())
    at = tables.index(b"quantized")
    for bad in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\xf0\x80\x80\x80"):
        name = bad + b"q" * (9 - len(bad))
        refused(put_together(tables[:at] + name + tables[at + 9 :], contents), "UTF-8")
    for good in ("größe", "例えば", "😀", "\x00"):
        name = good.encode() + b"q" * (9 - len(good.encode()))
        Program.from_bytes(put_together(tables[:at] + name + tables[at + 9 :], contents))


def test_any_byte_may_be_another() -> None:
    """What is not refused is a program: it gives its own bytes, and plans or refuses."""
    data, rng = network(), random.Random(0)
    tables, _ = parts(data)
    taken = 0
    for at in range(64, 64 + len(tables)):
        changed = bytearray(data)
        changed[at] ^= 1 << rng.randrange(8)
        try:
            program = Program.from_bytes(bytes(changed))
        except RuntimeLoadError:
            continue
        taken += 1
        assert program.to_bytes()[64 : 64 + len(tables)] == bytes(changed[64 : 64 + len(tables)])
    assert taken  # names, scales


def test_states_come_back() -> None:
    for program in (decoder(), decoder(rows(7, 3))):
        data = program.to_bytes()
        again = Program.from_bytes(data)
        assert again.states == program.states
        assert again.to_bytes() == data
        assert data[8] == 2


def test_a_program_has_the_first_version_that_says_all_of_it() -> None:
    """Readers of the first version read what has no states."""
    assert network()[8] == 1
    tables, contents = parts(network())
    refused(put_together(tables + bytes(8), contents, 2), "later version")
    tables, contents = parts(decoder().to_bytes())
    assert put_together(tables, contents, 2) == decoder().to_bytes()
    refused(put_together(tables, contents, 1), "go on behind their end")
    refused(put_together(tables[:-20], contents, 2), "end within the tables")


STATE = struct.Struct("<3i")


@pytest.mark.parametrize("field", range(3))
@pytest.mark.parametrize("number", [-(2**31), -2, -1, *range(6), 2**31 - 1])
def test_any_number_may_be_in_the_table_of_states(field: int, number: int) -> None:
    """What is not refused is the program that it was, or a session of it has a state without a value."""
    tables, contents = parts(decoder(rows(7, 3)).to_bytes())
    fields = list(STATE.unpack(tables[-STATE.size :]))
    before, fields[field] = fields[field], number
    data = put_together(tables[: -STATE.size] + STATE.pack(*fields), contents, 2)
    if number == before:
        assert data == decoder(rows(7, 3)).to_bytes()
    elif (field, number) == (2, -1):
        with pytest.raises(InputError, match="no value before the first run"):
            Session(Program.from_bytes(data))(rows(1))
    elif (field, number) == (0, 0):  # x, which is an input of that shape too: a session keeps it instead
        np.testing.assert_array_equal(Session(Program.from_bytes(data)).get("x"), rows(7, 3))
    elif (field, number) == (1, 3):  # y, an output of that shape too
        assert Session(Program.from_bytes(data))(rows(1))[0].shape == (4, 4)
    else:
        refused(data, "state")


def test_what_is_no_buffer() -> None:
    for given in (None, 3, "text", [1]):
        with pytest.raises(TypeError):
            Program.from_bytes(given)  # type: ignore[arg-type]
