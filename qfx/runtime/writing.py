"""Writing programs: a step as data, and its place in a program. ``qfx.runtime.steps`` makes the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from qfx.runtime._C import ProgramBuilder

Entry = TypeVar("Entry")
Given = Mapping[str, Entry | Sequence[Entry] | None]
"""Attributes by name; None: left out."""


@dataclass(frozen=True)
class Step:
    """An operation on values of a program, before it has a name and results.

    Attributes:
        op: The operation.
        inputs: Ids of its operands.
        results: Names of its results, and the type of each where the operation has one only.
        attributes: As :meth:`ProgramBuilder.step` takes them.
    """

    op: str
    inputs: list[int]
    results: dict[str, str | None]
    attributes: dict[str, dict[str, Any]]

    @classmethod
    def of(
        cls,
        op: str,
        inputs: Sequence[int | None],
        results: dict[str, str | None],
        *,
        ints: Given[int] | None = None,
        floats: Given[float] | None = None,
        exprs: Given[int] | None = None,
        constants: Given[int] | None = None,
        text: Given[str] | None = None,
    ) -> Step:
        """The step without what is left out."""
        given = {"ints": ints, "floats": floats, "exprs": exprs, "constants": constants, "text": text}
        attributes = {
            kind: {name: int(v) if isinstance(v, bool) else v for name, v in entries.items() if v is not None}
            for kind, entries in given.items()
            if entries
        }
        return cls(op, [v for v in inputs if v is not None], results, attributes)


def write(
    builder: ProgramBuilder, name: str, step: Step, *shapes: Sequence[int], dtype: str | None = None
) -> list[int]:
    """Write ``step`` as ``name``, and give the ids of its results.

    The first result has the step's name, the others theirs behind it.

    Args:
        builder: The program.
        name: Of the step.
        step: What to write.
        shapes: Of each result; -1: known only when inputs are.
        dtype: Of results of operations that give more types than one.
    """
    outputs: list[int] = []
    for (result, own), shape in zip(step.results.items(), shapes, strict=True):
        kind = own or dtype
        assert kind is not None, f"{step.op} has results of several types"
        outputs.append(builder.value(f"{name}.{result}" if outputs else name, kind, shape))
    builder.step(step.op, name, step.inputs, outputs, **step.attributes)
    return outputs
