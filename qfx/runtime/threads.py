"""The number of threads of a forward."""

from __future__ import annotations

import reprlib
import sys

from qfx.arguments import explained
from qfx.errors import InputError
from qfx.runtime import _C

MOST_THREADS = 2**31 - 1


def default_threads() -> int:
    """torch's number of threads where torch is loaded; 0, the physical cores, elsewhere."""
    torch = sys.modules.get("torch")
    return 0 if torch is None else int(torch.get_num_threads())


@explained
def set_num_threads(threads: int) -> None:
    """Use at most ``threads`` threads a forward, whatever torch uses.

    Raises:
        InputError: ``threads`` is not an int from 1 to 2**31 - 1.
    """
    if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= MOST_THREADS:
        raise InputError(
            f"{reprlib.repr(threads)} is not a number of threads.", remedy=f"Give an int from 1 to {MOST_THREADS}."
        )
    _C.set_num_threads(threads)


def get_num_threads() -> int:
    """What `set_num_threads` set; until then torch's number, or the physical cores where torch is not loaded."""
    return int(_C.num_threads(default_threads()))
