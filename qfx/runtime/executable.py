"""A program loaded for this CPU, callable on numpy arrays and torch tensors."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from qfx.errors import RuntimeLoadError
from qfx.runtime import _C, tensors
from qfx.runtime.records import Explanation, MemoryRecord, StepRecord
from qfx.runtime.threads import default_threads, get_num_threads


class Executable:
    """Runs a program. Calls are safe from many threads at once; each has its own working memory.

    Args:
        program: A validated program.
        isa: ``"scalar"``, ``"avx2"``, ``"avxvnni"``, ``"avx512vnni"``, ``"amx"``, ``"neon"``, ``"dotprod"`` or
            ``"i8mm"``; by default the best here, or what ``QFX_ISA`` names.

    Raises:
        RuntimeLoadError: The ISA is unknown or not supported here, or a step has constants that no kernel takes.
    """

    def __init__(self, program: _C.Program, isa: str | None = None) -> None:
        self.program = program
        try:
            self._core = _C.Executable(program, isa or "")
        except ValueError as error:
            if isinstance(error, RuntimeLoadError):
                raise
            names = ", ".join(_C.isa_names())
            raise RuntimeLoadError(
                "The program can't be loaded.", why=str(error), remedy=f"Supported here: {names}."
            ) from error
        self._input_specs = tuple(tensors.TensorSpec(*spec) for spec in program.input_specs)
        self._output_dtypes = tuple(dtype for _, dtype, _ in program.output_specs)

    @property
    def isa(self) -> str:
        """The instruction set that the kernels were chosen for."""
        return self._core.isa

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        """One forward.

        Args:
            inputs: numpy arrays or torch CPU tensors of the dtypes and ranks that the program declares, any strides.

        Returns:
            Fresh dense tensors of the same kind, one a program output.

        Raises:
            InputError: Wrong number, kind, dtype, rank or device of inputs, or shapes that a step can't take.
        """
        kind = tensors.kind_of(inputs)
        inputs = kind.check(inputs, self._input_specs)
        plan = self._core.plan(kind.layouts(inputs))
        outputs = kind.empty(plan.output_shapes, self._output_dtypes)
        self._core.run(plan, kind.addresses(inputs), kind.addresses(outputs), default_threads())
        return outputs

    def run_and_fetch(
        self, inputs: Sequence[Any], value_ids: Sequence[int]
    ) -> tuple[tuple[Any, ...], dict[int, np.ndarray]]:
        """One forward in which no buffer is reused, and copies of the values ``value_ids`` (physical layout).

        Raises:
            InputError: As a call; or a value that the program does not have, or that never lies in memory.
        """
        kind = tensors.kind_of(inputs)
        checked = kind.check(inputs, self._input_specs)
        layouts = kind.layouts(checked)
        outputs = kind.empty(self._core.plan(layouts).output_shapes, self._output_dtypes)
        fetched = self._core.run_and_fetch(
            layouts, kind.addresses(checked), kind.addresses(outputs), list(value_ids), default_threads()
        )
        arrays = {v: _array(dtype, shape, data) for v, (dtype, shape, data) in fetched.items()}
        return outputs, arrays

    def explain(self, *input_shapes: Sequence[int]) -> Explanation:
        """The plan for dense inputs of these shapes.

        Raises:
            InputError: Shapes that the program can't take.
        """
        layouts = tuple((tuple(shape), tensors.dense_strides(shape)) for shape in input_shapes)
        return _explanation(self.isa, self._core.plan(layouts))

    def profile(self, *inputs: Any, repeats: int = 20) -> tuple[StepRecord, ...]:
        """The plan's records with the median time of each over ``repeats`` forwards.

        All threads meet between steps, which costs under a microsecond a step and makes the sum an upper bound.
        """
        kind = tensors.kind_of(inputs)
        checked = kind.check(inputs, self._input_specs)
        plan = self._core.plan(kind.layouts(checked))
        outputs = kind.empty(plan.output_shapes, self._output_dtypes)
        addresses = kind.addresses(checked), kind.addresses(outputs)
        runs = [self._core.time_works(plan, *addresses, default_threads()) for _ in range(max(1, repeats) + 1)]
        medians = (statistics.median(times) * 1e6 for times in zip(*runs[1:], strict=True))
        records = _explanation(self.isa, plan).steps
        return tuple(replace(r, microseconds=t) for r, t in zip(records, medians, strict=True))


def _explanation(isa: str, plan: _C.Plan) -> Explanation:
    team = get_num_threads()
    steps = tuple(
        StepRecord(name, op, kernel, shape, size, cost, min(threads, team), barrier, slices, operand)
        for _, name, op, kernel, shape, size, cost, threads, barrier, slices, operand in plan.works
    )
    return Explanation(isa, steps, tuple(plan.views), MemoryRecord(**plan.memory))


def _array(dtype: str, shape: tuple[int, ...], data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype=tensors.NUMPY_DTYPES[dtype]).reshape(shape).copy()
