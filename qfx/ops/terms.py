"""Terms: graph fragments as data. Alias rules and rewrite rules return them; one writer puts them into a graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from qfx.ops.extents import extent_of, origin_of, rank_of


@dataclass(frozen=True, eq=False)
class Term:
    """One call of a table op.

    Attributes:
        op: The row's name, a function of dim values (``operator.add`` ...), or a function of torch that has no row.
        args: Operands: terms, graph nodes, :class:`Attr`, :class:`Folded`, plain values, and tuples or lists of them.
        kwargs: Attributes; integers among them may be terms or nodes too.
        like: The node whose name, path and source the result takes over; None: those of the rewritten node.
    """

    op: str | Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    like: fx.Node | None = None


@dataclass(frozen=True)
class Attr:
    """A tensor of the module being rewritten, by its name there; None when the module has None under it."""

    name: str


@dataclass(frozen=True, eq=False)
class Folded:
    """A constant computed from constants.

    Attributes:
        name: Its name beside the operand that it replaces (the first operand that is a constant of the graph).
        compute: Function of the operands' tensors.
        operands: Constants: :class:`Attr`, ``get_attr`` nodes, tensors, numbers or None.
        beside: The ``get_attr`` node beside which it is named, when that is not the first constant operand.
    """

    name: str
    compute: Callable[..., Any]
    operands: tuple[Any, ...]
    beside: fx.Node | None = None


ZEROS = "zeros"
"""In the metadata of a ``get_attr`` node: the model's code makes the tensor, of nothing but zeros."""


@dataclass(frozen=True, eq=False)
class Item:
    """The number in a constant of one element, as a ``get_attr`` node."""

    of: fx.Node


class NotNormal(Exception):
    """A call that the table's ops can't express; it stays as it is, and the message is the reason."""


def term(op: str | Callable[..., Any], *args: Any, **kwargs: Any) -> Term:
    """A term with plain call syntax."""
    return Term(op, args, kwargs)


@dataclass(frozen=True)
class Shape:
    """``x.shape``: indexing and slicing give dim values.

    Attributes:
        of: The tensor node.
    """

    of: fx.Node

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, int):
            extent = extent_of(*origin_of(self.of, index))
            return Term("size", (self.of,), {"dim": index}) if extent is None else extent
        return tuple(self[dim] for dim in self._dims(index))

    def _dims(self, index: slice) -> range:
        """The dims that ``index`` selects, counted from the end when the rank is unknown and ``index`` allows it."""
        rank = rank_of(self.of)
        if rank is not None:
            return range(rank)[index]
        start, stop, step = index.start, index.stop, index.step or 1
        if start is not None and start < 0 and (stop is None or stop < 0) and step == 1:
            return range(start, stop or 0)
        if (start is None or start >= 0) and stop is not None and stop >= 0:
            return range(start or 0, stop, step)
        raise NotNormal("the rank of the tensor whose shape it takes is unknown")

    def entries(self) -> tuple[Any, ...]:
        """All dims.

        Raises:
            NotNormal: The rank is unknown.
        """
        dims: tuple[Any, ...] = self[:]
        return dims


@dataclass(frozen=True, eq=False)
class Pieces:
    """The tuple that chunk, split, unbind or max returns, made piece by piece.

    Attributes:
        make: The term of piece ``i``.
        count: How many pieces, None when that is unknown.
        fields: Names of the pieces, when it is a named tuple.
        from_end: The term of the last piece but ``i``, where ``count`` pieces are not certain.
    """

    make: Callable[[int], Any]
    count: int | None
    fields: tuple[str, ...] = ()
    from_end: Callable[[int], Any] | None = None

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, int):
            return self.all()[index]
        if index < 0 and self.from_end is not None:
            return self.from_end(-1 - index)
        if index < 0 and self.count is None:
            raise NotNormal("the number of pieces is unknown")
        return self.make(index if index >= 0 or self.count is None else index + self.count)

    def all(self) -> tuple[Any, ...]:
        """Every piece.

        Raises:
            NotNormal: Their number is unknown.
        """
        if self.count is None:
            raise NotNormal("the number of pieces is unknown")
        return tuple(self.make(index) for index in range(self.count))
