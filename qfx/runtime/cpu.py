"""What this machine offers, as the runtime sees it."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from typing import TypedDict

from qfx.arguments import explained
from qfx.errors import InputError, RuntimeLoadError
from qfx.runtime import _C
from qfx.runtime.threads import MOST_THREADS, get_num_threads

READ_BYTES = 64 << 20


@dataclass(frozen=True)
class Peaks:
    """What bounds every kernel on this machine.

    Attributes:
        isa: The instruction set whose dot product was timed.
        threads: How many threads ran at once.
        gmacs: Billions of exact u8 by s8 multiply-accumulates a second, all threads together, from registers.
        read_gbs: GB/s of reading ``read_bytes`` bytes over and over, all threads together.
        read_bytes: How much was read: which cache holds it, if any, decides the rate.
    """

    isa: str
    threads: int
    gmacs: float
    read_gbs: float
    read_bytes: int


def isa_names() -> tuple[str, ...]:
    """The instruction sets that this CPU supports, lowest first; each can be asked for by name."""
    return tuple(_C.isa_names())


def require_isa(isa: object) -> None:
    """Raise unless ``isa`` is None or the name of an instruction set that this CPU supports.

    Raises:
        RuntimeLoadError: What is supported here.
    """
    if isa is not None and not (isinstance(isa, str) and isa in isa_names()):
        raise RuntimeLoadError(
            f"This CPU does not support {reprlib.repr(isa)}.", remedy=f"Take one of {', '.join(isa_names())}, or None."
        )


class CpuInfo(TypedDict):
    """What was found, and what will run.

    Attributes:
        cpu: The CPU and its features, by the names of Linux.
        isa: The instruction set that executables use: the environment variable QFX_ISA, else the best one.
        isas: Those that this machine supports, lowest first.
        levels: Every instruction set of this architecture: "supported", or what it lacks, naming the features.
        thread_pool: Whose threads run executables.
        threads: How many of them.
    """

    cpu: str
    isa: str
    isas: str
    levels: dict[str, str]
    thread_pool: str
    threads: str


def cpu_info() -> CpuInfo:
    """Describe this machine as the runtime sees it.

    Raises:
        ValueError: QFX_ISA names an instruction set that is unknown or not supported here.
    """
    return {
        "cpu": _C.cpu_description(),
        "isa": _C.selected_isa(),
        "isas": ", ".join(isa_names()),
        "levels": {name: lack or "supported" for name, lack in _C.isa_levels().items()},
        "thread_pool": _C.thread_pool_name(),
        "threads": str(_C.num_threads()),
    }


@explained
def peaks(isa: str | None = None, threads: int | None = None, read_bytes: int = READ_BYTES) -> Peaks:
    """Time this machine's dot product and its memory, in about 50 ms.

    Args:
        isa: The instruction set; by default the one in use.
        threads: As many at once; by default as many as a forward uses.
        read_bytes: Size of the buffer that is read; by default more than most caches hold.

    Raises:
        RuntimeLoadError: ``isa`` is unknown or not supported here.
        InputError: ``threads`` or ``read_bytes`` is no positive int.
    """
    require_isa(isa)
    threads = get_num_threads() if threads is None else threads
    for name, given, most in (("threads", threads, MOST_THREADS), ("read_bytes", read_bytes, 2**40)):
        if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= most:
            raise InputError(f"{name} is {reprlib.repr(given)}.", remedy=f"Give an int from 1 to {most}.")
    isa = isa or _C.selected_isa()
    gmacs, read_gbs = _C.dot_product_peak(isa, threads), _C.read_bandwidth(read_bytes, threads)
    return Peaks(isa, threads, gmacs, read_gbs, read_bytes)
