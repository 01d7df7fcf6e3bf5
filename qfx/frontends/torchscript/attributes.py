"""What translated code reads and assigns of the attributes of modules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class AttributeState:
    """Attributes by path.

    Attributes:
        assigned: What the code assigned.
        seen: Paths of what it read before.
    """

    assigned: dict[str, Any] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    _containers: dict[int, tuple[Any, str]] = field(default_factory=dict)

    def read(self, path: str, value: Any) -> None:
        """The code reads ``value``, which was not assigned."""
        self.seen.add(path)
        self._own(value, path)

    def owner_of(self, container: Any) -> str | None:
        """The path of the attribute that ``container`` is, or is in."""
        return self._containers.get(id(container), (None, None))[1]

    def _own(self, value: Any, path: str) -> None:
        items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else None
        if items is not None:
            self._containers[id(value)] = value, path  # which keeps its id its own
            for item in items:
                self._own(item, path)
