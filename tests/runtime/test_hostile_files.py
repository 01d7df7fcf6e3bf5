"""Files made to harm, opened without torch: an error that says what, why and what to do, and nothing else."""

from __future__ import annotations

import random
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qfx.errors import InputError, QfxError, RuntimeLoadError
from qfx.file.container import Section, pack
from qfx.runtime import _C, load
from tests.fuzz.served import KEPT

FILES = {path.stem: path.read_bytes() for path in sorted(KEPT.glob("*.qfx"))}
NETWORK = FILES["network"]


def sections(file: bytes = NETWORK) -> dict[str, bytes]:
    return {name: file[at : at + size] for name, at, size, _ in _C.sections(file, "it")}


def sealed(file: bytes, at: int, value: bytes) -> bytes:
    """The file with other bytes in its header or table, whose checksum is right."""
    changed = bytearray(file)
    changed[at : at + len(value)] = value
    end = 32 + 40 * struct.unpack_from("<I", changed, 12)[0]
    changed[28:32] = bytes(4)
    changed[28:32] = struct.pack("<I", zlib.crc32(changed[:end]))
    return bytes(changed)


def with_parts(**changed: bytes) -> bytes:
    return pack(
        [Section(name, content, optional=name == "serving") for name, content in (sections() | changed).items()]
    )


def serving(old: bytes, new: bytes) -> bytes:
    content = sections()["serving"]
    assert content.count(old) >= 1
    return with_parts(serving=content.replace(old, new, 1))


def text(name: str) -> bytes:
    return struct.pack("<Q", len(name)) + name.encode()


HEADS: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "no .qfx file"),
    "another magic": (lambda: b"PK\x03\x04" + NETWORK[4:], "no .qfx file"),
    "line ends changed": (lambda: NETWORK.replace(b"\r\n", b"\n", 1), "no .qfx file"),
    "a later version": (lambda: sealed(NETWORK, 8, struct.pack("<I", 3)), "version 3 of the format.*Update qfx"),
    "another byte order": (lambda: sealed(NETWORK, 8, struct.pack(">I", 2)), "version 33554432 of the format"),
    "a checksum": (lambda: NETWORK[:28] + b"\0\0\0\0" + NETWORK[32:], "checksum of its header"),
    "a content": (lambda: NETWORK[:-1] + bytes([NETWORK[-1] ^ 1]), "checksum of section 'serving'"),
    "a size": (lambda: sealed(NETWORK, 16, struct.pack("<Q", 2**60)), "its header says 1152921504606846976"),
    "a section twice": (lambda: sealed(NETWORK, 72, b"program\0"), "Row 1 of its table makes no sense"),
    "a section elsewhere": (lambda: sealed(NETWORK, 48, struct.pack("<Q", 0)), "does not lie where it belongs"),
    "a section too long": (lambda: sealed(NETWORK, 96, struct.pack("<Q", 2**64 - 1)), "does not lie where it belongs"),
    "sections without end": (lambda: sealed(NETWORK[:200], 12, struct.pack("<I", 2)), "has 200 bytes where"),
    "more behind the end": (lambda: NETWORK + b"\0", "where its header says"),
}
CONTENTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a program of a later version": (
        lambda: with_parts(program=sections()["program"].replace(b"QFXPRG\n\x01", b"QFXPRG\n\x09", 1)),
        "version 9 of the format",
    ),
    "another program": (
        lambda: with_parts(program=sections(FILES["add_f32"])["program"]),
        "input 'x' is not what the program has there",
    ),
    "no program": (lambda: with_parts(program=bytes(200)), "no program"),
    "a serving section of a later version": (
        lambda: with_parts(serving=struct.pack("<I", 7) + sections()["serving"][4:]),
        "version 7",
    ),
    "a serving section that goes on": (lambda: with_parts(serving=sections()["serving"] + b"\0"), "go on behind"),
    "a name that is no UTF-8": (lambda: serving(text("x"), struct.pack("<Q", 1) + b"\xff"), "no UTF-8"),
    "lists without end": (
        lambda: with_parts(serving=sections()["serving"][:4] + struct.pack("<Q", 2**63)),
        "end within the tables",
    ),
    "an example of another shape": (
        lambda: serving(struct.pack("<5q", 4, 2, 3, 5, 4), struct.pack("<5q", 4, 2, 9, 5, 4)),
        "the example of input 'x' is no call of the model",
    ),
    "an absurd example": (
        lambda: serving(struct.pack("<5q", 4, 2, 3, 5, 4), struct.pack("<5q", 4, 2**62, 3, 2**62, 4)),
        "the example of input 'x' is no call of the model: .*too large",
    ),
    "a value that refers to a later one": (
        lambda: with_parts(
            program=sections()["program"].replace(struct.pack("<Qi", 1, 0), struct.pack("<Qi", 1, 3), 1)
        ),
        "input value 3 is not defined before this step",
    ),
    "a value that there is not": (
        lambda: with_parts(
            program=sections()["program"].replace(struct.pack("<Qi", 1, 0), struct.pack("<Qi", 1, 999), 1)
        ),
        "input value 999 is not defined before this step",
    ),
}


@pytest.mark.parametrize("kind", HEADS)
def test_a_container_that_is_none(kind: str, tmp_path: Path) -> None:
    make, says = HEADS[kind]
    (tmp_path / "it.qfx").write_bytes(make())
    for source, where in ((make(), "The file"), (tmp_path / "it.qfx", "it.qfx")):
        with pytest.raises(InputError) as caught:
            load(source)
        told = " ".join(str(caught.value).split())
        assert where in told
        assert caught.value.remedy
        assert re.search(says, told)


@pytest.mark.parametrize("kind", CONTENTS)
def test_contents_that_make_no_sense(kind: str) -> None:
    make, says = CONTENTS[kind]
    with pytest.raises(RuntimeLoadError, match=says) as caught:
        load(make())
    assert caught.value.where
    assert caught.value.remedy


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_are_refused_or_run(name: str) -> None:
    """Cut anywhere, or any bit flipped: without its checksum a file is refused; with it, it runs within the limits."""
    file, rng = FILES[name], random.Random(name)
    for size in rng.sample(range(len(file)), 20):
        with pytest.raises(InputError):
            load(file[:size])
    for at in rng.sample(range(len(file)), 40):
        changed = bytearray(file)
        changed[at] ^= 1 << rng.randrange(8)
        with pytest.raises(InputError):
            load(bytes(changed))
        error = refusal(_resealed(file, at, changed[at]))
        assert error is None or (error.what and error.remedy)


def refusal(file: bytes) -> QfxError | None:
    """Of loading a file and running it within limits."""
    try:
        load(file, max_memory=1 << 26, max_products=1 << 24).verify()
    except QfxError as error:
        return error
    return None


def _resealed(file: bytes, at: int, value: int) -> bytes:
    parts = []
    for name, start, size, optional in _C.sections(file, "it"):
        content = bytearray(file[start : start + size])
        if start <= at < start + size:
            content[at - start] = value
        parts.append(Section(name, bytes(content), optional))
    return pack(parts)


def test_shapes_that_a_file_asks_for_are_held_against_the_limits() -> None:
    model = load(NETWORK, max_memory=1 << 20, max_products=1 << 20)
    with pytest.raises(InputError, match="bytes of memory, and the limit is 1048576"):
        model(np.zeros((1, 3, 1000, 1000), np.float32))
