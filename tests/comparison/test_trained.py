"""Models trained with fake quantization against what they convert to."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import qfx
from tests.lowering.nets import CASES
from tests.nets import NETS, small_net

SMALL = ("Residual", "Excited", "Shuffled", "Normed", "Pools", "Reductions")


def inputs(name: str, count: int, seed: int = 0) -> Tensor:
    if name in CASES:
        return CASES[name].inputs(count, seed)
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def trained(name: str) -> qfx.PreparedModel:
    """A model after two steps."""
    net: nn.Module = CASES[name].net() if name in CASES else small_net(name)
    model = qfx.prepare_qat_fx(net.train(), {"": qfx.get_default_qat_qconfig()}, (inputs(name, 2),))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    for step in range(2):
        optimizer.zero_grad()
        model(inputs(name, 4, step)).square().mean().backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("name", [*SMALL, *NETS])
def test_every_integer_is_within_a_quantum_on_equal_inputs(name: str) -> None:
    model = trained(name)
    quantized = qfx.convert_fx(model)
    comparison = qfx.compare(model, quantized, inputs(name, 3, 9))
    assert comparison.first_beyond() is None
    assert {r.name for r in quantized.report} <= {r.name for r in comparison}
    for record in comparison:
        assert None not in (record.quantization, record.lowering, record.total), record.name
        assert (record.local_quanta is None) == (record.qparams is None)


def test_float_values_are_those_of_the_unrounded_model() -> None:
    model = trained("ResidualNet")
    x = inputs("ResidualNet", 3, 9)
    last = qfx.compare(model, qfx.convert_fx(model), x)[-1]
    with torch.no_grad():
        rounded = model(x)
        want = model.apply(qfx.disable_fake_quant)(x)
    assert last.quantization.max_error == pytest.approx(float((rounded - want).abs().max()), rel=1e-5)


def test_a_layer_that_was_converted_from_other_weights_is_named() -> None:
    model = trained("ConvBnReluNet")
    quantized = qfx.convert_fx(model)
    with torch.no_grad():
        model.get_submodule("bn2").weight.mul_(1.5)
    comparison = qfx.compare(model, quantized, inputs("ConvBnReluNet", 3, 9))
    assert comparison.first_beyond().module_path == "conv2"
    assert comparison.first_beyond().local_quanta > 1
