"""Sections in a file: what goes in comes out, and nothing else does."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfx.errors import InputError
from qfx.file.container import ALIGNMENT, MAGIC, VERSION, Section, pack, unpack

PARTS = [Section("model", b"{}"), Section("extra", b"for others", optional=True), Section("tensors", bytes(range(200)))]
FILE = pack(PARTS)
_HEADER, _ROW = struct.Struct("<8sIIQII"), struct.Struct("<16sQQII")


def sections(content: bytes, *names: str) -> dict[str, bytes]:
    return {k: bytes(v) for k, v in unpack(memoryview(content), "'it'", names or ("model", "tensors")).items()}


def sealed(content: bytes) -> bytes:
    """``content`` with the checksum of its header made to match."""
    magic, version, count, size, reserved, _ = _HEADER.unpack_from(content)
    table = content[_HEADER.size : _HEADER.size + count * _ROW.size]
    checksum = zlib.crc32(table, zlib.crc32(_HEADER.pack(magic, version, count, size, reserved, 0)))
    return _HEADER.pack(magic, version, count, size, reserved, checksum) + content[_HEADER.size :]


def with_row(index: int, **changes: int | bytes) -> bytes:
    """The file with fields of a row of its table changed, and sealed."""
    start = _HEADER.size + index * _ROW.size
    row = dict(zip(("name", "offset", "size", "checksum", "flags"), _ROW.unpack_from(FILE, start), strict=True))
    return sealed(FILE[:start] + _ROW.pack(*{**row, **changes}.values()) + FILE[start + _ROW.size :])


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=8))
def test_sections_come_back(contents: list[bytes]) -> None:
    names = [f"s{i}" for i in range(len(contents))]
    file = pack([Section(name, content) for name, content in zip(names, contents, strict=True)])
    assert list(sections(file, *names).values()) == contents


def test_contents_are_aligned() -> None:
    for name in ("model", "extra", "tensors"):
        content = unpack(memoryview(FILE), "'it'", ("model", "tensors", "extra"))[name]
        assert FILE.index(bytes(content)) % ALIGNMENT == 0


def test_a_reader_skips_what_is_optional_and_stops_at_what_is_not() -> None:
    assert set(sections(FILE)) == {"model", "tensors"}
    needed = pack([Section("model", b""), Section("tensors", b""), Section("program", b"")])
    with pytest.raises(InputError, match=r"section 'program' that this qfx does not know[\s\S]*Update qfx"):
        sections(needed)


def test_every_flipped_bit_is_found() -> None:
    for position in range(len(FILE)):
        for bit in (0, 3, 7):
            flipped = bytearray(FILE)
            flipped[position] ^= 1 << bit
            with pytest.raises(InputError):
                sections(bytes(flipped))


def test_every_length_but_the_right_one_is_found() -> None:
    for length in range(len(FILE)):
        with pytest.raises(InputError):
            sections(FILE[:length])
    with pytest.raises(InputError, match="bytes where its header says"):
        sections(FILE + b"\0")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (sealed(MAGIC + struct.pack("<I", VERSION + 1) + FILE[12:]), f"version {VERSION + 1} of the format"),
        (sealed(FILE[:12] + struct.pack("<I", 2) + FILE[16:]), "does not lie where it belongs"),
        (FILE[:12] + struct.pack("<I", 2**32 - 1) + FILE[16:], "names 4294967295 sections"),
        (FILE[:12] + struct.pack("<I", 0) + FILE[16:], "names 0 sections"),
        (sealed(FILE[:16] + struct.pack("<Q", 2**64 - 1) + FILE[24:]), "18446744073709551615"),
        (with_row(0, size=2**64 - 1), "does not lie where it belongs"),
        (with_row(0, offset=2**64 - 1), "does not lie where it belongs"),
        (with_row(2, offset=192), "does not lie where it belongs"),
        (with_row(2, offset=0), "does not lie where it belongs"),
        (with_row(2, size=199), "checksum of section 'tensors'"),
        (with_row(0, name=b"tensors"), "makes no sense"),
        (with_row(0, name=b"\xff\xfe"), "makes no sense"),
        (with_row(0, name=b""), "makes no sense"),
        (with_row(0, name=b"other"), "no section 'model'"),
        (with_row(0, flags=2), "makes no sense"),
        (with_row(1, checksum=0), "checksum of section 'extra'"),
    ],
)
def test_a_table_that_makes_no_sense_is_told(changed: bytes, why: str) -> None:
    with pytest.raises(InputError, match=why):
        sections(changed)


def test_bytes_between_sections_are_zero() -> None:
    start = FILE.index(b"{}") + 2
    with pytest.raises(InputError, match="does not lie where it belongs"):
        sections(FILE[:start] + b"x" + FILE[start + 1 :])


@pytest.mark.parametrize("content", [b"", b"\x89", b"PK\x03\x04 a zip file", MAGIC[:-1]])
def test_another_file_is_told_apart(content: bytes) -> None:
    with pytest.raises(InputError, match=r"'it' is no \.qfx file"):
        sections(content)


def test_the_container_needs_no_torch() -> None:
    program = "import sys, qfx.file.container; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
