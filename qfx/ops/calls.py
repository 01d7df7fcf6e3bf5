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


def arguments(op: Op, node: fx.Node) -> dict[str, Any]:
    """Every argument of the call by parameter name, defaults filled in."""
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
