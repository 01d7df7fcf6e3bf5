"""Tensors as bytes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from qfx.file.tensors import dtype_named
from qfx.ir.snapshot import bytes_of

DTYPES = [dtype_named(name) for name in ("bool", "uint8", "int8", "int32", "int64", "bfloat16", "float32", "float64")]
STRIDED: dict[str, Callable[[Tensor], Tensor]] = {
    "in order": lambda x: x,
    "transposed": lambda x: x.t(),
    "every second": lambda x: x[::2, ::3],
    "repeated": lambda x: x[0, 0].expand(3, 2),
    "one of stride 0": lambda x: x[0, 0].expand(1).clone(),
    "one number": lambda x: x[2, 3],
    "nothing": lambda x: x[:0],
    "not at the start": lambda x: x[2:],
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("way", STRIDED)
def test_strides_change_no_bytes(way: str, dtype: torch.dtype) -> None:
    x = STRIDED[way](torch.arange(24).reshape(4, 6).to(dtype))
    made = torch.tensor(x.tolist(), dtype=dtype).reshape(x.shape)
    want = bytes(made.reshape(-1).view(torch.uint8).tolist())
    assert bytes_of(x) == want
