"""What a compiled model runs, step by step, and how long each step takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from qfx.lowering.compile import Compiled, CompiledSegment
from qfx.runtime import Explanation


@dataclass(frozen=True)
class ModelExplanation:
    """One entry a segment: a program's explanation, or the names of nodes that torch runs.

    Attributes:
        parts: In execution order.
    """

    parts: tuple[Explanation | tuple[str, ...], ...]

    def __str__(self) -> str:
        return "\n\n".join(_part(i, part) for i, part in enumerate(self.parts))

    __repr__ = __str__


def _part(index: int, part: Explanation | tuple[str, ...]) -> str:
    if isinstance(part, tuple):
        return f"[{index}] in torch: {', '.join(part)}"
    return f"[{index}] program\n{part}"


def explain(compiled: Compiled) -> ModelExplanation:
    """The plans for the shapes that the model was prepared with."""
    return ModelExplanation(tuple(_explain(part) for part in compiled.segments))


def _explain(part: CompiledSegment) -> Explanation | tuple[str, ...]:
    if part.executable is None:
        return tuple(n.name for n in part.segment.nodes)
    return part.executable.explain(*(tuple(n.meta["shape"]) for n in part.segment.inputs))


def profile(compiled: Compiled, inputs: tuple[Any, ...], repeats: int) -> ModelExplanation:
    """The plans for ``inputs`` with the median microseconds of every step."""
    parts: list[Explanation | tuple[str, ...]] = []

    def observe(part: CompiledSegment, given: list[Tensor]) -> Any:
        assert part.executable is not None
        plan = part.executable.explain(*(tuple(t.shape) for t in given))
        parts.append(replace(plan, steps=part.executable.profile(*given, repeats=repeats)))
        return part.executable(*given)

    compiled.run(inputs, observe)
    return ModelExplanation(tuple(parts))
