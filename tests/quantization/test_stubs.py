from __future__ import annotations

import pytest
import torch
from torch import nn

import qfx.nn.quantized as nnq
from qfx.errors import InputError, UncalibratedWarning
from qfx.quantization import (
    DeQuantStub,
    MinMaxObserver,
    QConfig,
    QuantStub,
    QuantWrapper,
    convert,
    default_qconfig,
    default_weight_observer,
    get_default_qconfig,
    prepare,
)
from qfx.tensor import QTensor


@pytest.mark.inventory("S103", "S118", "S215")
def test_quant_stub_is_observed_and_becomes_quantize() -> None:
    stub = QuantStub()
    x = torch.tensor([-1.0, 0.5, 3.0])
    assert stub(x) is x
    stub.qconfig = default_qconfig
    prepared = prepare(stub)
    assert prepared(x) is x
    made = convert(prepared)
    assert type(made) is nnq.Quantize
    expected = prepared.activation_post_process.qparams()
    assert made.qparams.per_tensor() == expected.per_tensor()
    result = made(x)
    assert isinstance(result, QTensor)
    assert torch.equal(
        result.int_repr(), (torch.round(x.double() / expected.scale) + expected.zero_point).to(torch.uint8)
    )


@pytest.mark.inventory("S103")
def test_quant_stub_takes_its_own_qconfig() -> None:
    signed = QConfig(MinMaxObserver.with_args(dtype="qint8"), default_weight_observer)
    model = nn.Sequential(QuantStub(signed), DeQuantStub())
    model.qconfig = default_qconfig
    prepared = prepare(model)
    prepared(torch.randn(4))
    converted = convert(prepared)
    assert converted[0].dtype is prepared[0].activation_post_process.dtype
    assert converted[0](torch.randn(3)).int_repr().dtype is torch.int8


@pytest.mark.inventory("S102")
def test_dequant_stub_becomes_dequantize() -> None:
    stub = DeQuantStub(default_qconfig)
    x = torch.randn(3)
    assert stub(x) is x
    made = convert(prepare(stub))
    assert type(made) is nnq.DeQuantize
    assert "activation_post_process" not in dict(prepare(stub).named_modules())
    quantized = nnq.Quantize(0.1, 3)(x)
    assert torch.equal(made(quantized), quantized.dequantize())
    with pytest.raises(InputError, match="DeQuantize got a float tensor"):
        made(x)


@pytest.mark.inventory("S104", "S215")
def test_quant_wrapper_has_float_in_and_out() -> None:
    inner = nn.Linear(6, 4).eval()
    inner.qconfig = get_default_qconfig()
    wrapper = QuantWrapper(inner)
    assert wrapper.module is inner
    assert wrapper.qconfig is wrapper.quant.qconfig is wrapper.dequant.qconfig is inner.qconfig
    assert not wrapper.training
    x = torch.randn(32, 6)
    assert torch.equal(wrapper(x), inner(x))
    prepared = prepare(wrapper)
    prepared(x)
    converted = convert(prepared)
    assert [type(m) for m in converted.children()] == [nnq.Quantize, nnq.DeQuantize, nnq.Linear]
    result = converted(x)
    assert type(result) is torch.Tensor
    # Half a step of the result, and what half a step of input and weight each do over six products.
    assert (result - inner(x)).abs().max() < 0.1


class Partly(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before, self.quant, self.inside = nn.Linear(6, 6), QuantStub(), nn.Linear(6, 6)
        self.dequant, self.after = DeQuantStub(), nn.Linear(6, 6)
        self.inside.qconfig = self.quant.qconfig = self.dequant.qconfig = get_default_qconfig()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.dequant(self.inside(self.quant(self.before(x)))))


@pytest.mark.inventory("S187", "S202")
def test_regions_outside_the_stubs_stay_float() -> None:
    model = Partly().eval()
    prepared = prepare(model)
    x = torch.randn(16, 6)
    prepared(x)
    converted = convert(prepared)
    assert (type(converted.before), type(converted.after)) == (nn.Linear, nn.Linear)
    assert type(converted.inside) is nnq.Linear
    assert (converted(x) - model(x)).abs().max() < 0.1


@pytest.mark.inventory("S103")
def test_a_stub_that_saw_no_data_is_named() -> None:
    with pytest.warns(UncalibratedWarning, match="where: quant"):
        convert(prepare(Partly().eval()))
