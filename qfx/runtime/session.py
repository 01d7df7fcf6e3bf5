"""Runs of a program that follow each other and keep values between them."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qfx.errors import InputError, shown
from qfx.runtime import _C, tensors
from qfx.runtime.executable import Executable, fetched_array, plain_inputs, refuse_if_watched
from qfx.runtime.threads import default_threads


class Session:
    """Runs of an executable in memory of its own, which keeps states: what a run gives as an output, the next takes.

    A state may grow from run to run, like the keys and values of a decoder. Calls from several threads wait for each
    other; each thread may have a session of the same executable.

    Args:
        executable: What runs.
        states: The name of a program output, by the name of the input that the next run takes it as.

    Raises:
        InputError: The program has no such input or output, or the two differ in type or number of dimensions.
    """

    def __init__(self, executable: Executable, states: Mapping[str, str]) -> None:
        ins, outs = executable.input_specs, executable.output_specs
        pairs = [(_index(ins, x, "input"), _index(outs, y, "output")) for x, y in states.items()]
        self.executable = executable
        self._core = _C.Session(executable.core, pairs)
        self._lock = threading.Lock()
        self._states = {ins[x].name: (s, ins[x]) for s, (x, _) in enumerate(pairs)}
        self._inputs = tuple(spec for i, spec in enumerate(ins) if i not in {x for x, _ in pairs})
        self._outputs = [o for o in range(len(outs)) if o not in {y for _, y in pairs}]

    def set(self, **values: Any) -> None:
        """Give states their values, numpy arrays, which are copied; every state needs one before the first run.

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


def _index(specs: Sequence[tensors.TensorSpec], name: str, what: str) -> int:
    for i, spec in enumerate(specs):
        if spec.name == name:
            return i
    known = ", ".join(spec.name for spec in specs)
    raise InputError(f"The program has no {what} {shown(name)}.", remedy=f"Its {what}s: {known}.")
