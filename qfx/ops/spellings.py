"""THE alias tables: how every module class, function and tensor method that users write maps to the op table."""

from __future__ import annotations

from typing import Any

from qfx.errors import UnsupportedError
from qfx.ops.attention import spellings as attention
from qfx.ops.compute import arithmetic, products, transposed
from qfx.ops.compute import spellings as compute
from qfx.ops.float_ops import spellings as float_ops
from qfx.ops.index import spellings as index
from qfx.ops.pointwise import spellings as pointwise
from qfx.ops.pool import spellings as pool
from qfx.ops.recurrent import spellings as recurrent
from qfx.ops.shape import spellings as shape
from qfx.ops.spelling import Alias, Spelling

ALIASES: dict[Spelling, Alias] = {}
"""Every alias by its spelling. Add with :func:`register_alias` only."""


def register_alias(alias: Alias) -> Alias:
    """Adds an alias.

    Raises:
        UnsupportedError: The spelling is taken.
    """
    taken = ALIASES.get(alias.spelling)
    if taken is not None:
        raise UnsupportedError(
            f"{alias.name} can't be an alias of {alias.op!r}: it is one of {taken.op!r}.",
            remedy="Register a spelling of your own; those of torch are taken.",
        )
    ALIASES[alias.spelling] = alias
    return alias


def alias_of(target: Any) -> Alias | None:
    """The alias of a module class, a function, or a method name."""
    try:
        return ALIASES.get(target)
    except TypeError:
        return None


def aliases_of(op: str) -> list[Alias]:
    """Every alias that normalizes to the row ``op``."""
    return [alias for alias in ALIASES.values() if alias.op == op]


_MODULES = (
    compute, float_ops, transposed, pointwise, arithmetic, pool, products, shape, index, attention, recurrent,
)  # fmt: skip

for _module in _MODULES:
    for _alias in _module.ALIASES:
        register_alias(_alias)

__all__ = ["ALIASES", "Alias", "Spelling", "alias_of", "aliases_of", "register_alias"]
