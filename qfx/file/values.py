"""The closed set of values that a file holds, as JSON: scalars and lists as they are, others with their kind.

``{"tuple": [1, 2]}`` is a tuple; a kind is a row of :data:`PLAIN`, or, where a graph is, of
:data:`qfx.file.kinds.KINDS`. Nothing else can be written, nor read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from types import EllipsisType
from typing import Any, NoReturn

import torch
from torch import Tensor, fx

from qfx.errors import ConversionError
from qfx.file.malformed import MalformedError
from qfx.file.tensors import TensorWriter, dtype_name, dtype_named
from qfx.guards import Guard, is_sound
from qfx.ir.nodes import Decision
from qfx.ir.types import QDType, QParams, QScheme

_DEEPEST = 40
"""How deep values may lie in each other."""


@dataclass
class Writer:
    """What values refer to while a file is written.

    Attributes:
        tensors: Takes the tensors.
        nodes: Numbers of the nodes so far, by node.
        what: What errors call the value at hand.
        path: Dotted path of the module at hand.
        kinds: What it can write; the first one that fits is a value's.
    """

    tensors: TensorWriter
    kinds: Sequence[Kind]
    nodes: dict[fx.Node, int] = field(default_factory=dict)
    what: str = "The model"
    path: str = ""

    def encode(self, value: Any) -> Any:
        """``value`` as JSON.

        Raises:
            ConversionError: It is of no kind that a file holds.
        """
        if value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value)):
            return value
        if isinstance(value, list):  # fx's immutable ones too
            return [self.encode(item) for item in value]
        kind = next((kind for kind in self.kinds if kind.is_one(value)), None)
        if kind is None:
            self.refuse(f"a {type(value).__module__}.{type(value).__qualname__}")
        return {kind.name: kind.write(self, value)}

    def refuse(self, sort: str) -> NoReturn:
        """Raise for a value of a sort that no file holds."""
        raise ConversionError(
            f"{self.what} holds {sort}, which can't be stored in a .qfx file.",
            why="A file holds tensors and plain values; it brings no code.",
            remedy="Replace it by plain values and tensors, or torch.save(model, path) the whole model, and load that "
            "only where you trust the file.",
        )


@dataclass
class Reader:
    """What values refer to while a file is read.

    Attributes:
        tensors: The tensors by number.
        kinds: What it can read.
        nodes: The nodes so far by number.
        path: Dotted path of the module at hand.
    """

    tensors: Sequence[Tensor]
    kinds: Sequence[Kind]
    nodes: list[fx.Node] = field(default_factory=list)
    path: str = ""
    _depth: int = 0

    def decode(self, value: Any) -> Any:
        """The value of its JSON.

        Raises:
            MalformedError: It is malformed.
        """
        if not isinstance(value, (list, dict)):
            return value
        if self._depth >= _DEEPEST:
            raise MalformedError("Its values lie too deep in each other.")
        self._depth += 1
        try:
            if isinstance(value, list):
                return [self.decode(item) for item in value]
            ((name, content),) = value.items() if len(value) == 1 else ((None, None),)
            if name not in self._by_name:
                raise MalformedError(f"There are no values of the kind {name!r}.")
            return self._by_name[name].read(self, content)
        finally:
            self._depth -= 1

    @cached_property
    def _by_name(self) -> dict[str | None, Kind]:
        return {kind.name: kind for kind in self.kinds}

    def items(self, value: Any) -> list[Any]:
        """The values of a list."""
        if not isinstance(value, list):
            raise MalformedError("A list is something else.")
        return [self.decode(item) for item in value]

    def tensor(self, number: Any) -> Tensor:
        """The tensor of a number."""
        return _at(self.tensors, number, "tensor")

    def node(self, number: Any) -> fx.Node:
        """The node of a number, which came before."""
        return _at(self.nodes, number, "node")


def _at(items: Sequence[Any], number: Any, what: str) -> Any:
    if type(number) is not int or not 0 <= number < len(items):
        raise MalformedError(f"There is no {what} {number!r}.")
    return items[number]


def text(value: Any) -> str:
    """``value``, which is a string.

    Raises:
        MalformedError: It is none.
    """
    if not isinstance(value, str):
        raise MalformedError(f"{value!r} stands where a text belongs.")
    return value


@dataclass(frozen=True)
class Kind:
    """A kind of values.

    Attributes:
        name: Its name in the file.
        is_one: Whether a value is of the kind.
        write: A value's content as JSON.
        read: The value of its content, which is not trusted.
    """

    name: str
    is_one: Callable[[Any], bool]
    write: Callable[[Writer, Any], Any]
    read: Callable[[Reader, Any], Any]


def _of(*types: type) -> Callable[[Any], bool]:
    return lambda value: type(value) in types


def _instance(*types: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, types)


# ---------------------------------------------------------------- containers


def _write_items(writer: Writer, value: Iterable[Any]) -> list[Any]:
    return [writer.encode(item) for item in value]


def _write_set(writer: Writer, value: Any) -> list[Any]:
    if not all(isinstance(item, (str, int)) for item in value):
        writer.refuse("a set of something else than texts and numbers")
    return sorted(value, key=lambda item: (str(type(item)), item))


def _write_dict(writer: Writer, value: Mapping[Any, Any]) -> list[Any]:
    if not all(isinstance(key, (str, int)) for key in value):
        writer.refuse("a dict with keys that are no texts or numbers")
    return [[writer.encode(key), writer.encode(item)] for key, item in value.items()]


def _read_dict(reader: Reader, content: Any) -> dict[Any, Any]:
    pairs = reader.items(content)
    if not all(isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], (str, int)) for pair in pairs):
        raise MalformedError("A dict has keys that are no texts or numbers.")
    return dict(pairs)


def _is_dict(value: Any) -> bool:
    return type(value) is dict or isinstance(value, fx.immutable_collections.immutable_dict) or _is_ordered(value)


def _is_ordered(value: Any) -> bool:
    return (type(value).__module__, type(value).__name__) == ("collections", "OrderedDict")


def _write_slice(writer: Writer, value: slice) -> list[Any]:
    return [writer.encode(bound) for bound in (value.start, value.stop, value.step)]


def _read_slice(reader: Reader, content: Any) -> slice:
    start, stop, step = reader.items(content)
    return slice(start, stop, step)


# ---------------------------------------------------------------- numbers and names of torch

_NOT_FINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def _read_complex(_: Reader, content: Any) -> complex:
    real, imaginary = content
    return complex(float(real), float(imaginary))


def _read_device(_: Reader, content: Any) -> torch.device:
    if content != "cpu":
        raise MalformedError(f"There is no device {content!r} for a quantized model.")
    return torch.device(content)


_LAYOUTS = {str(torch.strided): torch.strided}
_MEMORY_FORMATS = {
    str(value): value
    for value in (torch.contiguous_format, torch.channels_last, torch.channels_last_3d, torch.preserve_format)
}


def _read_size(reader: Reader, content: Any) -> torch.Size:
    sizes = reader.items(content)
    if not all(type(size) is int for size in sizes):
        raise MalformedError("A size holds something else than numbers.")
    return torch.Size(sizes)


# ---------------------------------------------------------------- records


def _positive(value: Any) -> bool:
    return isinstance(value, float) and 0.0 < value < math.inf


def _qparams(made: QParams) -> bool:
    scales = made.scale if isinstance(made.scale, tuple) else (made.scale,)
    zeros = made.zero_point if isinstance(made.zero_point, tuple) else (made.zero_point,)
    ranges = (made.quant_min, made.quant_max, made.axis)
    return (
        isinstance(made.dtype, QDType)
        and isinstance(made.scale, tuple) == isinstance(made.zero_point, tuple)
        and len(scales) == len(zeros)
        and all(map(_positive, scales))
        and all(type(bound) in (int, type(None)) for bound in ranges)
        and all(type(zero) is int and made.qmin <= zero <= made.qmax for zero in zeros)
    )


def _decision(made: Decision) -> bool:
    return made.kind in ("int8", "dynamic", "weight_only", "float") and isinstance(made.reason, str)


_OLDER_KINDS = {"float16": "weight_only"}
"""Kinds of decisions that older files name, and what they are called now."""

_RECORDS: dict[str, tuple[type, Callable[[Any], bool]]] = {
    "Decision": (Decision, _decision),
    "QParams": (QParams, _qparams),
    "Guard": (Guard, is_sound),
}
"""The dataclasses that a file holds, each with what is true of any."""


def _write_record(writer: Writer, value: Any) -> list[Any]:
    return [type(value).__name__, *(writer.encode(getattr(value, item.name)) for item in fields(value))]


def _read_record(reader: Reader, content: Any) -> Any:
    name, *values = reader.items(content)
    if name not in _RECORDS or len(values) != len(fields(_RECORDS[name][0])):
        raise MalformedError(f"There is no record {name!r} of {len(values)} values.")
    cls, holds = _RECORDS[name]
    if cls is Decision:
        values[0] = _OLDER_KINDS.get(values[0], values[0])
    made = cls(*values)
    if not holds(made):
        raise MalformedError(f"{made!r} contradicts itself.")
    return made


def _enum_kind(cls: type[QDType] | type[QScheme]) -> Kind:
    return Kind(cls.__name__, _of(cls), lambda _, value: value.name, lambda _, content: cls.parse(text(content)))


PLAIN: tuple[Kind, ...] = (
    Kind("node", _instance(fx.Node), lambda w, v: w.nodes[v], lambda r, c: r.node(c)),
    Kind("size", _of(torch.Size), _write_items, _read_size),
    Kind("tuple", _of(tuple), _write_items, lambda r, c: tuple(r.items(c))),
    Kind("dict", _is_dict, _write_dict, _read_dict),
    Kind("set", _of(set, frozenset), _write_set, lambda r, c: set(r.items(c))),
    Kind("float", _of(float), lambda _, v: str(v), lambda _, c: _NOT_FINITE[c]),
    Kind("complex", _of(complex), lambda _, v: [repr(v.real), repr(v.imag)], _read_complex),
    Kind("slice", _of(slice), _write_slice, _read_slice),
    Kind("ellipsis", _of(EllipsisType), lambda _, v: 0, lambda _, c: ...),
    Kind("dtype", _of(torch.dtype), lambda _, v: dtype_name(v), lambda _, c: dtype_named(c)),
    Kind("device", _of(torch.device), lambda _, v: v.type, _read_device),
    Kind("layout", _of(torch.layout), lambda _, v: str(v), lambda _, c: _LAYOUTS[c]),
    Kind("memory_format", _of(torch.memory_format), lambda _, v: str(v), lambda _, c: _MEMORY_FORMATS[c]),
    Kind("tensor", _instance(Tensor), lambda w, v: w.tensors.add(v, w.what), lambda r, c: r.tensor(c)),
    Kind("record", _of(*(cls for cls, _ in _RECORDS.values())), _write_record, _read_record),
    _enum_kind(QDType),
    _enum_kind(QScheme),
)
"""The kinds that need neither the op table nor layers."""
