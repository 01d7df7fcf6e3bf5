"""Bad inputs to public calls: each gives a result, or an error of qfx's; none a raw error or the end of the process.

A case takes one call with good arguments, and puts something hostile in the place of one or two of them.
"""

from __future__ import annotations

import functools
import io
import itertools
import math
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

import qfx
from qfx import quantization as Q
from qfx.runtime import Executable, ProgramBuilder, peaks
from tests.fuzz.driver import Fuzzer, main

SHAPE = (4, 3, 6, 6)


@dataclass(frozen=True)
class Call:
    """A public call: its name, and good arguments by name, made anew for each case."""

    name: str
    fn: Callable[..., Any]
    arguments: Callable[[], dict[str, Any]]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))


def images() -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))


@functools.cache
def float_net() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


@functools.cache
def quantized() -> Any:
    return qfx.quantize_fx(float_net(), {"": qfx.get_default_qconfig()}, [images()])


@functools.cache
def with_torch() -> Any:
    """A quantized model that torch runs a part of."""

    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cumsum(self.conv(x), 1)

    torch.manual_seed(0)
    return qfx.quantize_fx(Parts().eval(), {"": qfx.get_default_qconfig()}, [images()])


def prepared() -> Any:
    return qfx.prepare_fx(float_net(), {"": qfx.get_default_qconfig()}, (images(),))


@functools.cache
def executable() -> Executable:
    builder = ProgramBuilder()
    x, y = builder.value("x", "f32", [-1] * 4), builder.value("y", "u8", [-1] * 4)
    builder.step("quantize", "q", [x], y, ints={"perm": [0, 1, 2, 3], "zero_point": 0}, floats={"scale": 0.1})
    return Executable(builder.build([x], [y]))


def codes() -> Any:
    return qfx.quantize_per_tensor(images(), 0.1, 3, qfx.quint8)


# ---------------------------------------------------------------- the calls


def _observed(observer: Any, x: Any) -> Any:
    observer(x)
    return observer.calculate_qparams()


def _called(make: Callable[[], Any]) -> Callable[..., Any]:
    """What an object of ``make`` does with ``x``."""
    return lambda x: make()(x)  # noqa: PLW0108 (made anew for each case)


def _profiled() -> dict[str, Any]:
    return {"x": images(), "repeats": 1}


def _calls() -> list[Call]:
    default = {"": qfx.get_default_qconfig()}
    found = [
        Call("quantized model", _called(quantized), lambda: {"x": images()}),
        Call("quantized model with torch parts", _called(with_torch), lambda: {"x": images()}),
        Call("prepared model", _called(prepared), lambda: {"x": images()}),
        Call("profile", lambda x, repeats: quantized().profile(x, repeats=repeats), _profiled),
        Call("Executable", _called(executable), lambda: {"x": images()}),
        Call("Executable on arrays", _called(executable), lambda: {"x": images().numpy()}),
        Call("Executable.explain", lambda shape: executable().explain(shape), lambda: {"shape": SHAPE}),
        Call("Executable.profile", lambda x: executable().profile(x, repeats=1), lambda: {"x": images()}),
        Call("Executable()", Executable, lambda: {"program": executable().program, "isa": None}),
        Call("set_num_threads", qfx.set_num_threads, lambda: {"threads": 1}),
        Call("peaks", peaks, lambda: {"isa": None, "threads": 1, "read_bytes": 1024}),
        Call(
            "quantize_per_tensor",
            qfx.quantize_per_tensor,
            lambda: {"input": images(), "scale": 0.1, "zero_point": 3, "dtype": qfx.quint8},
        ),
        Call(
            "quantize_per_channel",
            qfx.quantize_per_channel,
            lambda: {"input": images(), "scales": [0.1] * 3, "zero_points": [0] * 3, "axis": 1, "dtype": qfx.qint8},
        ),
        Call(
            "quantize_fx",
            qfx.quantize_fx,
            lambda: {
                "model": float_net(),
                "qconfig_dict": default,
                "calibration": [images()],
                "example_inputs": None,
                "strict": False,
                "frontend": "auto",
                "isa": None,
            },
        ),
        Call(
            "prepare_fx",
            qfx.prepare_fx,
            lambda: {"model": float_net(), "qconfig_dict": default, "example_inputs": (images(),), "frontend": "auto"},
        ),
        Call("convert_fx", qfx.convert_fx, lambda: {"prepared": calibrated(), "isa": None, "check": None}),
        Call("save", qfx.save, lambda: {"obj": quantized(), "file": io.BytesIO()}),
        Call("load", qfx.load, lambda: {"file": io.BytesIO(written()), "isa": None}),
        Call("compare", qfx.compare, lambda: {"reference": float_net(), "model": quantized(), "data": [images()]}),
        Call("FakeQuantize", _called(Q.FakeQuantize), lambda: {"x": images()}),
        Call("PACTFakeQuantize", _called(Q.PACTFakeQuantize), lambda: {"x": images()}),
    ]
    for name in ("MinMaxObserver", "HistogramObserver", "PerChannelMinMaxObserver", "MovingAverageMinMaxObserver"):
        kind = getattr(Q, name)
        found.append(Call(name, lambda x, kind=kind: _observed(kind(), x), lambda: {"x": images()}))
    return found


@functools.cache
def written() -> bytes:
    file = io.BytesIO()
    qfx.save(quantized(), file)
    return file.getvalue()


def calibrated() -> Any:
    model = prepared()
    model(images())
    return model


CALLS = _calls()

# ---------------------------------------------------------------- what is hostile


def _cut(size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    x = images().to(dtype)
    x.untyped_storage().resize_(size)
    return x


def _freed_view() -> Tensor:
    view = images()[1:, :, ::2]
    view.untyped_storage().resize_(300)
    return view


def _fake() -> Tensor:
    with FakeTensorMode():
        return torch.empty(SHAPE)


def _recursive() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


def _closed() -> Any:
    file = io.BytesIO()
    file.close()
    return file


class Liar:
    """Answers every question with itself."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self


HOSTILE: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "zero": lambda: 0,
    "minus one": lambda: -1,
    "2**31": lambda: 2**31,
    "2**63": lambda: 2**63,
    "-2**70": lambda: -(2**70),
    "10**400": lambda: 10**400,
    "NaN": lambda: math.nan,
    "infinity": lambda: math.inf,
    "1e-320": lambda: 1e-320,
    "complex number": lambda: 1j,
    "text": lambda: "scalar?",
    "empty text": lambda: "",
    "text with a zero byte": lambda: "a\0b",
    "bytes": lambda: b"\x80\xff",
    "list": lambda: [],
    "nested list": lambda: [[1, [2]], "x"],
    "list in itself": _recursive,
    "dict": lambda: {},
    "dict of numbers": lambda: {1: 2, None: 3},
    "tuple": lambda: (1, None),
    "generator": lambda: (x for x in (images(), 3)),
    "object": object,
    "class": lambda: Net,
    "function": lambda: len,
    "module": float_net,
    "quantized": quantized,
    "liar": Liar,
    "slice": lambda: slice(None),
    "ellipsis": lambda: ...,
    "dtype": lambda: torch.float32,
    "QTensor": codes,
    "array": lambda: images().numpy(),
    "array of objects": lambda: np.array([None, "x"]),
    "array, big-endian": lambda: images().numpy().astype(">f4"),
    "array, too far": lambda: np.lib.stride_tricks.as_strided(np.zeros(4, np.float32), SHAPE, (4000, 400, 40, 4)),
    "masked array": lambda: np.ma.masked_array(images().numpy()),
    "closed file": _closed,
    "folder": tempfile.gettempdir,
    "missing path": lambda: str(Path(tempfile.gettempdir()) / "none" / "such" / "file"),
    "empty file": io.BytesIO,
    "tensor, empty": lambda: torch.empty(0),
    "tensor, empty batch": lambda: torch.empty(0, 3, 6, 6),
    "tensor, 0-d": lambda: torch.tensor(1.0),
    "tensor of other rank": lambda: torch.randn(3, 6, 6),
    "tensor of other channels": lambda: torch.randn(4, 5, 6, 6),
    "tensor of one pixel": lambda: torch.randn(4, 3, 1, 1),
    "tensor of many dims": lambda: torch.zeros((1,) * 30),
    "tensor of NaN": lambda: torch.full(SHAPE, math.nan),
    "tensor of infinity": lambda: torch.full(SHAPE, -math.inf),
    "tensor of 3e38": lambda: torch.full(SHAPE, 3e38),
    "int64": lambda: torch.zeros(SHAPE, dtype=torch.int64),
    "bool": lambda: torch.zeros(SHAPE, dtype=torch.bool),
    "float64": lambda: images().double(),
    "float16": lambda: images().half(),
    "complex": lambda: torch.complex(images(), images()),
    "sparse": lambda: images().to_sparse(),
    "csr": torch.eye(6).to_sparse_csr,
    "mkldnn": lambda: images().to_mkldnn(),
    "nested": lambda: torch.nested.nested_tensor([images()[0], images()[1]]),
    "meta": lambda: images().to("meta"),
    "fake": _fake,
    "freed": lambda: _cut(0),
    "cut short": lambda: _cut(100),
    "freed float64": lambda: _cut(0, torch.float64),
    "freed view": _freed_view,
    "lazy zero": lambda: torch._efficientzerotensor(SHAPE),
    "lazy negative": lambda: torch._neg_view(images()),
    "expanded": lambda: torch.randn(1, 3, 1, 6).expand(SHAPE),
    "overlapping": lambda: torch.zeros(100).as_strided(SHAPE, (1, 1, 1, 1)),
    "with gradient": lambda: images().requires_grad_(),
    "inference": torch.inference_mode()(images),
}

WITHOUT_MEMORY = ("freed", "cut short", "freed float64", "freed view")
"""For tensors only: torch can't even print them."""

OWN = {
    "calibration": ("function", "class", "module", "quantized", "closed file", "liar"),
    "data": ("closed file", "liar"),
}
"""What is the caller's own code, whose errors are the caller's."""

LIMITS = {("PACTFakeQuantize", "inference"), ("PACTFakeQuantize", "fake"), ("PACTFakeQuantize", "meta")}
"""What torch refuses of any module with parameters: inference tensors in autograd, fake and real ones together."""

# ---------------------------------------------------------------- a case


def case(seed: int) -> None:
    """The call, the place and the hostile value of ``seed``: every pair comes once before any comes twice."""
    pairs = _pairs()
    call, names, kind = pairs[seed % len(pairs)]
    arguments = call.arguments()
    for name in names:
        arguments[name] = HOSTILE[kind]()
    random = Random(seed)
    if seed >= len(pairs):  # afterwards, another argument is hostile too
        arguments[random.choice(sorted(arguments))] = HOSTILE[random.choice(sorted({*HOSTILE} - {*WITHOUT_MEMORY}))]()
    try:
        with warnings.catch_warnings(), _folder():
            warnings.simplefilter("ignore")
            call.fn(**arguments)
    except qfx.QfxError:
        pass
    except Exception as error:
        what = f"{call.name}({', '.join(names)}={kind})"
        raise AssertionError(f"{what} raised {type(error).__name__}: {error}") from error
    finally:
        qfx.set_num_threads(1)


@contextmanager
def _folder() -> Iterator[None]:
    """While active, names of files are those of a folder that is gone afterwards."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def _applies(call: Call, name: str, kind: str, good: Any) -> bool:
    if kind in OWN.get(name, ()) or (call.name, kind) in LIMITS:
        return False
    return kind not in WITHOUT_MEMORY or isinstance(good, (Tensor, np.ndarray))


@functools.cache
def _pairs() -> list[tuple[Call, tuple[str, ...], str]]:
    """Every argument of every call with every hostile value, in an order that does not stay with one call."""
    pairs = [
        (call, (name,), kind)
        for call, kind in itertools.product(CALLS, HOSTILE)
        for name, good in call.arguments().items()
        if _applies(call, name, kind, good)
    ]
    Random(0).shuffle(pairs)
    return pairs


FUZZER = Fuzzer("tests.fuzz.inputs", case, apart=True)

if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    raise SystemExit(main(FUZZER))
