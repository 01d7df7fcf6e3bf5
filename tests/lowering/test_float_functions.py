"""What programs compute of floats equals the references in numpy float32, bit for bit, on every level."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from qfx.lowering.emitters.compute import numbers
from qfx.ops import TABLE, Op
from qfx.runtime import Executable, isa_names
from tests.runtime.step_programs import one_step

FUNCTIONS = [
    pytest.param(op, kwargs, id=f"{op.name}-{i}")
    for op in TABLE.values()
    if op.pointwise is not None and op.floats is not None
    for i, kwargs in enumerate({str(s.kwargs): s.kwargs for s in op.samples()}.values())
]


def floats_of_every_exponent() -> Tensor:
    """Of either sign, subnormal and infinite ones and NaN among them, and many between -30 and 30."""
    bits = np.arange(0, 0x7F800001, 0x1357B, dtype=np.int64)
    each = np.concatenate([bits, bits + 0x80000000]).astype(np.uint32).view(np.float32)
    edges = np.array([np.inf, -np.inf, np.nan, 88.7, 88.73, 128.0, -87.34, -87.7, -104.0], np.float32)
    return torch.from_numpy(np.concatenate([each, edges, np.linspace(-30, 30, 20011, dtype=np.float32)]))


def assert_same(got: np.ndarray, want: Tensor) -> None:
    np.testing.assert_array_equal(got, want.numpy())


@pytest.mark.parametrize("isa", isa_names())
@pytest.mark.parametrize(("op", "kwargs"), FUNCTIONS)
def test_a_function_of_floats_equals_its_reference(op: Op, kwargs: dict[str, object], isa: str) -> None:
    x = floats_of_every_exponent()
    parameters = op.fn.__kwdefaults__ or {}
    text, args = {"function": op.name}, numbers({**parameters, **kwargs})
    program = one_step("pointwise_f32", [x.numpy()], ("f32", 1), text=text, floats={"args": args})
    assert op.integer is not None
    assert_same(Executable(program, isa)(x.numpy())[0], op.integer(x, out=None, **kwargs))


def _scores() -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    for n in (1, 2, 15, 16, 17, 33, 127, 1024, 1025, 2100):
        x = torch.randn(6, n, generator=generator) * 20
        x[1, : n // 2] = -torch.inf
        x[2] = -torch.inf
        x[3, n // 2] = torch.nan
        x[4, -1] = torch.inf
        yield x


@pytest.mark.parametrize("isa", isa_names())
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_equals_its_reference_in_rows_and_columns(name: str, isa: str) -> None:
    op = TABLE[name]
    assert op.integer is not None
    for x in _scores():
        want = op.integer(x, dim=1, out=None)
        for columns in (False, True):
            given = x.T.contiguous() if columns else x
            axis = 0 if columns else 1
            got = Executable(one_step(name, [given.numpy()], ("f32", 2), ints={"axis": axis}), isa)(given.numpy())[0]
            assert_same(got, want.T if columns else want)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_is_torchs_where_rows_hold_no_number(name: str) -> None:
    op = TABLE[name]
    assert op.integer is not None
    for x in _scores():
        torch.testing.assert_close(op.integer(x, dim=1, out=None), op.fn(x, dim=1), equal_nan=True)
