"""Lengths that inputs decide: integer expressions over unknowns, so that equal means equal.

A length is an int or a :class:`Dim`. Arithmetic mixes the two, and what comes out constant is an int. The shape
functions of the op table compute with either.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Unknown:
    """A length that nothing determines.

    Attributes:
        key: Which.
    """

    key: Hashable
    size = 1

    def __str__(self) -> str:
        return ".".join(map(str, self.key)) if isinstance(self.key, tuple) else str(self.key)


@dataclass(frozen=True)
class Applied:
    """A function of lengths at least one of which is not constant.

    Attributes:
        function: It gives an int for ints.
        arguments: Lengths, numbers and None.
    """

    function: Callable[..., Length]
    arguments: tuple[Any, ...]

    @property
    def size(self) -> int:
        return 1 + sum(argument.size for argument in self.arguments if isinstance(argument, Dim))

    def __str__(self) -> str:
        return f"{self.function.__name__}({','.join(map(str, self.arguments))})"


_Atom: TypeAlias = Unknown | Applied
_Factors: TypeAlias = frozenset[tuple[_Atom, int]]
"""Atoms with their powers."""

_ONE: _Factors = frozenset()
_LONGEST = 32
"""Unknowns and functions of lengths in an expression."""


class Dim:
    """A length that is not constant: a sum of products of atoms, each with a factor.

    Attributes:
        terms: Products with their factors.
        size: How many unknowns and functions of lengths it is written with.
    """

    __slots__ = ("_hash", "size", "terms")

    def __init__(self, terms: frozenset[tuple[_Factors, int]]) -> None:
        self.terms = terms
        self.size = sum(atom.size for factors, _ in terms for atom, _ in factors)
        self._hash = hash(terms)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dim) and self.terms == other.terms

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        return "+".join(sorted(_text(factors, count) for factors, count in self.terms))

    __repr__ = __str__

    def __add__(self, other: Length) -> Length:
        return _sum([*self.terms, *_terms(other)])

    def __mul__(self, other: Length) -> Length:
        return _sum([(_times(a, b), m * n) for a, m in self.terms for b, n in _terms(other)])

    def __neg__(self) -> Length:
        return self * -1

    def __sub__(self, other: Length) -> Length:
        return self + -other

    def __rsub__(self, other: Length) -> Length:
        return -self + other

    __radd__ = __add__
    __rmul__ = __mul__

    def __floordiv__(self, other: Length) -> Length:
        return _quotient(self, other)

    def __rfloordiv__(self, other: int) -> Length:
        return _quotient(other, self)


Length: TypeAlias = int | Dim
Lengths: TypeAlias = tuple[Length, ...]


def unknown(key: Hashable) -> Dim:
    """The length ``key``."""
    return _atom(Unknown(key))


def applied(function: Callable[..., Length], *arguments: Any) -> Dim:
    """``function`` of ``arguments``, which is not known yet."""
    return _atom(Applied(function, arguments))


def key_of(length: object) -> Any:
    """The key of a length that is an unknown as it is, or None."""
    if not isinstance(length, Dim) or len(length.terms) != 1:
        return None
    ((factors, count),) = length.terms
    if count != 1 or len(factors) != 1:
        return None
    ((atom, power),) = factors
    return atom.key if power == 1 and isinstance(atom, Unknown) else None


def keys_of(length: object) -> Iterator[Any]:
    """The keys of all that is unknown of a length."""
    for factors, _ in length.terms if isinstance(length, Dim) else ():
        for atom, _ in factors:
            if isinstance(atom, Unknown):
                yield atom.key
            else:
                for argument in atom.arguments:
                    yield from keys_of(argument)


def is_long(length: object) -> bool:
    """Whether an expression is longer than it is good for: expressions of expressions may double at each step."""
    return isinstance(length, Dim) and length.size > _LONGEST


def substituted(length: Any, value: Callable[[Any], Length]) -> Any:
    """``length`` with ``value(key)`` for each unknown. What is no length stays."""
    if not isinstance(length, Dim):
        return length
    total: Length = 0
    for factors, count in length.terms:
        product: Length = count
        for atom, power in factors:
            for _ in range(power):
                product = product * _value(atom, value)
        total = total + product
    return total


def _value(atom: _Atom, value: Callable[[Any], Length]) -> Length:
    if isinstance(atom, Unknown):
        return value(atom.key)
    return atom.function(*(substituted(argument, value) for argument in atom.arguments))


def _atom(atom: _Atom) -> Dim:
    return Dim(frozenset({(frozenset({(atom, 1)}), 1)}))


def _terms(length: Length) -> Iterable[tuple[_Factors, int]]:
    return length.terms if isinstance(length, Dim) else [(_ONE, length)]


def _sum(terms: Iterable[tuple[_Factors, int]]) -> Length:
    counts: Counter[_Factors] = Counter()
    for factors, count in terms:
        counts[factors] += count
    left = {factors: count for factors, count in counts.items() if count}
    if not left or set(left) == {_ONE}:
        return left.get(_ONE, 0)
    return Dim(frozenset(left.items()))


def _times(a: _Factors, b: _Factors) -> _Factors:
    powers = Counter(dict(a))
    powers.update(dict(b))
    return frozenset(powers.items())


def _quotient(length: Length, by: Length) -> Length:
    """``length // by``, written out as far as it divides. A length that divides is not 0."""
    if length == by:
        return 1
    divisor = list(_terms(by))
    if length == 0:
        return 0
    if len(divisor) != 1:
        exact = _exact_quotient(length, by)
        return applied(operator.floordiv, length, by) if exact is None else exact
    ((below, count),) = divisor
    whole, rest = [], []
    for factors, n in _terms(length):
        left = _over(factors, below)
        if left is None or n % count:
            rest.append((factors, n))
        else:
            whole.append((left, n // count))
    if below and rest:
        return applied(operator.floordiv, length, by)
    remainder = _sum(rest)
    more = remainder // count if isinstance(remainder, int) else applied(operator.floordiv, remainder, count)
    return _sum(whole) + more


def _exact_quotient(length: Length, by: Length) -> Length | None:
    """``length / by`` where that is a sum of products, by long division; else None."""
    atoms = sorted({atom for value in (length, by) for factors, _ in _terms(value) for atom, _ in factors}, key=str)

    def leading(value: Length) -> tuple[_Factors, int]:
        return max(_terms(value), key=lambda term: [dict(term[0]).get(atom, 0) for atom in atoms])

    below, count = leading(by)
    whole: Length = 0
    for _ in range(_LONGEST):  # each turn takes the leading term away
        factors, n = leading(length)
        left = _over(factors, below)
        if left is None or n % count:
            return None
        part = _sum([(left, n // count)])
        whole, length = whole + part, length - part * by
        if length == 0:
            return whole
    return None


def _over(factors: _Factors, below: _Factors) -> _Factors | None:
    """``factors / below``, or None where that is no product."""
    powers: Mapping[_Atom, int] = dict(factors)
    left = Counter(powers)
    left.subtract(dict(below))
    if any(power < 0 for power in left.values()):
        return None
    return frozenset((atom, power) for atom, power in left.items() if power)


def _text(factors: _Factors, count: int) -> str:
    names = sorted(f"{atom}^{power}" if power > 1 else str(atom) for atom, power in factors)
    return "*".join([str(count)] * (count != 1 or not names) + names)


class _Any(Dim):
    """A length of which nothing matters: what is computed from it is one, too."""

    __slots__ = ()

    def _itself(self, other: Length = 0) -> Length:
        return self

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __floordiv__ = __rfloordiv__ = _itself
    __neg__ = _itself


ANY: Dim = _Any(unknown("any").terms)
