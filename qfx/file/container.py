"""Sections in a file: magic, version, a table with a checksum a section, and contents aligned for mmap.

All numbers are little-endian. The header is ``magic, version, sections, file size, 0, checksum``; the checksum is the
CRC-32 of header and table, itself taken as 0. A row of the table is ``name, offset, size, checksum, flags``, the name
in ASCII, filled up with zeros. Contents lie in the order of the table, each at the next multiple of 64 bytes, with
zeros between; the file ends with the last one. So there is one file for given sections, and nothing in it is unchecked.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from qfx.errors import InputError
from qfx.runtime import _C

MAGIC = b"\x89QFX\r\n\x1a\n"
"""Not ASCII, and changed by whatever changes line ends."""
VERSION = 2
"""Files of version 1 hold no program, and all of their tensors themselves."""
ALIGNMENT = 64
OPTIONAL = 1
"""Flag of a section that a reader who does not know it may skip."""
MOST_SECTIONS = 64

_HEADER = struct.Struct("<8sIIQII")
_ROW = struct.Struct("<16sQQII")


@dataclass(frozen=True)
class Section:
    """A part of a file.

    Attributes:
        name: At most 16 ASCII letters, digits and underscores.
        content: Its bytes.
        optional: Whether a reader who does not know the name may skip it.
    """

    name: str
    content: bytes | memoryview
    optional: bool = False


def pack(sections: Sequence[Section]) -> bytes:
    """The bytes of a file that holds ``sections``."""
    assert 0 < len(sections) <= MOST_SECTIONS
    rows, parts, end = [], [], _table_end(len(sections))
    for section in sections:
        name = section.name.encode("ascii")
        assert len(name) <= 16
        offset = aligned(end)
        parts += [bytes(offset - end), section.content]
        end = offset + len(section.content)
        flags = OPTIONAL if section.optional else 0
        rows.append(_ROW.pack(name, offset, len(section.content), zlib.crc32(section.content), flags))
    table = b"".join(rows)
    return b"".join(
        [_header(VERSION, len(sections), end, _checksum(VERSION, len(sections), end, table)), table, *parts]
    )


def unpack(
    file: memoryview, where: str, known: Sequence[str], needed: Sequence[str] | None = None
) -> dict[str, memoryview]:
    """The sections ``known`` of a file by name, views of ``file``, after every byte of it is checked.

    Args:
        file: The whole file.
        where: What errors call it.
        known: Names of the sections that the caller reads.
        needed: Those that there must be; all of them when left out.

    Raises:
        InputError: It is no such file, of a later version, damaged, or without a section that is needed.
    """
    found = {name: (file[at : at + size], optional) for name, at, size, optional in _C.sections(file, where)}
    missing = [name for name in (known if needed is None else needed) if name not in found]
    if missing:
        raise InputError(
            f"{where} is damaged.", why=f"It has no section {missing[0]!r}.", remedy="Copy or save it again."
        )
    unknown = [name for name, (_, optional) in found.items() if name not in known and not optional]
    if unknown:
        raise InputError(
            f"{where} has a section {unknown[0]!r} that this qfx does not know.",
            why="It is not marked as one that a reader may skip.",
            remedy="Update qfx.",
        )
    return {name: found[name][0] for name in known if name in found}


def _table_end(count: int) -> int:
    return _HEADER.size + count * _ROW.size


def aligned(offset: int, to: int = ALIGNMENT) -> int:
    """The next multiple of ``to``."""
    return -(-offset // to) * to


def _header(version: int, count: int, size: int, checksum: int) -> bytes:
    return _HEADER.pack(MAGIC, version, count, size, 0, checksum)


def _checksum(version: int, count: int, size: int, table: bytes) -> int:
    return zlib.crc32(table, zlib.crc32(_header(version, count, size, 0)))
