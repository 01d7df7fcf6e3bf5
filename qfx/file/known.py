"""What a file says of a model's inputs, checked: arguments, examples, and what the capture took for granted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import fx

from qfx.file.malformed import MalformedError
from qfx.guards import GUARDS, Guard, require
from qfx.inputs import example
from qfx.ir.module import ARGUMENTS


def require_known(info: Mapping[str, Any], graph: fx.Graph) -> None:
    """Raise unless ``info`` describes the placeholders of ``graph`` in a way that calls can rely on.

    Raises:
        MalformedError: It does not.
        InputError: What was taken for granted is not so of the examples.
    """
    names = [str(node.target) for node in graph.find_nodes(op="placeholder")]
    _require_arguments(info.get(ARGUMENTS, ()))
    described, guards = info.get("example_inputs"), info.get(GUARDS, ())
    if described is not None:
        _require_examples(described, len(names))
    if not isinstance(guards, tuple) or not all(isinstance(guard, Guard) for guard in guards):
        raise MalformedError(f"It takes {guards!r} for granted.")
    if guards and described is not None:
        require(guards, dict(zip(names, map(example, described), strict=True)))


def _require_arguments(arguments: Any) -> None:
    triples = isinstance(arguments, tuple) and all(isinstance(one, tuple) and len(one) == 3 for one in arguments)
    if not triples or not all(isinstance(name, str) and isinstance(state, str) for name, state, _ in arguments):
        raise MalformedError(f"Its arguments are {arguments!r}.")


def _require_examples(described: Any, count: int) -> None:
    if not isinstance(described, tuple) or len(described) != count:
        raise MalformedError(f"It describes {described!r} as its inputs.")
    for each in described:
        if not isinstance(each, tuple) or each[:1] not in (("tensor",), ("value",)):
            raise MalformedError(f"It describes {each!r} as an input.")
