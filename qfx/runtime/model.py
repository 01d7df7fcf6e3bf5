"""A quantized model of a ``.qfx`` file, callable on numpy arrays; torch is not needed, nor loaded."""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from qfx.errors import InputError, shown
from qfx.runtime import _C, tensors
from qfx.runtime.threads import default_threads

_MOST_KEPT = 16
"""Layouts of inputs whose plans a model remembers."""


class ModelValue(NamedTuple):
    """An input or output of a model.

    Attributes:
        name: That of the argument of ``forward``, or of the part of its result.
        dtype: numpy's.
        shape: Sizes; those that a call chooses by name, equal ones by equal names.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int | str, ...]


class Certificate(NamedTuple):
    """What :meth:`Model.verify` finds.

    Attributes:
        hash: SHA-256 of every bit of the outputs, in hexadecimal.
        memory: Bytes of constants, inputs and outputs, and of the values between them the most that live at once, each
            in memory of its own. Packed weights and threads' own memory are not in it.
        products: Multiplications of integers.
    """

    hash: str
    memory: int
    products: int


class Model:
    """What :func:`load` returns. Calls are safe from many threads at once; each has its own working memory.

    Attributes:
        inputs: What it takes, in the order of ``forward``'s arguments: all of them that are arrays.
        outputs: What it gives.
        threads: That a call uses at most; None for what :func:`qfx.set_num_threads` says.
    """

    def __init__(self, core: _C.Model) -> None:
        self._core = core
        self.inputs, self.outputs = _values(core.inputs), _values(core.outputs)
        self.threads: int | None = None
        self._structure = int(core.structure) if core.structure.isdigit() else _json(core.structure)
        self._names = tuple(value.name for value in self.inputs)
        self._calls: dict[Any, tuple[_C.ModelCall, Any]] = {}

    @property
    def isa(self) -> str:
        """The instruction set that the kernels were chosen for."""
        return self._core.isa

    @property
    def is_packed(self) -> bool:
        """Whether the file has the weights as the kernels want them: processes that map it share their pages then."""
        return self._core.is_packed

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """What :func:`qfx.save` was given to say beside the model."""
        return dict(_json(self._core.metadata))

    @property
    def labels(self) -> list[str] | None:
        """Names of the classes, where the file says them: ``metadata["labels"]``."""
        return self.metadata.get("labels")

    @property
    def preprocessing(self) -> dict[str, Any] | None:
        """How inputs are made of images, where the file says it: ``metadata["preprocessing"]``."""
        return self.metadata.get("preprocessing")

    def __repr__(self) -> str:
        def shown_values(values: Sequence[ModelValue]) -> str:
            return ", ".join(f"{v.name}: {v.dtype}[{', '.join(map(str, v.shape))}]" for v in values)

        return f"Model({shown_values(self.inputs)} -> {shown_values(self.outputs)})"

    def __call__(self, *args: np.ndarray, **kwargs: np.ndarray) -> Any:
        """One forward.

        Args:
            args, kwargs: numpy arrays, any strides: by position as ``inputs`` has them, or by name. Floating point of
                any precision is taken as float32, integers of fewer bits as those that the model takes.

        Returns:
            What the model returns, of fresh dense numpy arrays.

        Raises:
            InputError: Wrong number, names, kind, dtype, rank or sizes of inputs, an index that a table has no row
                for, or a call that takes more than the limits that :func:`load` was given.
        """
        given = args if len(args) == len(self._names) and not kwargs else self._bound(args, kwargs)
        arrays = [_as(value, x) for value, x in zip(self.inputs, given, strict=True)]
        key = tuple([(x.shape, x.strides) for x in arrays])
        call, shapes = self._calls.get(key) or self._prepare(key, arrays)
        outputs = [np.empty(shape, value.dtype) for value, shape in zip(self.outputs, shapes, strict=True)]
        read = tensors.NUMPY.addresses(arrays, self._names)
        written = tensors.NUMPY.addresses(outputs, [value.name for value in self.outputs])
        self._core.run(call, read, written, default_threads() if self.threads is None else self.threads)
        return _built(self._structure, outputs)

    def output_shapes(self, *shapes: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """Shapes of the outputs for inputs of these shapes.

        Raises:
            InputError: Shapes that the model can't take.
        """
        if len(shapes) != len(self.inputs):
            raise InputError(f"{len(shapes)} shapes are given. {self._takes()}", remedy="Pass one an input.")
        sizes = [tuple(map(operator.index, shape)) for shape in shapes]
        for value, shape in zip(self.inputs, sizes, strict=True):
            _require_rank(value, shape)
        call = self._core.prepare(tuple((shape, tensors.dense_strides(shape)) for shape in sizes))
        return self._core.output_shapes(call)

    def verify(self) -> Certificate:
        """Run the model on inputs that are the same everywhere, of the shapes that it was captured with.

        Who has the same file finds the same hash, on every CPU, ``isa`` and number of threads.

        Raises:
            InputError: The file states another memory or other multiplications than the call has, or the call takes
                more than the limits that :func:`load` was given.
        """
        threads = default_threads() if self.threads is None else self.threads
        return Certificate(self._core.verify(threads), *self._core.cost)

    def _prepare(self, key: Any, arrays: Sequence[np.ndarray]) -> tuple[_C.ModelCall, Any]:
        call = self._core.prepare(tensors.NUMPY.layouts(arrays))
        if len(self._calls) >= _MOST_KEPT:
            self._calls = {}
        self._calls[key] = made = call, self._core.output_shapes(call)
        return made

    def _bound(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        given = dict(zip(self._names, args, strict=False))
        unknown = [name for name in kwargs if name not in self._names]
        twice = [name for name in kwargs if name in given]
        missing = [name for name in self._names if name not in given and name not in kwargs]
        if len(args) > len(self._names):
            raise InputError(f"{len(args)} inputs are given. {self._takes()}", remedy="Pass one array an input.")
        for names, what in ((unknown, "is not known"), (twice, "is given twice"), (missing, "is missing")):
            if names:
                raise InputError(f"Input {names[0]!r} {what}. {self._takes()}", remedy="Pass each of them once.")
        return [given[name] if name in given else kwargs[name] for name in self._names]

    def _takes(self) -> str:
        return f"The model takes {len(self._names)}: {', '.join(self._names) or 'none'}."


def load(file: Any, *, isa: str | None = None, max_memory: int | None = None, max_products: int | None = None) -> Model:
    """A model of a ``.qfx`` file, as :func:`qfx.save` wrote it, without torch.

    Every byte of the file is checked before it is used. Nothing is compiled; constants are used where they are mapped,
    until the weights are packed for this CPU.

    Args:
        file: A path, which is mapped while the model is loaded; bytes or another buffer; or a file that is open for
            reading in binary mode.
        isa: Load for this instruction set instead of the best one here.
        max_memory: Bytes that weights, inputs, working memory and outputs of a call may take together: as the program
            says, every value in memory of its own (:class:`Certificate`), and as they lie here, with packed weights
            and the threads' own memory.
        max_products: Multiplications of integers that a call may take.

    Raises:
        InputError: The file can't be read, is damaged, of another version, or holds a model of which torch runs a
            part; or the model is larger than ``max_memory``.
        RuntimeLoadError: What it holds makes no sense, or ``isa`` is unknown or not available on this CPU.
    """
    if isa is not None:
        from qfx.runtime.cpu import require_isa  # late, as below: a model is soon there

        require_isa(isa)
    limits = _limit("max_memory", max_memory), _limit("max_products", max_products)
    if isinstance(file, (str, os.PathLike)):
        return Model(_C.Model.open_path(os.fspath(file), isa or "", *limits))
    content = file.read() if callable(getattr(file, "read", None)) else file
    try:
        memoryview(content)
    except TypeError:
        raise InputError(
            f"{shown(file)} is no file.", remedy="Give a path, bytes, or a file that is open in binary mode."
        ) from None
    return Model(_C.Model.open_bytes(content, "The file", isa or "", *limits))


def _json(text: str) -> Any:
    import json

    return json.loads(text)


def _limit(name: str, value: Any) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63):
        raise InputError(f"{name} is {shown(value)}.", remedy="Give a number of at least 0, or None for no limit.")
    return value


def _values(described: Sequence[tuple[str, str, tuple[int | str, ...]]]) -> tuple[ModelValue, ...]:
    return tuple(ModelValue(name, tensors.NUMPY_DTYPES[dtype], shape) for name, dtype, shape in described)


def _as(value: ModelValue, given: Any) -> np.ndarray:
    """An input as the model takes it."""
    if not isinstance(given, np.ndarray):
        raise InputError(
            f"Input {value.name!r} is a {type(given).__name__}, not a numpy array.",
            remedy=f"Pass numpy.asarray(x, dtype=numpy.{value.dtype}).",
        )
    _require_rank(value, given.shape)
    if given.dtype != value.dtype:
        both_float = given.dtype.kind == value.dtype.kind == "f"
        both_whole = given.dtype.kind in "iu" and value.dtype.kind == "i" and np.can_cast(given.dtype, value.dtype)
        if not both_float and not both_whole:
            raise InputError(
                f"Input {value.name!r} has dtype {given.dtype}, and the model takes {value.dtype}.",
                remedy=f"Convert it: x.astype(numpy.{value.dtype}).",
            )
        return given.astype(value.dtype)
    return tensors.readable(given)


def _require_rank(value: ModelValue, shape: tuple[int, ...]) -> None:
    if len(shape) != len(value.shape):
        sizes = ", ".join(map(str, value.shape))
        raise InputError(
            f"Input {value.name!r} has rank {len(shape)} (shape {shape}), and the model takes rank {len(value.shape)}.",
            remedy=f"Pass an array of shape ({sizes}{',' * (len(value.shape) == 1)}).",
        )


def _built(structure: Any, outputs: Sequence[np.ndarray]) -> Any:
    """What a model returns; a structure is the number of an output, or what it is and its items."""
    if isinstance(structure, int):
        return outputs[structure]
    kind, content = structure
    if kind == "value":
        return content
    if kind == "dict":
        return {key: _built(item, outputs) for key, item in content}
    items = [_built(item, outputs) for item in content]
    return tuple(items) if kind == "tuple" else items
