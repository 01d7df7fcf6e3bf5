"""The passes that run example inputs through a graph, to learn the shapes and dtypes of its values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from qfx.frontends.fresh import ISLAND_STATE, put_back
from qfx.frontends.shapes import learn_shapes, propagate_shapes, record_shapes
from qfx.inputs import describe, example
from qfx.ir.module import ARGUMENTS, bind_placeholders, without_fixed

EXAMPLE_INPUTS = "example_inputs"
"""Key of a graph's ``meta``: the description of each example input; not there where none was given."""


@dataclass(frozen=True)
class Example:
    """Example inputs of the float model; none where nothing is given."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.args or self.kwargs)

    def of(self, gm: fx.GraphModule) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """The arguments that the capture did not fix."""
        return without_fixed(gm.meta.get(ARGUMENTS, ()), self.args, self.kwargs)


def record_example(gm: fx.GraphModule, given: Example) -> fx.GraphModule:
    """Note what normalization reads: ranks and dtypes.

    Raises:
        InputError: The inputs do not fit the model.
    """
    return record_shapes(gm, *given.of(gm)) if given else gm


def learn_example(gm: fx.GraphModule, given: Example) -> fx.GraphModule:
    """Note the shape, dtype and batch dim of every value, and in the graph's ``meta`` what was given.

    Raises:
        InputError: The inputs do not fit the model.
    """
    if not given:
        return gm
    inputs = bind_placeholders(gm.graph, *given.of(gm))
    gm = propagate_shapes(gm, inputs)
    put_back(gm, gm.meta.get(ISLAND_STATE, {}))  # to learn the shapes may have taken calls
    gm.meta[EXAMPLE_INPUTS] = tuple(map(describe, inputs))
    return gm


def learn_example_again(gm: fx.GraphModule) -> fx.GraphModule:
    """Note the same of a graph that passes have changed.

    Raises:
        InputError: The inputs have no batch where the passes took them to have one, and that makes a difference.
    """
    described = gm.meta.get(EXAMPLE_INPUTS)
    if described is None:
        return gm
    gm = learn_shapes(gm, tuple(map(example, described)))
    put_back(gm, gm.meta.get(ISLAND_STATE, {}))
    return gm
