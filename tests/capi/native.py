"""qfx.h for ctypes: its structs, and its functions on numpy arrays."""

from __future__ import annotations

import ctypes as c
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import qfx

OK, ARGUMENT, FILE, PROGRAM, INPUT, LIMIT, MEMORY, INTERNAL = range(8)
DTYPES = {
    np.dtype("u1"): 0,
    np.dtype("i1"): 1,
    np.dtype("i4"): 2,
    np.dtype("f4"): 3,
    np.dtype("i8"): 8,
    np.dtype("?"): 9,
}
NUMPY = {number: dtype for dtype, number in DTYPES.items()}


class Saved(NamedTuple):
    """A file of a model, and inputs that it takes."""

    path: Path
    inputs: tuple[np.ndarray, ...]

    def expected(self) -> list[np.ndarray]:
        """What Python's model gives, in the order of its outputs."""
        result = qfx.runtime.load(self.path)(*self.inputs)
        return list(result.values()) if isinstance(result, dict) else [result]


class Options(c.Structure):
    _fields_ = (
        ("size", c.c_size_t),
        ("isa", c.c_char_p),
        ("max_memory", c.c_uint64),
        ("max_products", c.c_uint64),
        ("threads", c.c_int32),
    )


class Value(c.Structure):
    _fields_ = (
        ("name", c.c_char_p),
        ("dtype", c.c_int),
        ("rank", c.c_int32),
        ("sizes", c.POINTER(c.c_int64)),
        ("size_names", c.POINTER(c.c_char_p)),
    )


class Tensor(c.Structure):
    _fields_ = (
        ("data", c.c_void_p),
        ("dtype", c.c_int),
        ("rank", c.c_int32),
        ("sizes", c.POINTER(c.c_int64)),
        ("strides", c.POINTER(c.c_int64)),
    )


class Buffer(c.Structure):
    _fields_ = (("data", c.c_void_p), ("bytes", c.c_size_t))


class Failed(Exception):
    """A status that is not QFX_OK, and the text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status, self.text = status, text


def ints(values: Sequence[int]) -> Any:
    return (c.c_int64 * max(len(values), 1))(*values)


def tensor(x: np.ndarray, **changes: Any) -> Tensor:
    """A view of an array, whose memory the caller keeps; ``changes``: other fields than its own."""
    strides = ints([s // x.itemsize for s in x.strides])
    made = Tensor(x.ctypes.data, DTYPES[x.dtype], x.ndim, ints(x.shape), strides)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


class Library:
    """The functions; those that give a status raise `Failed`."""

    def __init__(self, path: Path) -> None:
        self.c = c.CDLL(str(path))
        for name in ("error", "version_text", "isa", "metadata", "structure", "dtype_name"):
            self.function(name).restype = c.c_char_p
        for name in ("input_count", "output_count", "dtype_size"):
            self.function(name).restype = c.c_size_t
        for name, kind in (("input", Value), ("output", Value), ("result", Tensor)):
            self.function(name).restype = c.POINTER(kind)
            self.function(name).argtypes = [c.c_void_p, c.c_size_t]
        for name in ("close", "results_free", "isa", "metadata", "structure", "input_count", "output_count", "threads"):
            self.function(name).argtypes = [c.c_void_p]

    def function(self, name: str) -> Any:
        return getattr(self.c, f"qfx_{name}")

    def text(self, name: str, *args: Any) -> str:
        found: bytes = self.function(name)(*args)
        return found.decode()

    def call(self, name: str, *args: Any) -> None:
        status = self.function(name)(*args)
        if status != OK:
            raise Failed(status, self.text("error"))

    def open(self, file: Path | bytes, **options: Any) -> c.c_void_p:
        """A model of a path or of bytes, which the caller keeps."""
        model = c.c_void_p(1)
        chosen = c.byref(Options(**{"size": c.sizeof(Options), **options})) if options else None
        try:
            if isinstance(file, bytes):
                self.call("open_memory", file, c.c_size_t(len(file)), chosen, c.byref(model))
            else:
                self.call("open", str(file).encode(), chosen, c.byref(model))
        except Failed:
            assert model.value is None
            raise
        return model

    def values(self, model: c.c_void_p, kind: str) -> list[tuple[str, np.dtype, tuple[int | str, ...]]]:
        """Name, dtype and sizes of all inputs or outputs."""
        found = []
        for i in range(self.function(f"{kind}_count")(model)):
            v = self.function(kind)(model, i).contents
            sizes = [v.size_names[d].decode() if v.sizes[d] < 0 else v.sizes[d] for d in range(v.rank)]
            found.append((v.name.decode(), NUMPY[v.dtype], tuple(sizes)))
        return found

    def run(self, model: c.c_void_p, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs that the library allocates."""
        results = c.c_void_p(1)
        inputs = (Tensor * max(len(arrays), 1))(*map(tensor, arrays))
        self.call("run_new", model, inputs, c.c_size_t(len(arrays)), c.byref(results))
        found = []
        for i in range(self.function("output_count")(model)):
            t = self.function("result")(results, i).contents
            shape = tuple(t.sizes[: t.rank])
            memory = (c.c_char * (int(np.prod(shape)) * NUMPY[t.dtype].itemsize)).from_address(t.data)
            found.append(np.frombuffer(memory, NUMPY[t.dtype]).reshape(shape).copy())
        assert not self.function("result")(results, len(found))
        self.function("results_free")(results)
        return found
