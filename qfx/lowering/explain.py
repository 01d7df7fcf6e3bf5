"""What a compiled model runs, step by step, and how long each step takes."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from qfx.inline import Inline
from qfx.lowering.compiled import Compiled, CompiledSegment
from qfx.runtime import Explanation, StepRecord, peaks


@dataclass(frozen=True)
class ModelExplanation(Inline):
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
        return _names(part)
    return part.executable.explain(*(tuple(n.meta["shape"]) for n in part.segment.inputs))


def _names(part: CompiledSegment) -> tuple[str, ...]:
    return tuple(n.name for n in part.segment.nodes)


def profile(compiled: Compiled, inputs: tuple[Any, ...], repeats: int) -> ModelExplanation:
    """The plans for ``inputs`` with the median microseconds, the rate and the share of the peak of every step.

    One entry a segment, as :func:`explain` gives them: names of nodes where torch runs it.
    """
    plans: list[Explanation] = []

    def observe(part: CompiledSegment, given: list[Tensor]) -> Any:
        assert part.executable is not None
        plan = part.executable.explain(*(tuple(t.shape) for t in given))
        timed = part.executable.profile(*given, repeats=repeats)
        plans.append(replace(plan, steps=tuple(_rated(part, record) for record in timed)))
        return part.executable(*given)

    compiled.run(inputs, observe)
    timed = iter(plans)
    return ModelExplanation(tuple(_names(p) if p.executable is None else next(timed) for p in compiled.segments))


def _rated(part: CompiledSegment, record: StepRecord) -> StepRecord:
    """``record`` with what its multiply-accumulates are of what the CPU can do."""
    assert part.executable is not None
    if record.gmacs is None:
        return record
    return replace(record, share_of_peak=record.gmacs / _peak(part.executable.isa, record.threads))


@functools.cache
def _peak(isa: str, threads: int) -> float:
    return peaks(isa, threads, read_bytes=1).gmacs
