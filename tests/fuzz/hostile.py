"""Files made to harm: a model's file with another call, layer or value in it, and every checksum right."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from random import Random
from typing import Any

import torch
from torch import Tensor, nn

import qfx
from qfx.file.container import Section, pack, unpack
from qfx.file.kinds import KINDS
from qfx.file.qdq import graph_sections
from qfx.file.sections import GRAPH, KNOWN, PARTS, TENSORS
from qfx.file.tensors import TensorWriter, read_tensors
from qfx.file.values import Writer

X = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(5))

_INTS = (0, 1, -1, 2, 3, 4, 5, 7, -2, -3, 16, 33)
_EXTREMES = (2**31 - 1, 2**31, -(2**31), 2**40, 2**62, 2**63 - 1, -(2**63), 2**20)
_FLOATS = (0.0, 1.0, -1.0, 0.5, 2.0, 0.1, 1e300, -1e-300, 1e-45, float("inf"), float("-inf"), float("nan"))
_TEXTS = (
    "mean", "sum", "none", "floor", "trunc", "ij", "xy", "bilinear", "nearest", "reflect", "constant", "circular",
    "replicate", "border", "zeros", "same", "valid", "ab,bc->ac", "tanh", "left", "right", "", "amax", "prod", "fro",
    "nuc", "ortho", "backward", "meta", "cuda:0", "...->", "S",
)  # fmt: skip
_DTYPES = (
    torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8, torch.int8, torch.bool, torch.float16,
    torch.bfloat16, torch.complex64, torch.int16, torch.uint16,
)  # fmt: skip
_FORMATS = (torch.contiguous_format, torch.channels_last, torch.preserve_format, torch.channels_last_3d)


class _Calling(nn.Module):
    """An int8 layer, and one call that torch runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.renorm(self.conv(x), 2, 0, 1.0)


def resealed(file: bytes, change: Callable[[Any, bytearray], Any]) -> bytes:
    """The file with its contents changed and every checksum right.

    Args:
        file: A ``.qfx`` file.
        change: Changes the JSON of the graph, or of the parts of a model without one, and the bytes of the tensors in
            place; bytes that it returns are the JSON.
    """
    parts = unpack(memoryview(file), "it", KNOWN, ("tensors",))
    said = GRAPH if GRAPH in parts else PARTS
    content, tensors = json.loads(bytes(parts[said])), bytearray(parts[TENSORS])
    changed = change(content, tensors)
    text = changed if isinstance(changed, bytes) else json.dumps(content).encode()
    made = {**parts, said: text, TENSORS: bytes(tensors)}
    return pack([Section(name, part) for name, part in made.items()])


def places_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The keys that lead to each item of JSON."""
    inner = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    return [place for key, item in inner for place in ((*path, key), *places_of(item, (*path, key)))]


def saved(model: Any) -> bytes:
    """The ``.qfx`` file of a model, with its graph and without its program, so that loading reads the graph."""
    return pack(graph_sections(model, model.info, TensorWriter()))


@functools.cache
def calling() -> bytes:
    """The file of a model with one call that torch runs."""
    torch.manual_seed(0)
    model = qfx.quantize_fx(_Calling().eval(), {"": qfx.get_default_qconfig()}, [X], adaptive_rounding=False)
    return saved(model)


def with_call(op: str, target: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """The file of a model that calls ``target`` on what comes from an int8 layer and ``args``.

    Args:
        op: ``call_function`` or ``call_method``.
        target: A name, as it stands in files.
        args: Tensors among them become constants; ``Ellipsis`` is the value of the layer.
        kwargs: As ``args``.
    """

    def change(content: Any, tensors: bytearray) -> None:
        writer = Writer(TensorWriter(), KINDS)
        for tensor in read_tensors(content["tensors"], memoryview(bytearray(tensors))):
            writer.tensors.add(tensor, "it")
        record = next(r for r in content["graph"] if r[2].endswith("renorm"))
        layer = record[3]["tuple"][0]
        record[1:3] = op, target

        def encode(value: Any) -> Any:
            if value is ...:
                return layer
            if isinstance(value, (list, tuple)):
                items = [encode(item) for item in value]
                return {"tuple": items} if isinstance(value, tuple) else items
            return writer.encode(value)

        record[3] = {"tuple": [encode(value) for value in args]}
        record[4] = {"dict": [[key, encode(value)] for key, value in kwargs.items()]}
        content["tensors"] = writer.tensors.index
        tensors[:] = writer.tensors.content()

    return resealed(calling(), change)


# ---------------------------------------------------------------- arguments made to harm


def arguments(random: Random, schema: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of the types that a schema of PyTorch's operators asks for, of any value."""
    args, kwargs, stopped = [], {}, False
    for argument in schema.arguments:
        if argument.has_default_value() and random.random() < 0.4:
            stopped = True
        elif argument.kwarg_only or stopped:
            kwargs[argument.name] = value(random, str(argument.real_type))
        else:
            args.append(value(random, str(argument.real_type)))
    return tuple(args), kwargs


def value(random: Random, kind: str) -> Any:
    """A value of a type of a schema."""
    if kind.startswith("Optional["):
        return None if random.random() < 0.4 else value(random, kind[len("Optional[") : -1])
    if kind.startswith("List["):
        return [value(random, kind[len("List[") : -1]) for _ in range(random.choice((0, 1, 1, 2, 2, 2, 3, 3, 4, 6)))]
    made = _VALUES.get(kind)
    return made(random) if made else None


def _tensor(random: Random) -> Any:
    if random.random() < 0.2:
        return ...
    rank = random.choice((0, 1, 1, 2, 2, 3, 3, 4, 4, 5))
    shape = [random.choice((0, 1, 1, 2, 3, 3, 4, 5, 8)) for _ in range(rank)]
    if random.random() < 0.4:
        shape = [random.choice((2, 3, 4))] * rank
    dtype = random.choice((*_DTYPES, *[torch.float32] * 10, *[torch.int64] * 4))
    generator = torch.Generator().manual_seed(random.randrange(2**31))
    if dtype.is_floating_point or dtype.is_complex:
        return torch.randn(shape, generator=generator).to(dtype) * random.choice((1, 1, 1, 1e6, float("inf")))
    if random.random() < 0.2:
        return torch.full(shape, random.choice((-1, 0, -(2**63), 2**63 - 1, -(2**31)))).to(dtype)
    high = random.choice((2, 4, 100, 2**31 - 1, 2**62))
    return torch.randint(-high if random.random() < 0.5 else 0, high, shape, generator=generator).to(dtype)


def _int(random: Random) -> int:
    return random.choice(_EXTREMES if random.random() < 0.2 else _INTS)


_VALUES: dict[str, Callable[[Random], Any]] = {
    "Tensor": _tensor,
    "int": _int,
    "SymInt": _int,
    "float": lambda random: random.choice(_FLOATS),
    "number": lambda random: random.choice((*_INTS, *_EXTREMES, *_FLOATS)),
    "Scalar": lambda random: random.choice((*_INTS, *_EXTREMES, *_FLOATS)),
    "bool": lambda random: random.random() < 0.5,
    "str": lambda random: random.choice(_TEXTS),
    "ScalarType": lambda random: random.choice((*_DTYPES, *_DTYPES, 6, -2)),
    "Layout": lambda random: random.choice((torch.strided, None, 1)),
    "MemoryFormat": lambda random: random.choice((*_FORMATS, 3)),
    "Device": lambda random: random.choice((torch.device("cpu"), "meta", "cuda")),
}
