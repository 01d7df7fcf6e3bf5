"""numpy arrays and torch tensors as addresses, shapes and strides."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple, NoReturn, Protocol

import numpy as np

from qfx.errors import InputError
from qfx.memory import array_address, plain_address
from qfx.runtime.dtypes import DTYPES

Layouts = tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
NUMPY_DTYPES = {row.name: np.dtype(row.numpy) for row in DTYPES.values() if row.numpy}


class TensorSpec(NamedTuple):
    """A program input: name, dtype (a key of :data:`DTYPES`), physical shape with -1 for any."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class TensorKind(Protocol):
    """How to look into one library's tensors."""

    def check(self, inputs: Sequence[Any], specs: Sequence[TensorSpec]) -> tuple[Any, ...]:
        """The inputs, ready to be read at their addresses; raises InputError naming the first that does not fit."""

    def layouts(self, inputs: Sequence[Any]) -> Layouts:
        """(shape, strides in elements) of each."""

    def addresses(self, given: Sequence[Any], names: Sequence[str]) -> tuple[int, ...]:
        """The address of each one's first element; raises InputError naming the first with too little memory."""

    def empty(self, shapes: Sequence[tuple[int, ...]], dtypes: Sequence[str]) -> tuple[Any, ...]:
        """Fresh dense tensors."""


class NumpyKind:
    def check(self, inputs: Sequence[Any], specs: Sequence[TensorSpec]) -> tuple[np.ndarray, ...]:
        _check_count(inputs, specs)
        for x, spec in zip(inputs, specs, strict=True):
            if not isinstance(x, np.ndarray):
                _reject(spec, f"is a {type(x).__name__}, the first input a numpy array")
            if x.dtype != _numpy_dtype(spec):
                _reject(spec, f"has dtype {x.dtype}, not {NUMPY_DTYPES[spec.dtype]}", "Convert it first.")
            _check_shape(x.shape, spec)
        return tuple(readable(x) for x in inputs)

    def layouts(self, inputs: Sequence[np.ndarray]) -> Layouts:
        return tuple((x.shape, tuple(s // x.itemsize for s in x.strides)) for x in inputs)

    def addresses(self, given: Sequence[np.ndarray], names: Sequence[str]) -> tuple[int, ...]:
        return tuple([array_address(x, name) for x, name in zip(given, names, strict=True)])

    def empty(self, shapes: Sequence[tuple[int, ...]], dtypes: Sequence[str]) -> tuple[np.ndarray, ...]:
        return tuple(np.empty(s, NUMPY_DTYPES[d]) for s, d in zip(shapes, dtypes, strict=True))


class TorchKind:
    def __init__(self, torch: ModuleType) -> None:
        self.empty_strided = torch.empty_strided
        self._empty, self._cpu = torch.empty, torch.device("cpu")
        self.dtypes = {row.name: getattr(torch, row.torch) for row in DTYPES.values() if row.torch}
        self._tensor = torch.Tensor
        self._strided = torch.strided

    def check(self, inputs: Sequence[Any], specs: Sequence[TensorSpec]) -> tuple[Any, ...]:
        _check_count(inputs, specs)
        for x, spec in zip(inputs, specs, strict=True):
            if not isinstance(x, self._tensor):
                _reject(spec, f"is a {type(x).__name__}, the first input a torch tensor")
            if x.dtype is not self.dtypes[spec.dtype]:
                _reject(spec, f"has dtype {x.dtype}, not {self.dtypes[spec.dtype]}", "Convert it first: x.to(dtype).")
            if not x.is_cpu:
                _reject(spec, f"is on {x.device}; the runtime runs on the CPU", remedy="Call it with x.cpu().")
            if x.layout is not self._strided:
                _reject(spec, f"has layout {x.layout}", remedy="Call it with x.to_dense().")
            if x.is_nested:
                _reject(spec, "is a nested tensor", remedy="Call it with a padded one.")
            _check_shape(x.shape, spec)
        return tuple([x.resolve_neg() if x.is_neg() else x for x in inputs])

    def layouts(self, inputs: Sequence[Any]) -> Layouts:
        return tuple((x.shape, x.stride()) for x in inputs)

    def addresses(self, given: Sequence[Any], names: Sequence[str]) -> tuple[int, ...]:
        return tuple([plain_address(x, name) for x, name in zip(given, names, strict=True)])

    def empty(self, shapes: Sequence[tuple[int, ...]], dtypes: Sequence[str]) -> tuple[Any, ...]:
        made = (self._empty(s, dtype=self.dtypes[d], device=self._cpu) for s, d in zip(shapes, dtypes, strict=True))
        return tuple(made)


NUMPY = NumpyKind()
_torch: list[TorchKind] = []


def kind_of(inputs: Sequence[Any]) -> TensorKind:
    """numpy's or torch's view, by the first input; without inputs, numpy's."""
    if not inputs or isinstance(inputs[0], np.ndarray):
        return NUMPY
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(inputs[0], torch.Tensor):
        raise InputError(
            f"An input is a {type(inputs[0]).__name__}.", remedy="Call the program with numpy arrays or torch tensors."
        )
    return torch_kind()


def torch_kind() -> TorchKind:
    """torch's view, where torch is loaded."""
    if not _torch:
        _torch.append(TorchKind(sys.modules["torch"]))
    return _torch[0]


def dense_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Row-major strides in elements."""
    strides = [1] * len(shape)
    for i in range(len(shape) - 2, -1, -1):
        strides[i] = strides[i + 1] * max(shape[i + 1], 1)
    return tuple(strides)


def _numpy_dtype(spec: TensorSpec) -> np.dtype[Any]:
    if spec.dtype not in NUMPY_DTYPES:
        _reject(spec, f"is {spec.dtype}, which numpy does not have", "Call the program with torch tensors.")
    return NUMPY_DTYPES[spec.dtype]


def readable(x: np.ndarray) -> np.ndarray:
    """``x``, or a copy that elements can be read from in units of their own."""
    aligned = x.flags.aligned and all(s % x.itemsize == 0 for s in x.strides) and x.dtype.isnative
    return x if aligned else np.ascontiguousarray(x, dtype=x.dtype.newbyteorder("="))


def _check_count(inputs: Sequence[Any], specs: Sequence[TensorSpec]) -> None:
    if len(inputs) != len(specs):
        names = ", ".join(spec.name for spec in specs)
        raise InputError(
            f"The program takes {len(specs)} inputs ({names}), not {len(inputs)}.",
            remedy="Pass one array or tensor an input, in this order.",
        )


def _check_shape(shape: Sequence[int], spec: TensorSpec) -> None:
    if len(shape) != len(spec.shape):
        _reject(spec, f"has {len(shape)} dimensions, not {len(spec.shape)}", "Reshape it to that rank.")


def _reject(spec: TensorSpec, what: str, remedy: str | None = None) -> NoReturn:
    raise InputError(f"Input '{spec.name}' {what}.", where=spec.name, remedy=remedy)
