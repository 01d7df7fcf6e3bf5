"""What this machine offers, as the runtime sees it."""

from __future__ import annotations

from qfx.runtime import _C


def isa_names() -> tuple[str, ...]:
    """The instruction sets that this CPU supports, lowest first; each can be asked for by name."""
    return tuple(_C.isa_names())


def cpu_info() -> dict[str, str]:
    """CPU description, the selected instruction set, all supported ones, and the thread pool in use."""
    return {
        "cpu": _C.cpu_description(),
        "isa": _C.selected_isa(),
        "isas": ", ".join(isa_names()),
        "thread_pool": _C.thread_pool_name(),
        "threads": str(_C.num_threads()),
    }
