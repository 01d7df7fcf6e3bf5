"""Fewer cases than a full product where none of three or more settings depends on two others."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any


def pairs(*settings: Iterable[Any], but: Callable[..., bool] = lambda *case: True) -> list[tuple[Any, ...]]:
    """Cases in which each value of each setting meets each value of every other at least once.

    The same ones each time; values are told apart by their place. Greedy: the next case is the first of the product
    that has the most pairs which no case before it has. ``but`` says of a case whether there is such a one.
    """
    values = [list(setting) for setting in settings]
    places = itertools.product(*(range(len(setting)) for setting in values))
    product = [case for case in places if but(*_at(values, case))]
    met = {case: set(itertools.combinations(enumerate(case), 2)) for case in product}
    wanted, chosen = set().union(*met.values()), []
    while wanted:
        chosen.append(max(product, key=lambda case: len(met[case] & wanted)))
        wanted -= met[chosen[-1]]
    return [_at(values, case) for case in sorted(chosen)]


def _at(values: list[list[Any]], places: tuple[int, ...]) -> tuple[Any, ...]:
    return tuple(setting[place] for setting, place in zip(values, places, strict=True))
