"""Whether what a model keeps from call to call matters: by calling it, for each frontend that has example inputs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from qfx.frontends.places import Place
from qfx.frontends.state import Snapshot, same

Example = tuple[tuple[Any, ...], Mapping[str, Any]]
"""Positional and keyword inputs."""

_ROUND = 50_400
"""Divisible by what code counts in: 1 to 10, 12, 16, 20, 24, 25, 32, 50, 100."""


def _at_a_round(now: Any, step: Any) -> Any:
    return now * 0 + (_ROUND if step > 0 else -_ROUND)


LATER: tuple[Callable[[Any, Any], Any], ...] = (
    lambda now, step: now + 1000 * step,
    _at_a_round,
    lambda now, step: _at_a_round(now, step) - step,
)
"""What counters are set to, given what they are and by how much they change, to look at what they do once more.

Warm-ups end, tables run out; and what code does each so many calls asks the counter before or after it counts.
"""


def changes_of_a_call(root: nn.Module, before: Snapshot, example: Example) -> list[Place]:
    """The places that a call of ``root``, which is put back, changes.

    Args:
        root: A model in evaluation mode.
        before: Made of ``root`` as it is now.
        example: Inputs that it takes.
    """
    with torch.no_grad(), _put_back(before):
        _result(root, example)
        return before.changes()


def changes_that_matter(
    root: nn.Module, before: Snapshot, example: Example, whole: Collection[str] = ()
) -> list[Place]:
    """The places that a call changes, if later results depend on it; registered tensors in any case.

    Args:
        root, before, example: As of :func:`changes_of_a_call`.
        whole: Paths of modules that may keep what they want.
    """
    changes = [place for place in changes_of_a_call(root, before, example) if not place.is_in(whole)]
    registered = [place for place in changes if place.registered]
    if registered or not changes or not later_calls_differ(root, before, example, lambda place: place.is_in(whole)):
        return registered
    return at_fault(
        changes, lambda owner: later_calls_differ(root, before, example, lambda place: place.owner != owner)
    )


def at_fault(changes: list[Place], alone: Callable[[str], bool]) -> list[Place]:
    """Those of ``changes`` whose modules are to blame by themselves, or all.

    Args:
        changes: All that matter only together, as far as is known.
        alone: Whether what the module of a path keeps matters without what others keep.
    """
    owners = dict.fromkeys(place.owner for place in changes)
    if len(owners) == 1:
        return changes
    guilty = {owner for owner in owners if alone(owner)}
    return [place for place in changes if place.owner in guilty] or changes


def later_calls_differ(root: nn.Module, before: Snapshot, example: Example, forgotten: Callable[[Place], bool]) -> bool:
    """Whether a call of ``root``, which is put back, returns something else after other calls than it did at first.

    Args:
        root, before, example: As of :func:`changes_of_a_call`.
        forgotten: Says what is put back after each call.
    """

    def call(given: Example) -> Any:
        result = _result(root, given)
        before.restore(forgotten)
        return result

    other = _others(example)
    with torch.no_grad():
        with _put_back(before):
            alone = call(other)
        with _put_back(before):
            results = [call(given) for given in (example, example, other, example)]
        first = results[0]
        much_later = []
        for ahead in LATER:
            with _put_back(before):
                call(example)
                before.count_on(ahead)
                much_later.append(call(example))
    wanted = [first, first, alone, first]
    return not all(map(_close, [*results, *much_later], [*wanted, *[first] * len(LATER)]))


@contextlib.contextmanager
def _put_back(before: Snapshot) -> Iterator[None]:
    try:
        yield
    finally:
        before.restore()


def _result(root: nn.Module, example: Example) -> Any:
    """What a call returns, or the exception that it raises, with the same random numbers each time."""
    args, kwargs = pytree.tree_map_only(Tensor, torch.clone, example)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        try:
            return root(*args, **kwargs)
        except Exception as error:
            return error


def _others(example: Example) -> Example:
    """Other inputs of the same shapes, dtypes and values: turned around along every dim."""
    turned: Example = pytree.tree_map_only(Tensor, lambda x: x.flip(tuple(range(x.dim()))), example)
    return turned


def _close(now: Any, before: Any) -> bool:
    if isinstance(before, Exception):  # which says nothing
        return True
    (ours, spec), (theirs, other_spec) = pytree.tree_flatten(now), pytree.tree_flatten(before)
    return spec == other_spec and all(map(_close_leaves, ours, theirs))


def _close_leaves(now: Any, before: Any) -> bool:
    if not isinstance(now, Tensor) or not isinstance(before, Tensor) or not now.is_floating_point():
        return same(now, before)
    return now.shape == before.shape and torch.allclose(now, before, rtol=1e-5, atol=1e-7, equal_nan=True)
