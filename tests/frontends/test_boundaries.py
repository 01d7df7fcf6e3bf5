"""Stubs and FloatFunctionals in graph mode: what their author keeps apart stays apart, and the report says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import qfx
from qfx.nn.quantized import FloatFunctional
from qfx.quantization import DeQuantStub, QuantStub
from tests.quantization.stub_nets import images, mobilenet, resnet

QCONFIGS = {"": qfx.get_default_qconfig()}
APART = "kept apart: FloatFunctional marks a boundary"
AS_WRITTEN = "kept as written: between stubs it has its input's scale"


def quantized(model: nn.Module, qconfigs: Any = QCONFIGS) -> qfx.QuantizedModel:
    return qfx.quantize_fx(model.eval(), qconfigs, [images()], bias_correction=False, adaptive_rounding=False)


class Sum(nn.Module):
    """``conv(x)`` and ``x`` added as ``how`` says, then pooled."""

    def __init__(self, how: Callable[[Any, Tensor, Tensor], Tensor], *, stubs: bool = False) -> None:
        super().__init__()
        self.quant, self.dequant = (QuantStub(), DeQuantStub()) if stubs else (nn.Identity(), nn.Identity())
        self.conv, self.skip, self.how = nn.Conv2d(3, 3, 1), FloatFunctional(), how

    def forward(self, x: Tensor) -> Tensor:
        x = self.quant(x)
        return F.adaptive_avg_pool2d(self.dequant(self.how(self.skip, self.conv(x), x)), 1)


def operators(skip: Any, y: Tensor, x: Tensor) -> Tensor:
    return torch.relu(y + x)


def add_relu(skip: Any, y: Tensor, x: Tensor) -> Tensor:
    return skip.add_relu(y, x)


def relu_behind(skip: Any, y: Tensor, x: Tensor) -> Tensor:
    return torch.relu(skip.add(y, x))


def scaled(skip: Any, y: Tensor, x: Tensor) -> Tensor:
    return skip.mul_scalar(y, 0.5)


@pytest.mark.parametrize(
    ("how", "ops"),
    [
        (operators, ["conv+residual+clamp", "mean"]),
        (add_relu, ["conv", "add+clamp", "mean"]),
        (relu_behind, ["conv", "add", "relu", "mean"]),
        (scaled, ["conv", "mul_scalar", "mean"]),
    ],
)
def test_what_a_float_functional_computes_is_fused_with_nothing_else(how: Any, ops: list[str]) -> None:
    report = quantized(Sum(how)).report
    assert ["+".join((r.op, *r.fused)) for r in report] == ops
    assert [r.apart for r in report if r.apart] == (
        [] if how is operators else [APART] * (2 if how is relu_behind else 1)
    )
    assert (APART in str(report)) == (how is not operators)


def test_the_operation_has_the_path_of_its_float_functional_and_the_line_that_calls_it() -> None:
    found = next(r for r in quantized(Sum(add_relu)).report if r.op == "add")
    assert found.module_path == "skip"
    assert found.source is not None
    assert found.source.endswith("in add_relu: return skip.add_relu(y, x)")


def test_a_qconfig_for_the_float_functional_is_one_for_its_operation() -> None:
    decisions = {
        r.op: r.decision for r in quantized(Sum(add_relu), {**QCONFIGS, "module_name": [("skip", None)]}).report
    }
    assert decisions["add"] == "float"
    assert decisions["conv"] == "int8"


@pytest.mark.parametrize("stubs", [False, True])
def test_pooling_behind_the_last_stub_has_a_range_of_its_own(stubs: bool) -> None:
    assert [r.op for r in quantized(Sum(operators, stubs=stubs)).report][-1] == "mean"


@pytest.mark.parametrize("make", [resnet, mobilenet])
def test_pooling_between_stubs_stays(make: Any) -> None:
    record = next(r for r in quantized(make()).report if "pool" in r.op and r.module_path == "average")
    assert (record.op, record.apart) == ("adaptive_avg_pool", AS_WRITTEN)


class Plain(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


class Adds(nn.Module):
    """The interface of FloatFunctional without what it says."""

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y

    def add_relu(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.relu(x + y)


@pytest.mark.parametrize("make", [resnet, mobilenet])
def test_without_stubs_every_rewrite_is_made(make: Any) -> None:
    report = quantized(make((Plain, Plain), Adds)).report
    assert not any(r.op in ("add", "adaptive_avg_pool") or r.apart for r in report)
    assert sum("residual" in r.fused for r in report) == (3 if make is resnet else 2)
