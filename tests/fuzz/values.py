"""What stands in the place of an argument: numbers, texts, objects, arrays and tensors of every kind."""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

from tests.fuzz.subjects import SHAPE, Net, codes, float_net, images, quantized


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
