"""Where a model keeps things: paths from a module to what it, its class or its code leads to."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch

from qfx.frontends.constants import join

ATOMS = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size, range, slice)
"""Types whose objects don't change and lead nowhere."""


class Place(NamedTuple):
    """Where something is.

    Attributes:
        owner: Path of a module.
        name: What leads there from the module, or from its class or code.
        registered: Whether it is a parameter or buffer.
    """

    owner: str
    name: str = ""
    registered: bool = False

    @property
    def path(self) -> str:
        """Owner and name as one."""
        return join(self.owner, self.name)

    @property
    def attribute(self) -> str:
        """The first step of the name."""
        return self.name.partition("[")[0].partition(".")[0]

    def is_in(self, modules: Collection[str]) -> bool:
        """Whether the owner is one of ``modules``, or in one."""
        return any(f"{self.owner}.".startswith(f"{path}.") or not path for path in modules)

    def item(self, key: object) -> Place:
        """Of an item of what is here."""
        return self._replace(name=f"{self.name}[{key!r}]" if isinstance(key, ATOMS) else f"{self.name}[...]")

    def named(self, name: str) -> Place:
        """Of an attribute of what is here."""
        return self._replace(name=join(self.name, name))


def told(places: Sequence[Place]) -> str:
    """``"the buffer a.b is"``, ``"a.n and a.key are"``: the places, the first three of many."""
    paths = list({(p.owner, p.attribute): f"{'the buffer ' if p.registered else ''}{p.path}" for p in places}.values())
    named = [*paths[:3], f"{len(paths) - 3} more"] if len(paths) > 3 else paths
    return f"{', '.join(named[:-1])} and {named[-1]} are" if len(named) > 1 else f"{named[0]} is"
