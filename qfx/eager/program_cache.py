"""Programs of eager calls, kept by what they depend on, within some memory: the least recently used go first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import RLock
from typing import Any

from qfx.lowering.compiled import Compiled

OVERHEAD = 1 << 15
"""Bytes that a program takes beside its constants, about."""


class KeptPrograms:
    """Programs by key. The one used last always stays, whatever its size.

    Args:
        limit: Bytes that the others may take together.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._entries: OrderedDict[Any, tuple[Compiled, int, Any]] = OrderedDict()
        self._lock = RLock()
        self._bytes = 0

    def get(self, key: Any, make: Callable[[], Compiled], alive: Any = None) -> Compiled:
        """The program of ``key``, made now if it is not here.

        Args:
            key: What the program depends on.
            make: Makes it.
            alive: What has to live as long as the entry, such as objects whose ids are in the key.
        """
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                made = make()
                found = self._entries[key] = made, size_of(made), alive
                self._bytes += found[1]
            self._entries.move_to_end(key)
            while self._bytes - found[1] > self.limit:
                _, (_, size, _) = self._entries.popitem(last=False)
                self._bytes -= size
            return found[0]

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
        self._bytes = 0

    def programs(self) -> list[Compiled]:
        """All, the least recently used first."""
        return [made for made, _, _ in self._entries.values()]

    def __len__(self) -> int:
        return len(self._entries)


def size_of(compiled: Compiled) -> int:
    """Bytes that a program takes, about: its constants, packed."""
    return OVERHEAD + sum(part.executable.constant_bytes for part in compiled.segments if part.executable is not None)
