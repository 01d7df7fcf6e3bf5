"""Files that harm: every operator of this torch in a file, on arguments made to harm, and files with values exchanged.

Whatever a file says, loading it and calling what it holds either works or raises a QfxError; the process lives.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import resource
import warnings
from random import Random
from typing import Any

import torch
from torch import nn

import qfx
from qfx.file.targets import function_named, functions, is_method, methods
from tests.fuzz.driver import Fuzzer, main
from tests.fuzz.hostile import X, arguments, calling, resealed, saved, value, with_call

MOST_MEMORY = 6 << 30
_CALLS = 6
"""Calls of one operator in a case."""


@functools.cache
def operators() -> tuple[tuple[str, str], ...]:
    """Every operator, function and method of this torch: the kind of nodes that call it, and its name in a file."""
    overloads = {f"aten.{name.partition('.')[0]}.{name.partition('.')[2] or 'default'}" for name in aten_names()}
    named = [("call_function", name) for name in sorted({*overloads, *functions()})]
    return (*named, *(("call_method", name) for name in sorted({*dir(torch.Tensor), *methods()})))


def aten_names() -> list[str]:
    """The names of PyTorch's operators, with overloads: ``add.Tensor``."""
    names: list[str] = torch._C._dispatch_get_all_op_names()
    return [name.removeprefix("aten::") for name in names if name.startswith("aten::")]


def is_admitted(op: str, name: str) -> bool:
    """Whether a file may call an operator."""
    if op == "call_method":
        return is_method(name)
    try:
        function_named(name)
    except (ValueError, qfx.InputError):
        return False
    return True


@functools.cache
def admitted() -> tuple[tuple[str, str], ...]:
    """The operators that a file may call."""
    return tuple(each for each in operators() if is_admitted(*each))


def schemas(name: str) -> list[Any]:
    """Schemas of the operators of this name, whose arguments those of the function are like."""
    parts = name.split(".")
    base = (parts[1] if name.startswith("aten.") else parts[-1]).rstrip("_")
    wanted = name.removeprefix("aten.") if name.startswith("aten.") else None
    found = []
    for prefix in ("", "linalg_", "fft_", "special_", "upsample_"):
        packet = getattr(torch.ops.aten, prefix + base, None)
        for overload in packet.overloads() if packet is not None else ():
            if wanted is None or wanted == f"{base}.{overload}":
                found.append(getattr(packet, overload)._schema)
    return found


def call_operator(random: Random, op: str, name: str) -> None:
    """Load and call a file whose model calls an operator."""
    found = schemas(name)
    if found:
        args, kwargs = arguments(random, random.choice(found))
    else:
        args = tuple(value(random, random.choice(("Tensor", "int", "List[int]", "float", "str"))) for _ in range(2))
        args, kwargs = (..., *args), {}
    if op == "call_method" and (not args or random.random() < 0.5):
        args = (..., *args[1:])
    attempt(with_call(op, name, args, kwargs))


def attempt(file: bytes) -> None:
    """Load and call; a QfxError is fine."""
    with contextlib.suppress(qfx.QfxError):
        model = qfx.load(io.BytesIO(file))
        result = model(X)
        if _elements(result) < 10_000:
            repr(result)
        str(model.report)


def _elements(result: Any) -> int:
    return sum(t.numel() for t in torch.utils._pytree.tree_leaves(result) if isinstance(t, torch.Tensor))


# ---------------------------------------------------------------- layers

LAYERS: dict[str, Any] = {
    "LSTM": lambda: nn.LSTM(6, 6, batch_first=True),
    "projected": lambda: nn.LSTM(6, 6, proj_size=3, num_layers=2),
    "GRU": lambda: nn.GRU(6, 6, bidirectional=True),
    "RNN": lambda: nn.RNN(6, 6),
    "LSTMCell": lambda: nn.LSTMCell(6, 6),
    "MultiheadAttention": lambda: _Self(nn.MultiheadAttention(6, 2)),
    "TransformerEncoderLayer": lambda: nn.TransformerEncoderLayer(6, 2, 8, batch_first=True),
    "TransformerEncoder": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), 2),
    "Embedding": lambda: _Indices(nn.Embedding(9, 3)),
    "EmbeddingBag": lambda: _Indices(nn.EmbeddingBag(9, 3)),
    "Bilinear": lambda: _Self(nn.Bilinear(6, 6, 3), 2),
    "GroupNorm": lambda: nn.GroupNorm(2, 4),
    "LocalResponseNorm": lambda: nn.LocalResponseNorm(2),
    "LPPool2d": lambda: nn.LPPool2d(2, 2),
}


class _Self(nn.Module):
    """A layer that takes its input several times."""

    def __init__(self, layer: nn.Module, times: int = 3) -> None:
        super().__init__()
        self.layer, self.times = layer, times

    def forward(self, x: torch.Tensor) -> Any:
        return self.layer(*[x.flatten(0, 1)] * self.times)


class _Indices(nn.Module):
    """A layer that takes indices."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> Any:
        return self.layer(x.flatten(1).argmax(1, keepdim=True) % 9)


class _Layered(nn.Module):
    """An int8 layer, and one that torch runs."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.conv, self.layer = nn.Conv2d(4, 4, 1), layer

    def forward(self, x: torch.Tensor) -> Any:
        return self.layer(self.conv(x).flatten(0, 1) if isinstance(self.layer, _SEQUENCES) else self.conv(x))


_SEQUENCES = (nn.RNNBase, nn.TransformerEncoderLayer, nn.TransformerEncoder)


@functools.cache
def layered(name: str, graph: bool) -> bytes:
    """The file of a model with a layer that torch runs: its graph, or its programs and that layer."""
    torch.manual_seed(0)
    if name == "LSTMCell":
        net: Any = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Flatten(0, 2), nn.LSTMCell(6, 6))
    else:
        net = _Layered(LAYERS[name]())
    model = qfx.quantize_fx(net.eval(), {"": qfx.get_default_qconfig()}, [X], adaptive_rounding=False)
    if graph or not any(part.segment.in_torch for part in model.compiled.segments):
        return saved(model)
    file = io.BytesIO()
    qfx.save(model, file, graph=False)
    return file.getvalue()


_EXCHANGED: tuple[Any, ...] = (
    None, True, 0, 1, -1, 2, 3, 7, 2**31, 2**40, -(2**63), 2**63 - 1, 0.5, 1e300, "", "x", "relu", "LSTM", "meta", [],
    {"tuple": []}, {"node": 0}, {"tensor": 0}, {"tensor": 1}, {"tensor": 2}, {"tensor": 3}, {"float": "nan"},
    {"dtype": "int8"}, {"function": "torch.relu"}, {"function": "aten.empty.memory_format"}, [4, 4], [2**40, 2],
    "op.conv", "op.reshape", "torch.einsum", "call_function", "call_method", "torch.nn.LSTM", "torch.nn.Embedding",
    "int64", "float64", "uint8", "complex64",
)  # fmt: skip


def exchange(random: Random, file: bytes) -> bytes:
    """``file`` with one to three of its values exchanged for others."""

    def change(content: Any, _: bytearray) -> None:
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            *path, last = random.choice(places(content))
            inner = content
            for key in path:
                inner = inner[key]
            other = random.choice(_EXCHANGED) if random.random() < 0.8 else _other(random, content)
            inner[last] = copy.deepcopy(other)  # the next exchange may be inside it

    return resealed(file, change)


def _other(random: Random, content: Any) -> Any:
    """Another part of the same file."""
    found = content
    for key in random.choice(places(content)):
        found = found[key]
    return found


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in JSON."""
    inner = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    return [place for key, item in inner for place in ((*path, key), *places(item, (*path, key)))]


# ---------------------------------------------------------------- bytes


_HEADS = (b"PK\x03\x04", b"\x80\x02", b"\x1f\x8b", b"\x93NUMPY", b"GGUF", b"{", b"\x89QFX", b"\x89QFX\r\n\x1a\n")
"""Of zip, pickle, gzip, numpy and others."""


def damage(random: Random, file: bytes) -> bytes:
    """``file`` cut, spliced, or with bytes changed: no checksum is right."""
    start, end = sorted(random.randrange(len(file) + 1) for _ in range(2))
    kind = random.randrange(6)
    if kind == 0:
        return file[:start]
    if kind == 1:
        return file[:start] + file[end:]
    if kind == 2:
        return file[:start] + random.randbytes(random.choice((1, 2, 9, 100))) + file[end:]
    if kind == 3:
        return random.choice(_HEADS) + file[start:]
    if kind == 4:
        return random.randbytes(random.choice((0, 1, 8, 64, 300)))
    changed = bytearray(file)
    for _ in range(random.choice((1, 2, 8))):
        changed[random.randrange(len(changed))] ^= random.randrange(1, 256)
    return bytes(changed)


def case(seed: int) -> None:
    """Of a hundred cases: operators one after the other, then exchanged values, then damaged bytes."""
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    random, kind = Random(seed), seed % 10
    if kind < 6:
        for _ in range(_CALLS):
            call_operator(random, *random.choice(admitted() if random.random() < 0.9 else operators()))
    elif kind < 9:
        file = layered(random.choice(list(LAYERS)), random.random() < 0.5) if random.random() < 0.8 else calling()
        attempt(exchange(random, file))
    else:
        file = damage(random, calling())
        if file != calling():
            attempt(file)


FUZZER = Fuzzer("tests.fuzz.files", case, apart=True)

if __name__ == "__main__":
    raise SystemExit(main(FUZZER))
