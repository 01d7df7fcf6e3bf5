"""The types that values and constants of a program can have: the rows of ``dtypes.inc``."""

from __future__ import annotations

from typing import NamedTuple

from qfx.runtime import _C


class DType(NamedTuple):
    """One type.

    Attributes:
        name: The runtime's name of it.
        bits: Of an element; those of 4 bits lie two a byte, the first in the low half.
        numpy: numpy's name, or "".
        torch: torch's name, or "".
    """

    name: str
    bits: int
    numpy: str
    torch: str


DTYPES = {row[0]: DType(*row) for row in _C.dtypes()}
