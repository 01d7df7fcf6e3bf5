"""The machine's own limits."""

from __future__ import annotations

import pytest

from qfx.errors import RuntimeLoadError
from qfx.runtime import isa_names, peaks


@pytest.mark.parametrize("isa", isa_names())
def test_every_level_has_a_peak(isa: str) -> None:
    found = peaks(isa, threads=1, read_bytes=1 << 16)
    assert (found.isa, found.threads, found.read_bytes) == (isa, 1, 1 << 16)
    assert found.gmacs > 0
    assert found.read_gbs > 0


@pytest.mark.skipif(len(isa_names()) < 2, reason="one level only")
def test_vectors_are_faster_than_scalars() -> None:
    assert peaks(isa_names()[-1], threads=1).gmacs > 2 * peaks("scalar", threads=1).gmacs


def test_reading_a_cache_is_faster_than_reading_memory() -> None:
    assert peaks(threads=1, read_bytes=16 << 10).read_gbs > peaks(threads=1, read_bytes=256 << 20).read_gbs


def test_a_level_this_cpu_lacks_is_an_error_that_names_those_it_has() -> None:
    with pytest.raises(RuntimeLoadError, match="scalar"):
        peaks("avx1024")
