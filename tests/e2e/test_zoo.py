"""Whole networks by other people's definitions; `make zoo` installs those."""

from __future__ import annotations

import functools
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from benchmarks import zoo, zoo_report
from qfx.lowering.compile import compile_int8
from qfx.lowering.compiled import Compiled
from qfx.lowering.interpreter import IntegerRun
from qfx.models import QuantizedModel
from qfx.runtime import isa_names

pytestmark = [
    pytest.mark.zoo,
    pytest.mark.skipif(not all(map(find_spec, ("timm", "torchvision"))), reason="the definitions come with `make zoo`"),
]


@functools.lru_cache(maxsize=1)
def load(name: str) -> tuple[nn.Module, QuantizedModel]:
    model = zoo.load(name)
    return model, zoo_report.quantize(model)


@functools.lru_cache(maxsize=1)
def interpret(name: str, batch: int) -> tuple[torch.Tensor, IntegerRun]:
    return zoo_report.interpret(load(name)[1], batch)


@functools.lru_cache(maxsize=len(isa_names()))
def program(name: str, isa: str) -> Compiled:
    return compile_int8(load(name)[1].compiled.root, isa)


# A fixture of the module's scope makes pytest run all tests of one network together.
@pytest.fixture(scope="module", params=zoo.NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_every_convolution_and_linear_layer_is_in_int8(name: str) -> None:
    model, quantized = load(name)
    layers = [r for r in quantized.report if r.op in ("conv", "linear")]
    assert len(layers) == sum(isinstance(m, nn.modules.conv._ConvNd | nn.Linear) for m in model.modules())
    assert not [layer for layer in layers if layer.decision != "int8"]


def test_is_one_program(name: str) -> None:
    _, quantized = load(name)
    (segment,) = quantized.compiled.segments
    assert segment.executable is not None


def test_sqnr_is_at_least_that_of_the_qdq_graph_in_floats(name: str) -> None:
    ours, bound = zoo_report.signal_to_noise(*load(name))
    assert ours >= bound - 0.1
    assert ours > 5.0


@pytest.mark.parametrize("threads", zoo_report.THREADS)
@pytest.mark.parametrize("isa", isa_names())
@pytest.mark.parametrize("batch", zoo_report.SIZES)
def test_every_integer_is_the_interpreters(name: str, batch: int, isa: str, threads: int) -> None:
    x, want = interpret(name, batch)
    result = zoo_report.compare(program(name, isa), x, want, threads)
    assert result.compared > 0
    assert not result.mismatches
    assert result.same_output
