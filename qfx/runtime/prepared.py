"""Calls with torch tensors like those of an earlier call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

from qfx.memory import address_over, reach
from qfx.runtime import _C
from qfx.runtime.tensors import TorchKind, dense_strides
from qfx.runtime.threads import default_threads


class Prepared:
    """What a program does with plain torch tensors of some dtypes, sizes and strides.

    Args:
        core: The program, loaded.
        kind: How to make torch tensors.
        inputs: Checked ones, each with what errors call it.
        outputs: Dtype of each, and what errors call it.

    Raises:
        InputError: Sizes that the program can't take.
    """

    __slots__ = ("_core", "_empty", "_inputs", "_outputs", "_plan")

    def __init__(
        self,
        core: _C.Executable,
        kind: TorchKind,
        inputs: Iterable[tuple[Any, str]],
        outputs: Iterable[tuple[str, str]],
    ) -> None:
        self._core, self._empty = core, kind.empty_strided
        given = list(inputs)
        self._plan = core.plan(kind.layouts([x for x, _ in given]))
        self._inputs = [(reach(x), name) for x, name in given]
        shapes = (tuple(shape) for shape in self._plan.output_shapes)
        self._outputs = [
            (shape, dense_strides(shape), kind.dtypes[dtype], prod(shape), name)
            for shape, (dtype, name) in zip(shapes, outputs, strict=True)
        ]

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        """One forward of plain tensors of these dtypes, sizes and strides.

        Raises:
            InputError: The storage of one is too small.
        """
        made, given, written = [], [], []
        for x, (elements, name) in zip(inputs, self._inputs, strict=True):
            given.append(address_over(x, elements, name))
        for shape, strides, dtype, elements, name in self._outputs:
            y = self._empty(shape, strides, dtype=dtype, device="cpu")
            made.append(y)
            written.append(address_over(y, elements, name))
        self._core.run(self._plan, tuple(given), tuple(written), default_threads())
        return made
