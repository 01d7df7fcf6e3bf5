"""Where the author of a model says that its quantized part begins and ends, and which results it observes."""

from __future__ import annotations

from enum import Enum
from typing import Any

from torch import fx

STUBBED = "stubbed"
"""Node metadata: whether the value lies between a QuantStub and a DeQuantStub."""

OBSERVED_BY = "observed_by"
"""Node metadata: path of the FloatFunctional whose operation the node is."""

APART = "apart"
"""Node metadata: why a rewrite that fits the node was not made."""


class Boundary(Enum):
    """What a module of eager mode says by being where it is; the ``boundary`` of its class."""

    BEGIN = "QuantStub"
    END = "DeQuantStub"
    RESULT = "FloatFunctional"


def boundary_of(module: Any) -> Boundary | None:
    """What ``module`` says about its place, or None for any other module."""
    found = getattr(type(module), "boundary", None)
    return found if isinstance(found, Boundary) else None


def kept(node: fx.Node) -> dict[str, Any]:
    """The metadata of this module that a node derived from ``node`` keeps."""
    return {key: node.meta[key] for key in (STUBBED, OBSERVED_BY, APART) if key in node.meta}
