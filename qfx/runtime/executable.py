"""A program loaded for this CPU, callable on numpy arrays and torch tensors."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from qfx.errors import InputError, RuntimeLoadError, UnsupportedError, shown
from qfx.memory import are_plain, is_watched, require_plain
from qfx.runtime import _C, tensors
from qfx.runtime.cpu import require_isa
from qfx.runtime.prepared import Prepared
from qfx.runtime.records import Explanation, MemoryRecord, StepRecord
from qfx.runtime.threads import default_threads, get_num_threads

_MOST_REPEATS = 10**6
_MOST_KEPT = 16
"""Layouts of inputs whose checks an executable remembers."""


class Executable:
    """Runs a program. Calls are safe from many threads at once; each has its own working memory.

    Args:
        program: A validated program.
        isa: ``"scalar"``, ``"avx2"``, ``"avxvnni"``, ``"avx512vnni"``, ``"amx"``, ``"neon"``, ``"dotprod"`` or
            ``"i8mm"``; by default the best here, or what ``QFX_ISA`` names.
        release: Keep of the program's constants only what is read at run time, which the packed weights are not: one
            copy of the weights, once nobody else keeps ``program``. Runs, taps and explanations are the same.

    Attributes:
        program: The program; None if it is released.
        constant_bytes: Of the program; packed, they take about as many.
        states: Of the program: the place of each among the inputs, and among the outputs. A call takes and gives them
            like any other; a :class:`qfx.runtime.Session` keeps them.

    Raises:
        RuntimeLoadError: The ISA is unknown or not supported here, or a step has constants that no kernel takes.
    """

    def __init__(self, program: _C.Program, isa: str | None = None, *, release: bool = False) -> None:
        if not isinstance(program, _C.Program):
            raise RuntimeLoadError(
                f"A {type(program).__name__} is no program.", remedy="Pass what ProgramBuilder.build() returned."
            )
        if isa is not None and not isinstance(isa, str):
            require_isa(isa)
        self.program = None if release else program
        self.constant_bytes = program.constant_bytes
        try:
            self._core = _C.Executable(program, isa or "", release)
        except ValueError as error:
            if isinstance(error, RuntimeLoadError):
                raise
            names = ", ".join(_C.isa_names())
            raise RuntimeLoadError(
                "The program can't be loaded.", why=str(error), remedy=f"Supported here: {names}."
            ) from error
        self._input_specs = tuple(tensors.TensorSpec(*spec) for spec in program.input_specs)
        self._output_specs = tuple(tensors.TensorSpec(*spec) for spec in program.output_specs)
        self._input_names = tuple(f"Input '{spec.name}'" for spec in self._input_specs)
        self._output_dtypes = tuple(spec.dtype for spec in self._output_specs)
        self._output_names = tuple(f"Output '{spec.name}'" for spec in self._output_specs)
        self.states = tuple((program.inputs.index(x), program.outputs.index(y)) for x, y, _ in program.states)
        self._prepared: dict[Any, Prepared] = {}

    @property
    def core(self) -> _C.Executable:
        """The loaded program, for what runs it by addresses."""
        return self._core

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
            InputError: Wrong number, kind, dtype, rank or device of inputs, less memory than their sizes need, or
                shapes that a step can't take.
            UnsupportedError: torch is recording or transforming what it computes, and would not see the call.
        """
        kind = tensors.kind_of(inputs)
        if kind is tensors.NUMPY:
            return self._run(kind, kind.check(inputs, self._input_specs))
        refuse_if_watched()
        return self.run(*(inputs if are_plain(inputs) else plain_inputs(kind, inputs, self._input_specs)))

    def run(self, *inputs: Any) -> tuple[Any, ...]:
        """As a call, for callers who know that nobody watches torch, and that tensors are plain (`qfx.memory`)."""
        return tuple(self.prepare(inputs).run(inputs)) if inputs else self(*inputs)

    def prepare(self, inputs: Sequence[Any]) -> Prepared:
        """Check plain torch tensors; what that found holds for all plain tensors of these dtypes, sizes and strides.

        Raises:
            InputError: As a call.
        """
        key = tuple([(x.dtype, x.shape, x.stride()) for x in inputs])
        prepared = self._prepared.get(key)
        if prepared is None:
            kind = tensors.torch_kind()
            checked = kind.check(inputs, self._input_specs)
            inputs_named = zip(checked, self._input_names, strict=True)
            outputs_named = zip(self._output_dtypes, self._output_names, strict=True)
            prepared = Prepared(self._core, kind, inputs_named, outputs_named)
            if len(self._prepared) >= _MOST_KEPT:
                self._prepared.clear()
            self._prepared[key] = prepared
        return prepared

    def _run(self, kind: tensors.TensorKind, inputs: Sequence[Any]) -> tuple[Any, ...]:
        plan = self._core.plan(kind.layouts(inputs))
        outputs = kind.empty(plan.output_shapes, self._output_dtypes)
        self._core.run(plan, *self._addresses(kind, inputs, outputs), default_threads())
        return outputs

    def output_shapes(self, *input_shapes: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """Shapes of the outputs for inputs of these shapes.

        Raises:
            InputError: Shapes that the program can't take.
        """
        return tuple(self._plan(input_shapes).output_shapes)

    @property
    def input_specs(self) -> tuple[tensors.TensorSpec, ...]:
        """Name, dtype and physical shape of each input, -1 for any extent."""
        return self._input_specs

    @property
    def output_specs(self) -> tuple[tensors.TensorSpec, ...]:
        """Likewise of each output."""
        return self._output_specs

    @property
    def output_dtypes(self) -> tuple[str, ...]:
        """The runtime's name of each output's dtype, ``"u8"`` or ``"f32"`` of those that quantize_fx writes."""
        return self._output_dtypes

    def _addresses(
        self, kind: tensors.TensorKind, inputs: Sequence[Any], outputs: Sequence[Any]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return kind.addresses(inputs, self._input_names), kind.addresses(outputs, self._output_names)

    def _plan(self, input_shapes: Sequence[Sequence[int]]) -> _C.Plan:
        if len(input_shapes) != len(self._input_specs):
            names = ", ".join(spec.name for spec in self._input_specs)
            raise InputError(
                f"The program takes {len(self._input_specs)} inputs ({names}), not {len(input_shapes)}.",
                remedy="Pass one shape an input, in this order.",
            )
        return self._core.plan(tuple((shape, tensors.dense_strides(shape)) for shape in map(_ints, input_shapes)))

    def run_and_fetch(
        self, inputs: Sequence[Any], value_ids: Sequence[int]
    ) -> tuple[tuple[Any, ...], dict[int, np.ndarray]]:
        """One forward in which no buffer is reused, and copies of the values ``value_ids`` (physical layout).

        Raises:
            InputError: As a call; or a value that the program does not have, or that never lies in memory.
        """
        kind = tensors.kind_of(inputs)
        checked = plain_inputs(kind, inputs, self._input_specs)
        layouts = kind.layouts(checked)
        outputs = kind.empty(self._core.plan(layouts).output_shapes, self._output_dtypes)
        fetched = self._core.run_and_fetch(
            layouts, *self._addresses(kind, checked, outputs), list(value_ids), default_threads()
        )
        arrays = {v: fetched_array(dtype, shape, data) for v, (dtype, shape, data) in fetched.items()}
        return outputs, arrays

    def explain(self, *input_shapes: Sequence[int]) -> Explanation:
        """The plan for dense inputs of these shapes.

        Raises:
            InputError: Shapes that the program can't take.
        """
        return _explanation(self.isa, self._plan(input_shapes))

    def profile(self, *inputs: Any, repeats: int = 20) -> tuple[StepRecord, ...]:
        """The plan's records with the median time of each over ``repeats`` forwards.

        All threads meet between steps, which costs under a microsecond a step and makes the sum an upper bound.
        """
        if not isinstance(repeats, int) or isinstance(repeats, bool) or not 1 <= repeats <= _MOST_REPEATS:
            raise InputError(f"repeats is {shown(repeats)}.", remedy=f"Give an int from 1 to {_MOST_REPEATS}.")
        kind = tensors.kind_of(inputs)
        checked = plain_inputs(kind, inputs, self._input_specs)
        plan = self._core.plan(kind.layouts(checked))
        outputs = kind.empty(plan.output_shapes, self._output_dtypes)
        addresses = self._addresses(kind, checked, outputs)
        runs = [self._core.time_works(plan, *addresses, default_threads()) for _ in range(repeats + 1)]
        medians = (statistics.median(times) * 1e6 for times in zip(*runs[1:], strict=True))
        records = _explanation(self.isa, plan).steps
        return tuple(replace(r, microseconds=t) for r, t in zip(records, medians, strict=True))


def refuse_if_watched() -> None:
    """Raises UnsupportedError where torch would not see what a program does."""
    if is_watched():
        raise UnsupportedError(
            "A program is called while torch records or transforms what it computes.",
            why="A program reads memory, which tracers, modes and functional transforms do not see.",
            remedy="Call it outside; a quantized model, which is known to torch as an operator, can be recorded.",
        )


def plain_inputs(
    kind: tensors.TensorKind, inputs: Sequence[Any], specs: Sequence[tensors.TensorSpec]
) -> tuple[Any, ...]:
    """The inputs, checked, their memory their own."""
    checked = kind.check(inputs, specs)
    if kind is not tensors.NUMPY:
        for x, spec in zip(checked, specs, strict=True):
            require_plain(x, f"Input '{spec.name}'")
    return checked


def _explanation(isa: str, plan: _C.Plan) -> Explanation:
    team = get_num_threads()
    steps = tuple(
        StepRecord(name, op, kernel, kernels, shape, size, cost, macs, min(threads, team), barrier, slices, operand)
        for _, name, op, kernel, kernels, shape, size, cost, macs, threads, barrier, slices, operand in plan.works
    )
    return Explanation(isa, steps, tuple(plan.views), MemoryRecord(**plan.memory))


def _ints(shape: Any) -> tuple[int, ...]:
    try:
        return tuple(map(operator.index, shape))
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise InputError(f"{shown(shape)} is not a shape.", remedy="Pass one sequence of ints an input.") from error


def fetched_array(dtype: str, shape: tuple[int, ...], data: bytes) -> np.ndarray:
    """A value that the runtime copied out."""
    return np.frombuffer(data, dtype=tensors.NUMPY_DTYPES[dtype]).reshape(shape).copy()
