"""A trained model and the int8 model made of it compute the same integers, on networks that use every op row."""

from __future__ import annotations

import pytest
import torch

import qfx
from qfx.training.model import TrainableModel
from tests.lowering.nets import CASES, Case

QCONFIGS = {
    "default": qfx.get_default_qat_qconfig(),
    "per_tensor": qfx.get_default_qat_qconfig("qnnpack"),
    "reduce_range": qfx.get_default_qat_qconfig("x86"),
}

INFINITE_GRADIENT = {"Curves": "the square root of what rounding makes zero"}


def trained(case: Case, qconfig: qfx.QConfig, steps: int = 3) -> TrainableModel:
    """The network after a few steps that pull its outputs toward zero."""
    torch.manual_seed(0)
    net = case.net().requires_grad_(True).train()
    model = qfx.prepare_qat_fx(net, {"": qconfig}, (case.inputs(4, 0),))
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(parameters, 1e-4)
    for step in range(steps):
        optimizer.zero_grad()
        result = model(case.inputs(4, step))
        if case.make.__name__ in INFINITE_GRADIENT:
            continue
        outputs = result if isinstance(result, (tuple, list)) else [result]
        sum(y.square().mean() for y in outputs).backward()
        assert all(p.grad is not None for p in parameters), [n for n, p in model.named_parameters() if p.grad is None]
        optimizer.step()
    return model.eval()


PAIRS = [(name, "default") for name in CASES] + [
    (n, q) for n in ("Residual", "UpAndDown") for q in QCONFIGS if q != "default"
]


@pytest.mark.parametrize(("name", "qconfig"), PAIRS)
def test_integers_are_within_one_quantum_on_equal_operands(name: str, qconfig: str) -> None:
    model = trained(CASES[name], QCONFIGS[qconfig])
    x = CASES[name].inputs(8, 9)
    quantized = qfx.convert_fx(model, check=(x,))
    comparison = qfx.compare(model, quantized, [x])
    assert comparison.first_beyond(1) is None, comparison
    integers = [record for record in comparison if record.local_quanta is not None]
    assert len(integers) == sum(record.qparams is not None for record in comparison) > 0


@pytest.mark.parametrize("name", CASES)
def test_forms_agree_when_statistics_are_frozen(name: str) -> None:
    model = trained(CASES[name], QCONFIGS["default"])
    x = CASES[name].inputs(4, 9)
    for _, module in model.fake_quants():
        module.disable_fake_quant()
    wanted = model(x)
    model.train()
    model.apply(qfx.disable_observer)
    for module in model.modules():
        if isinstance(module, (torch.nn.modules.batchnorm._BatchNorm, torch.nn.modules.dropout._DropoutNd)):
            module.eval()
    torch.testing.assert_close(model(x), wanted, rtol=1e-4, atol=1e-4)
