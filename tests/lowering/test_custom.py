"""An op, its module and its mapping, all from outside the package."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qfx
import qfx.nn.quantized as nnq
from qfx.errors import UnsupportedError
from qfx.ir.types import QDType, QParams
from qfx.lowering import emit
from qfx.ops import spellings, table
from qfx.ops.arithmetic import quantize
from qfx.quantization import QuantWrapper, convert, default_static_mapping, get_default_qconfig, prepare
from qfx.tensor import QTensor


class Bump(nn.Module):
    def __init__(self, height: float = 1.0) -> None:
        super().__init__()
        self.height = height

    def forward(self, x: Tensor) -> Tensor:
        return bump(x, height=self.height)


_BEFORE: list[dict[Any, Any]] = [dict(t) for t in (table.TABLE, table._BY_TARGET, spellings.ALIASES, emit.EMITTERS)]


@qfx.register_op(lambda x, height: height * np.exp(-x * x), modules={Bump: ["height"]})
def bump(x: Tensor, *, height: float = 1.0) -> Tensor:
    """A bell curve, which the table does not have."""
    return height * torch.exp(-x * x)


class QBump(nnq.quantized_layer("QBump", Bump, "A bell curve.", module=__name__)):  # type: ignore[misc]
    """Quantized."""


_TABLES = (table.TABLE, table._BY_TARGET, spellings.ALIASES, emit.EMITTERS)
_ADDED = [{k: v for k, v in now.items() if k not in before} for now, before in zip(_TABLES, _BEFORE, strict=True)]


def _remove() -> None:
    for now, added in zip(_TABLES, _ADDED, strict=True):
        for key in added:
            now.pop(key, None)  # type: ignore[call-overload]


_remove()  # other tests walk the tables


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    for now, added in zip(_TABLES, _ADDED, strict=True):
        now.update(added)  # type: ignore[arg-type]
    yield
    _remove()


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), Bump(2.0), nn.Linear(8, 4)).eval()


@pytest.mark.inventory("S041", "S201")
def test_graph_mode_computes_it_by_a_table_in_one_program() -> None:
    model, x = net(), torch.randn(64, 6)
    quantized = qfx.quantize_fx(model, {"": get_default_qconfig()}, [x])
    assert {r.op: r.decision for r in quantized.report}["bump"] == "int8"
    assert len(quantized.compiled.segments) == 1
    assert (quantized(x) - model(x)).abs().max() < 0.1
    assert torch.equal(copy.deepcopy(quantized)(x), quantized(x))
    assert torch.equal(pickle.loads(pickle.dumps(quantized))(x), quantized(x))


@pytest.mark.inventory("S041", "S077")
def test_prepare_and_convert_use_its_mapping() -> None:
    mapping = {**default_static_mapping(), Bump: QBump}
    model, x = QuantWrapper(net()), torch.randn(64, 6)
    model.qconfig = get_default_qconfig()
    prepared = prepare(model, mapping=mapping)
    assert hasattr(prepared.module[1], "observer")
    prepared(x)
    converted = convert(prepared, mapping)
    assert type(converted.module[1]) is QBump
    assert converted.module[1].height == 2.0
    assert (converted(x) - model(x)).abs().max() < 0.1
    graph = qfx.quantize_fx(net_of(model), {"": model.qconfig}, [x], bias_correction=False, adaptive_rounding=False)
    assert converted.module[1].scale == float(graph.state_dict()["bump.scale"])


def net_of(wrapper: QuantWrapper) -> nn.Module:
    return wrapper.module


@pytest.mark.inventory("S041")
def test_it_is_exact_on_every_code() -> None:
    x = QTensor(torch.arange(256, dtype=torch.uint8), QParams(0.02, 117, QDType.quint8))
    module = QBump(1.5, scale=1.5 / 255, zero_point=0)
    exact = 1.5 * torch.exp(-(x.dequantize().double() ** 2))
    expected = quantize(exact, torch.tensor(module.scale), torch.tensor(0), 0, 255)
    assert torch.equal(module(x).int_repr().long(), expected)
    with pytest.raises(UnsupportedError, match="needs the scale and zero point"):
        bump(x)


def test_what_can_not_be_an_op_raises() -> None:
    with pytest.raises(UnsupportedError, match="can't be registered"):

        @qfx.register_op(lambda x, y: x)
        def two(x: Tensor, y: Tensor) -> Tensor:
            return x + y

    with pytest.raises(UnsupportedError, match="not a function at the top of a module"):

        @qfx.register_op(lambda x: x)
        def inner(x: Tensor) -> Tensor:
            return x

    with pytest.raises(UnsupportedError, match="the name is taken"):
        qfx.register_op(np.abs)(torch_abs)


def torch_abs(x: Tensor) -> Tensor:
    return x.abs()


torch_abs.__name__ = "abs"
