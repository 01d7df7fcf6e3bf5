"""Runs of a program that follow each other and keep values between them."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from qfx.errors import InputError, shown
from qfx.runtime import _C, tensors
from qfx.runtime.executable import Executable, fetched_array, plain_inputs, refuse_if_watched
from qfx.runtime.threads import default_threads


class Session:
    """Runs of a program in memory of its own, which keeps its states: what a run gives as one, the next takes.

    A state may grow from run to run, like the keys and values of a decoder. It begins as the constant that the program
    names, if it names one. Calls from several threads wait for each other; each thread may have a session of the same
    executable.

    Args:
        program: What runs: an executable, or a program, which is loaded for the best instruction set here.

    Raises:
        RuntimeLoadError: As :class:`Executable`.
    """

    def __init__(self, program: Executable | _C.Program) -> None:
        self.executable = executable = program if isinstance(program, Executable) else Executable(program)
        self._core = _C.Session(executable.core)
        self._lock = threading.Lock()
        ins, taken = executable.input_specs, {x for x, _ in executable.states}
        made = {y for _, y in executable.states}
        self._states = {ins[x].name: (s, ins[x]) for s, (x, _) in enumerate(executable.states)}
        self._inputs = tuple(spec for i, spec in enumerate(ins) if i not in taken)
        self._outputs = [o for o in range(len(executable.output_specs)) if o not in made]

    def set(self, **values: Any) -> None:
        """Give states their values, numpy arrays, which are copied. A state without a constant needs one first.

        Raises:
            InputError: There is no such state, or a value does not fit it.
        """
        for name, value in values.items():
            state, spec = self._state(name)
            array = np.ascontiguousarray(tensors.NUMPY.check([value], [spec])[0])
            (address,) = tensors.NUMPY.addresses([array], [f"State '{name}'"])
            with self._lock:
                self._core.set(state, array.shape, address)

    def get(self, name: str) -> np.ndarray:
        """A copy of a state.

        Raises:
            InputError: There is no such state, or it has no value yet.
        """
        state, _ = self._state(name)
        with self._lock:
            return fetched_array(*self._core.get(state))

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        """The next run.

        Args:
            inputs: As those of an executable, without states.

        Returns:
            The outputs that are no states: fresh dense tensors of the same kind.

        Raises:
            InputError: As an executable, or a state has no value yet; states are as they were then.
            UnsupportedError: As an executable.
        """
        kind = tensors.kind_of(inputs)
        if kind is not tensors.NUMPY:
            refuse_if_watched()
        checked = plain_inputs(kind, inputs, self._inputs)
        specs = self.executable.output_specs
        with self._lock:
            plan = self._core.plan(kind.layouts(checked))
            shapes = [plan.output_shapes[o] for o in self._outputs]
            outputs = kind.empty(shapes, [specs[o].dtype for o in self._outputs])
            read = kind.addresses(checked, [f"Input '{spec.name}'" for spec in self._inputs])
            written = kind.addresses(outputs, [f"Output '{specs[o].name}'" for o in self._outputs])
            self._core.run(plan, read, written, default_threads())
        return outputs

    def _state(self, name: str) -> tuple[int, tensors.TensorSpec]:
        if name not in self._states:
            known = ", ".join(self._states) or "it has none"
            raise InputError(f"There is no state {shown(name)}.", remedy=f"The session's states: {known}.")
        return self._states[name]
