"""Files of every version of the format are kept, and compute what they did; a later version is refused in words."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

import qfx
from qfx.file.container import VERSION
from qfx.runtime import _C, load
from qfx.runtime.schema import schemas
from tests.fuzz.served import KEPT

DATA = Path(__file__).parents[1] / "data"
FIRST = DATA / "versions" / "container_1.qfx"


def version(path: Path) -> int:
    (found,) = struct.unpack_from("<I", path.read_bytes(), 8)
    return int(found)


def program_version(path: Path) -> int:
    content = path.read_bytes()
    at = next(at for name, at, _, _ in _C.sections(content, "it") if name == "program")
    (found,) = struct.unpack_from("<I", content, at + 8)
    return int(found)


def test_every_version_is_there() -> None:
    """What they compute: below, and the hashes of tests/runtime/test_verify.py."""
    files = [FIRST, *KEPT.glob("*.qfx")]
    assert {version(path) for path in files} == set(range(1, VERSION + 1))
    assert {program_version(path) for path in files if path != FIRST} == {1, 2}


def test_every_kind_of_step_is_there() -> None:
    assert {path.stem for path in KEPT.glob("*.qfx")} >= set(schemas())


def test_a_file_without_a_program() -> None:
    """Written as files were before they held programs: a graph and its tensors."""
    x, y = (torch.from_numpy(np.load(FIRST.with_suffix(f".{what}.npy"))) for what in ("input", "output"))
    assert torch.equal(qfx.load(FIRST)(x), y)
    with pytest.raises(qfx.InputError, match=r"can't be run without torch") as caught:
        load(FIRST)
    assert "serving=True" in str(caught.value)


@pytest.mark.parametrize("newer", [VERSION + 1, 2**32 - 1])
def test_a_later_version(newer: int, tmp_path: Path) -> None:
    content = bytearray((KEPT / "network.qfx").read_bytes())
    content[8:12] = struct.pack("<I", newer)
    (tmp_path / "net.qfx").write_bytes(content)
    for read in (load, qfx.load):
        with pytest.raises(qfx.InputError, match=rf"net.qfx.* is of version {newer} of the format") as caught:
            read(tmp_path / "net.qfx")
        assert "Update qfx" in str(caught.value)
