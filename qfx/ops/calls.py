"""Reading the arguments of a table op's node."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from torch import fx

from qfx.ops.table import Op


@functools.cache
def _signature(fn: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(fn)


@functools.cache
def _parameters(fn: Callable[..., Any]) -> tuple[tuple[str, ...], dict[str, Any]] | None:
    """Names of what ``fn`` takes by position, and the default of every parameter in order; None if it takes any."""
    parameters = _signature(fn).parameters.values()
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD, p.POSITIONAL_ONLY) for p in parameters):
        return None
    return tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD), {
        p.name: p.default for p in parameters
    }


def arguments(op: Op, node: fx.Node) -> dict[str, Any]:
    """Every argument of the call by parameter name, defaults filled in."""
    known = _parameters(op.fn)
    if known is not None:  # what bind() does, without its cost: passes ask for this very often
        positional, defaults = known
        given = {**defaults, **dict(zip(positional, node.args, strict=False)), **node.kwargs}
        unclear = len(node.args) > len(positional) or any(name in node.kwargs for name in positional[: len(node.args)])
        if (
            not unclear
            and len(given) == len(defaults)
            and all(v is not inspect.Parameter.empty for v in given.values())
        ):
            return given
    bound = _signature(op.fn).bind(*node.args, **node.kwargs)
    bound.apply_defaults()
    return bound.arguments


def attributes(op: Op, node: fx.Node) -> dict[str, Any]:
    """The keyword-only arguments of the call, defaults filled in: what is no operand."""
    kinds = _signature(op.fn).parameters
    return {k: v for k, v in arguments(op, node).items() if kinds[k].kind is inspect.Parameter.KEYWORD_ONLY}


def activations(op: Op, node: fx.Node) -> Iterator[fx.Node]:
    """The operands of the call that are activations (tensors of the model's data flow), in order."""
    given = arguments(op, node)
    for name in op.tensors:
        value = given[name]
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(item, fx.Node):
                yield item


def covers(op: Op, node: fx.Node) -> bool:
    """Whether the runtime has a step for the call's attributes."""
    return op.uncovered(**attributes(op, node)) is None
