"""The tensors of a model in one run of bytes: each once, aligned, and described by an index.

A tensor that the model's program holds too, in whatever order of dims, is not written again: the index says where in
the program it lies.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qfx.errors import ConversionError
from qfx.file.container import ALIGNMENT, aligned
from qfx.file.malformed import MalformedError
from qfx.ir.snapshot import bytes_of
from qfx.runtime.dtypes import DTYPES

_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32,
        torch.uint64, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128,
    )
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_SMALL_ALIGNMENT = 16
_LARGEST_DIM = 1 << 40
_MOST_DIMS = 32
_OWN = 4
"""Entries of a row of the index; one more where a constant has the content."""
_SMALLEST_SHARED = 256
"""Bytes of a tensor that is worth a look at the constants."""
_MOST_SHARED_DIMS = 5


@dataclass(frozen=True)
class Constants:
    """The constants of a program that stands in the same file.

    Attributes:
        program: The program's bytes.
        arrays: Dtype, shape, and bytes in row-major order of each, in their order in the program.
    """

    program: bytes = b""
    arrays: Sequence[tuple[str, tuple[int, ...], np.ndarray]] = ()

    @cached_property
    def places(self) -> dict[tuple[str, tuple[int, ...]], dict[bytes, int]]:
        """By dtype and shape, where each content begins."""
        found: dict[tuple[str, tuple[int, ...]], dict[bytes, int]] = {}
        end = 0
        for dtype, shape, array in self.arrays:
            content = array.tobytes()
            start = self.program.index(content, end)
            end = start + len(content)
            packed = DTYPES[dtype].bits < 8  # models hold bytes then
            found.setdefault(("u8", (len(content),)) if packed else (dtype, shape), {}).setdefault(content, start)
        return found


_NONE = Constants()
_IN_PROGRAMS = {getattr(torch, kind.torch): kind.name for kind in DTYPES.values() if kind.torch}


def dtype_name(dtype: torch.dtype) -> str:
    """The name of a dtype in the file.

    Raises:
        ConversionError: It is none of plain numbers.
    """
    if dtype not in _NAMES:
        raise ConversionError(f"{dtype} can't be stored in a .qfx file.", remedy="Use a plain dtype such as float32.")
    return _NAMES[dtype]


def dtype_named(name: Any) -> torch.dtype:
    """The dtype of a name.

    Raises:
        MalformedError: There is none.
    """
    if not isinstance(name, str) or name not in _DTYPES:
        raise MalformedError(f"There is no dtype {name!r}.")
    return _DTYPES[name]


class TensorWriter:
    """Collects tensors; one object is stored once, so what is shared is shared again after loading.

    Args:
        constants: Of a program in the same file.
    """

    def __init__(self, constants: Constants = _NONE) -> None:
        self._constants = constants
        self.index: list[list[Any]] = []
        self._numbers: dict[int, int] = {}
        self._kept: list[Tensor] = []
        self._parts: list[bytes] = []
        self._end = 0

    def add(self, tensor: Tensor, what: str) -> int:
        """The number of ``tensor`` in the index.

        Args:
            tensor: Dense, on the CPU.
            what: What errors call it.

        Raises:
            ConversionError: It is on another device, of another layout, dtype or class.
        """
        known = self._numbers.get(id(tensor))
        if known is not None:
            return known
        if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout != torch.strided or tensor.device.type != "cpu":
            raise ConversionError(
                f"{what} is {_sort(tensor)}, which can't be stored in a .qfx file.",
                remedy="Keep plain dense tensors on the CPU in the model.",
            )
        entry = [dtype_name(tensor.dtype), list(tensor.shape), isinstance(tensor, nn.Parameter), tensor.requires_grad]
        shared = _shared(tensor, self._constants)
        if shared is not None:
            return self._indexed(tensor, [*entry, shared])
        content = bytes_of(tensor)
        start = aligned(self._end, _alignment(len(content)))
        self._parts += [bytes(start - self._end), content]
        self._end = start + len(content)
        return self._indexed(tensor, entry)

    def _indexed(self, tensor: Tensor, entry: list[Any]) -> int:
        self._numbers[id(tensor)] = len(self.index)
        self.index.append(entry)
        self._kept.append(tensor)  # an id is one object's as long as it lives
        return len(self.index) - 1

    def content(self) -> bytes:
        """The bytes of every tensor so far."""
        return b"".join(self._parts)


def _shared(tensor: Tensor, constants: Constants) -> list[Any] | None:
    """Where in the program ``tensor`` lies: the offset, and which of the tensor's dims each dim there is."""
    kind, rank = _IN_PROGRAMS.get(tensor.dtype), tensor.dim()
    if kind is None or tensor.nbytes < _SMALLEST_SHARED or rank > _MOST_SHARED_DIMS:
        return None
    values = tensor.detach()
    for order in itertools.permutations(range(rank)):
        moved = values.permute(order)
        contents = constants.places.get((kind, tuple(moved.shape)))
        start = contents.get(bytes_of(moved)) if contents else None
        if start is not None:
            return [start, list(order)]
    return None


def read_tensors(
    index: Any, content: memoryview, program: memoryview | bytes = b"", *, first: bool = False
) -> list[Tensor]:
    """The tensors of an index, each over its part of ``content``, or a copy of what lies in the program.

    Args:
        index: As :attr:`TensorWriter.index`, read back; not trusted.
        content: Writable memory.
        program: The bytes of the programs in the same file.
        first: There may be more in ``content``; each tensor is over a copy then.

    Raises:
        MalformedError: The index is malformed or does not describe ``content``.
    """
    if not isinstance(index, list):
        raise MalformedError("The index of tensors is no list.")
    tensors, end = [], 0
    for entry in index:
        dtype, shape, is_parameter, requires_grad = _checked(entry)
        if len(entry) > _OWN:
            tensor = _of_program(entry[_OWN], dtype, shape, program)
        else:
            size = math.prod(shape) * dtype.itemsize
            start = aligned(end, _alignment(size))
            end = start + size
            if end > len(content):
                raise MalformedError(f"The tensors take {end} bytes or more where there are {len(content)}.")
            part = content[start:end]
            tensor = _tensor(memoryview(bytearray(part)) if first else part, dtype, shape)
        tensors.append(nn.Parameter(tensor, requires_grad) if is_parameter else tensor.requires_grad_(requires_grad))
    if end != len(content) and not first:
        raise MalformedError(f"The tensors take {end} bytes where there are {len(content)}.")
    return tensors


def _checked(entry: Any) -> tuple[torch.dtype, list[int], bool, bool]:
    if not isinstance(entry, list) or len(entry) not in (_OWN, _OWN + 1):
        raise MalformedError(f"{entry!r} describes no tensor.")
    name, shape, is_parameter, requires_grad, *_ = entry
    dtype = dtype_named(name)
    sizes = isinstance(shape, list) and all(type(size) is int and 0 <= size < _LARGEST_DIM for size in shape)
    if not sizes or len(shape) > _MOST_DIMS:
        raise MalformedError("A tensor has no sensible shape.")
    grad_allowed = dtype.is_floating_point or dtype.is_complex
    if type(is_parameter) is not bool or type(requires_grad) is not bool or (requires_grad and not grad_allowed):
        raise MalformedError(f"{entry!r} describes no tensor.")
    return dtype, shape, is_parameter, requires_grad


def _of_program(shared: Any, dtype: torch.dtype, shape: list[int], program: memoryview | bytes) -> Tensor:
    """A copy of what lies in a program, as the tensor that it is."""
    start, order = shared
    if type(start) is not int or sorted(order) != list(range(len(shape))) or dtype not in _IN_PROGRAMS:
        raise MalformedError(f"A tensor of {dtype} is said to lie at {shared!r} of the program.")
    end = start + math.prod(shape) * dtype.itemsize
    if not 0 <= start <= end <= len(program):
        raise MalformedError(f"A tensor is said to lie at {start}..{end} of the {len(program)} bytes of the program.")
    lies = _tensor(memoryview(bytearray(program[start:end])), dtype, [shape[d] for d in order])
    return lies.permute([order.index(d) for d in range(len(shape))]).contiguous()


def _tensor(content: memoryview, dtype: torch.dtype, shape: list[int]) -> Tensor:
    if not content:
        return torch.empty(shape, dtype=dtype)
    if dtype is torch.bool and int(torch.frombuffer(content, dtype=torch.uint8).max()) > 1:
        raise MalformedError("A tensor of truth values holds something else.")
    return torch.frombuffer(content, dtype=dtype).reshape(shape)


def _alignment(size: int) -> int:
    return ALIGNMENT if size >= ALIGNMENT else _SMALL_ALIGNMENT


def _sort(tensor: Tensor) -> str:
    return f"a {type(tensor).__name__} of layout {tensor.layout} on {tensor.device}"
