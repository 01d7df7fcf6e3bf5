"""Custom modules: observed in the place of float ones, quantized in the place of those, in both modes."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qfx
from qfx.quantization import ConvertCustomConfig, PrepareCustomConfig, QuantType
from tests.quantization import custom

STATIC = {"": qfx.get_default_qconfig()}
PREPARE = PrepareCustomConfig().set_float_to_observed_mapping(custom.Custom, custom.Observed)
CONVERT = ConvertCustomConfig().set_observed_to_quantized_mapping(custom.Observed, custom.Quantized)
FIVE_BITS = 30.0
"""dB: far below what wrong ranges or an order mixed up would leave."""


def sqnr(ours: Tensor, real: Tensor) -> float:
    ours, real = ours.detach(), real.detach()
    return float(10 * torch.log10(real.square().sum() / (ours - real).square().sum()))


@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize("form", ["config", "dict"])
def test_a_quantized_module_runs_between_int8_layers(calls: int, form: str) -> None:
    net = custom.net(calls)
    prepare, convert = (PREPARE, CONVERT) if form == "config" else (PREPARE.to_dict(), CONVERT.to_dict())
    prepared = qfx.prepare_fx(net, STATIC, (custom.X,), prepare)
    assert type(prepared.custom) is custom.Observed
    prepared(custom.X)
    quantized = qfx.convert_fx(prepared, convert)
    assert type(quantized.custom) is custom.Quantized
    assert type(prepared.custom) is custom.Observed
    assert sqnr(quantized(custom.X), net(custom.X)) > FIVE_BITS
    record = next(r for r in quantized.report if r.module_path == "custom")
    assert record.reason == "custom module: Quantized, which quantizes by itself"
    assert type(net.custom) is custom.Custom
    assert not hasattr(net.custom, "qconfig")


def test_its_range_and_its_inputs_range_are_those_of_calibration() -> None:
    net = custom.net()
    prepared = qfx.prepare_fx(net, STATIC, (custom.X,), PREPARE)
    prepared(custom.X)
    quantized = qfx.convert_fx(prepared, CONVERT)
    observer = qfx.HistogramObserver(eps=2**-60)
    with torch.no_grad():
        observer(net.first(custom.X))
    (entrance,) = quantized.custom.activation_pre_process
    assert (entrance.scale, entrance.zero_point) == (observer.qparams().scale, observer.qparams().zero_point)


def test_prepared_and_quantized_models_copy_and_pickle() -> None:
    prepared = qfx.prepare_fx(custom.net(), STATIC, (custom.X,), PREPARE)
    prepared = copy.deepcopy(prepared)
    prepared(custom.X)
    file = io.BytesIO()
    torch.save(prepared, file)
    file.seek(0)
    quantized = qfx.convert_fx(torch.load(file, weights_only=False), CONVERT)
    assert torch.equal(copy.deepcopy(quantized)(custom.X), qfx.convert_fx(prepared, CONVERT)(custom.X))


def test_a_dynamic_one() -> None:
    prepare = PrepareCustomConfig().set_float_to_observed_mapping(custom.Custom, custom.Observed, QuantType.DYNAMIC)
    convert = ConvertCustomConfig().set_observed_to_quantized_mapping(
        custom.Observed, custom.Dynamic, QuantType.DYNAMIC
    )
    net = custom.net()
    prepared = qfx.prepare_fx(net, {"": qfx.per_channel_dynamic_qconfig}, (custom.X,), prepare)
    quantized = qfx.convert_fx(prepared, convert)
    assert type(quantized.custom) is custom.Dynamic
    assert sqnr(quantized(custom.X), net(custom.X)) > FIVE_BITS


def test_without_a_qconfig_it_stays_float() -> None:
    net = custom.net()
    rules = {**STATIC, "module_name": [("custom", None)]}
    quantized = qfx.quantize_fx(net, rules, [custom.X], prepare_custom_config=PREPARE, convert_custom_config=CONVERT)
    assert type(quantized.custom) is custom.Custom


def test_it_trains() -> None:
    net = custom.net()
    prepared = qfx.prepare_qat_fx(net, {"": qfx.get_default_qat_qconfig()}, (custom.X,), PREPARE)
    optimizer = torch.optim.SGD(prepared.parameters(), lr=0.05)
    before = prepared.custom.linear.weight.detach().clone()
    for _ in range(3):
        optimizer.zero_grad()
        (prepared(custom.X) - 1).square().mean().backward()
        optimizer.step()
    assert not torch.equal(prepared.custom.linear.weight, before)
    quantized = qfx.convert_fx(prepared.eval(), CONVERT)
    assert sqnr(quantized(custom.X), prepared(custom.X).detach()) > FIVE_BITS


def test_in_eager_mode() -> None:
    net = custom.net()
    model = qfx.quantization.QuantWrapper(net)
    model.qconfig = qfx.get_default_qconfig()
    prepared = qfx.quantization.prepare(
        model, prepare_custom_config_dict={"float_to_observed_custom_module_class": {custom.Custom: custom.Observed}}
    )
    assert type(prepared.module.custom) is custom.Observed
    prepared(custom.X)
    config = {"observed_to_quantized_custom_module_class": {custom.Observed: custom.Quantized}}
    quantized = qfx.quantization.convert(prepared, convert_custom_config_dict=config)
    assert type(quantized.module.custom) is custom.Quantized
    assert sqnr(quantized(custom.X), net(custom.X)) > FIVE_BITS


def test_an_allow_list_in_eager_mode() -> None:
    model = qfx.quantization.QuantWrapper(nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6)))
    model.qconfig = qfx.get_default_qconfig()
    kinds = qfx.quantization.get_default_qconfig_propagation_list()
    assert {nn.Linear, nn.LayerNorm, qfx.quantization.QuantStub, nn.LSTM} <= kinds
    prepared = qfx.quantization.prepare(model, allow_list=kinds - {nn.LayerNorm})
    assert hasattr(prepared.module[0], "activation_post_process")
    assert not hasattr(prepared.module[1], "activation_post_process")


class Without(nn.Module):
    """Neither from_float nor from_observed."""


def prepared(observed: Any = custom.Observed) -> Any:
    config = PrepareCustomConfig().set_float_to_observed_mapping(custom.Custom, observed)
    model = qfx.prepare_fx(custom.net(), STATIC, (custom.X,), config)
    model(custom.X)
    return model


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "no from_float": (lambda: prepared(Without), qfx.ConversionError, r"It has no from_float\(\)"),
    "no quantized class": (
        lambda: qfx.convert_fx(prepared()),
        qfx.ConversionError,
        "set_observed_to_quantized_mapping",
    ),
    "no from_observed": (
        lambda: qfx.convert_fx(
            prepared(), ConvertCustomConfig().set_observed_to_quantized_mapping(custom.Observed, Without)
        ),
        qfx.ConversionError,
        r"It has no from_observed\(\)",
    ),
    "no data": (
        lambda: qfx.quantize_fx(
            custom.net(), STATIC, example_inputs=custom.X, prepare_custom_config=PREPARE, convert_custom_config=CONVERT
        ),
        qfx.CalibrationError,
        "has seen no data",
    ),
    "outer observers": (
        lambda: qfx.quantization.prepare(custom.net(), observer_non_leaf_module_list=[custom.Net]),
        qfx.QConfigError,
        "observer_non_leaf_module_list",
    ),
    "another key": (
        lambda: qfx.quantization.prepare(custom.net(), prepare_custom_config_dict={"preserved_attributes": []}),
        qfx.QConfigError,
        "'preserved_attributes'",
    ),
    "reference": (
        lambda: qfx.quantization.convert(custom.net(), is_reference=True),
        qfx.QConfigError,
        "makes no reference model",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_by_name(name: str) -> None:
    call, kind, text = REFUSED[name]
    with pytest.raises(kind, match=text):
        call()
