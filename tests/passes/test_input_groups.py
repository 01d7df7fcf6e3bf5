"""Inputs with a scale for a group of each row: what is computed, which layers have them, and what they keep."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qfx
from qfx.lowering.interpreter import interpret_integers
from qfx.ops.qdq.decode import StoredWeight
from qfx.quantization import QConfigMapping, default_weight_observer, per_group_dynamic_quant_observer
from qfx.runtime import isa_names

QCONFIGS: dict[str, Any] = {
    **{
        f"{bits}-{group}-{'symmetric' if symmetric else 'affine'}": qfx.groups_dynamic_qconfig(bits, group, symmetric)
        for bits in (8, 4)
        for group in (32, 64, 128, None)
        for symmetric in (True, False)
    },
    "int8 a channel": qfx.QConfigDynamic(per_group_dynamic_quant_observer),
    "int8 a tensor": qfx.QConfigDynamic(per_group_dynamic_quant_observer, default_weight_observer),
    "inputs by 64": qfx.QConfigDynamic(
        per_group_dynamic_quant_observer.with_args(group_size=64), qfx.groups_dynamic_qconfig(8, 64).weight
    ),
}


class Net(nn.Module):
    """Layers with every epilogue, one of them twice, of widths that all groups divide."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.first, self.twice = nn.Linear(128, 256), nn.Linear(256, 256)
        self.last = nn.Linear(256, 9, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = nn.functional.relu6(self.twice(x) + x)
        return self.last(self.twice(x) + x)


X = torch.randn(2, 5, 128, generator=torch.Generator().manual_seed(6))


@pytest.fixture
def threads() -> Iterator[None]:
    before = qfx.get_num_threads()
    yield
    qfx.set_num_threads(before)


def quantized(qconfig: Any, model: nn.Module | None = None, x: Tensor = X) -> qfx.QuantizedModel:
    return qfx.quantize_fx((Net() if model is None else model).eval(), {"": qconfig}, example_inputs=(x,))


def equal(got: Any, expected: Any) -> None:
    torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True)


def reasons(model: qfx.QuantizedModel) -> dict[str, str]:
    return {r.module_path: r.reason for r in model.report.layers()}


def steps(model: qfx.QuantizedModel) -> list[str]:
    return [step.op for part in model.explain().parts for step in getattr(part, "steps", ())]


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize("name", QCONFIGS)
def test_programs_compute_what_the_definition_says_everywhere(name: str, threads: None) -> None:
    model = quantized(QCONFIGS[name])
    expected, file = interpret_integers(model, (X,)).output, io.BytesIO()
    qfx.save(model, file)
    assert steps(model) == ["linear_dynamic_grouped"] * 4
    for isa in isa_names():
        loaded = qfx.load(io.BytesIO(file.getvalue()), isa=isa)
        for count in (1, 3):
            qfx.set_num_threads(count)
            equal(loaded(X), expected)
    for size in (1, 3):
        equal(model(X[:1, :size]), expected[:1, :size])


@pytest.mark.parametrize("features", [1, 31, 32, 33, 100, 1000])
def test_the_last_group_may_be_short(features: int) -> None:
    torch.manual_seed(7)
    x = torch.randn(4, features)
    model = quantized(qfx.per_group_dynamic_qconfig, nn.Sequential(nn.Linear(features, 20)), x)
    equal(model(x), interpret_integers(model, (x,)).output)


def test_a_group_that_is_not_finite_makes_nan_of_its_row_alone() -> None:
    model, x = quantized(qfx.int8_groups_dynamic_qconfig, nn.Sequential(nn.Linear(128, 20))), X.clone()
    for value in (torch.nan, torch.inf, -torch.inf):
        x[1, 2, 77] = value
        got = model(x)
        assert got.isnan().any(-1).nonzero().tolist() == [[1, 2]]
        equal(got, interpret_integers(model, (x,)).output)


def test_a_row_of_zeros_gives_the_bias() -> None:
    net = nn.Sequential(nn.Linear(128, 20))
    equal(quantized(qfx.int4_groups_dynamic_qconfig, net)(0 * X), net[0].bias.expand(2, 5, 20).detach())


# ---------------------------------------------------------------- what they keep


def rounded_off(qconfig: Any, layer: nn.Linear, x: Tensor) -> float:
    """How far rounding moves the outputs."""
    return float((quantized(qconfig, nn.Sequential(layer), x)(x) - layer(x)).norm())


@pytest.mark.parametrize("at", [0, 100, 255])
def test_an_outlier_costs_its_own_group_what_it_costs_rows_everywhere(at: int) -> None:
    torch.manual_seed(8)
    layer, x = nn.Linear(256, 64).requires_grad_(False), torch.randn(64, 256)
    x[:, at] = 5000.0  # steps of 20 by rows, 40 by groups: values around 1 become 0
    layer.weight[:, at] /= 5000.0
    group = torch.arange(256) // 32 == at // 32
    alone = torch.arange(256) == at
    without_others, without_group = (
        float((layer(torch.where(kept, x, 0.0)) - layer(x)).norm()) for kept in (alone, alone | ~group)
    )
    assert without_group < 0.5 * without_others
    assert rounded_off(qfx.default_dynamic_qconfig, layer, x) > 0.95 * without_others
    assert rounded_off(qfx.per_group_dynamic_qconfig, layer, x) < 1.05 * without_group


def test_without_outliers_groups_are_no_worse_than_rows() -> None:
    torch.manual_seed(8)
    layer, x = nn.Linear(256, 64).requires_grad_(False), torch.randn(64, 256)
    assert rounded_off(qfx.per_group_dynamic_qconfig, layer, x) < rounded_off(qfx.default_dynamic_qconfig, layer, x)


# ---------------------------------------------------------------- which layers


def test_qconfigs_of_every_kind_mix_by_name() -> None:
    layers = {
        "static": qfx.get_default_qconfig(),
        "rows": qfx.default_dynamic_qconfig,
        "weights": qfx.int4_weight_only_qconfig,
        **{f"groups_{i}": qconfig for i, qconfig in enumerate(QCONFIGS.values())},
        "plain": None,
    }
    torch.manual_seed(9)
    model, mapping = nn.Sequential(), QConfigMapping()
    for name, qconfig in layers.items():
        model.add_module(name, nn.Linear(128, 128))
        mapping.set_module_name(name, qconfig)
    made = qfx.quantize_fx(model.eval(), mapping, [(X,)])
    decided = {r.module_path: r for r in made.report if r.is_layer}
    assert {name: record.decision for name, record in decided.items()} == {
        name: "float" if name in ("weights", "plain") else "int8" for name in layers
    }
    for i, qconfig in enumerate(QCONFIGS.values()):
        assert f"one scale for {qconfig.input_group} features of a row" in decided[f"groups_{i}"].reason
    assert steps(made).count("linear_dynamic_grouped") == len(QCONFIGS)
    equal(made(X), interpret_integers(made, (X,)).output)


def test_what_has_no_groups_stays_float_with_the_reason() -> None:
    model = nn.Sequential(nn.Linear(128, 96), nn.Linear(96, 33), nn.Linear(33, 2))
    found = reasons(quantized(qfx.groups_dynamic_qconfig(4, 64), model))
    assert found["1"] == "its 96 features are no whole groups of 64, which share a scale"
    assert "33 features" in found["2"]
    narrow = qfx.QConfigDynamic(per_group_dynamic_quant_observer, qfx.PerGroupMinMaxObserver.with_args(group_size=16))
    assert "16 of its weights share a scale, no whole groups of 32" in reasons(quantized(narrow))["first"]
    half = qfx.QConfigDynamic(per_group_dynamic_quant_observer, qfx.float16_dynamic_qconfig.weight)
    assert "integer weights, not torch.float16" in reasons(quantized(half))["first"]


class Sequences(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.lstm, self.head = nn.Conv1d(3, 32, 3), nn.LSTM(32, 32, batch_first=True), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(self.conv(x).transpose(1, 2))[0])


@pytest.mark.parametrize("name", ["8-None-symmetric", "int8 a channel"])
def test_convolutions_and_recurrent_layers_stay_float_with_the_reason(name: str) -> None:
    found = reasons(quantized(QCONFIGS[name], Sequences(), torch.randn(2, 3, 12)))
    assert found["conv"] == "a dynamic qconfig quantizes linear and recurrent layers only, not conv"
    assert found["lstm"] == "activations with a scale a group are for linear layers"
    assert "one scale for 32 features of a row" in found["head"]


def test_tables_are_stored_as_weights_are() -> None:
    torch.manual_seed(11)
    ids = torch.arange(33).reshape(3, 11)
    net = nn.Sequential(nn.Embedding(33, 128), nn.Linear(128, 33))
    made = quantized(qfx.int4_groups_dynamic_qconfig, net, ids)
    assert reasons(made)["0"] == "weights in 4 bits, one scale for 32 features, looked up as float32"
    equal(made(ids), interpret_integers(made, (ids,)).output)
    by_channel = quantized(QCONFIGS["int8 a channel"], net, ids)
    assert "looked up as float32" in reasons(by_channel)["0"]
    equal(by_channel(ids), interpret_integers(by_channel, (ids,)).output)


def test_a_layer_that_is_used_twice_is_stored_once() -> None:
    stored = {
        weight.array.codes.data_ptr()
        for node in quantized(qfx.int4_groups_dynamic_qconfig).compiled.graph.nodes
        if (weight := node.meta.get("weights", {}).get("weight")) is not None and isinstance(weight.array, StoredWeight)
    }
    assert len(stored) == 3


# ---------------------------------------------------------------- transformers


class Block(nn.Module):
    """Patches, a normalization with an outlier, an attention."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(12)
        self.patches, self.norm = nn.Conv2d(4, 64, 4, 4), nn.LayerNorm(64)
        self.qkv, self.out = nn.Linear(64, 192), nn.Linear(64, 64)
        with torch.no_grad():
            self.norm.weight[5] = 50.0
            self.qkv.weight[:, 5] /= 50.0

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        return x + self.out(nn.functional.scaled_dot_product_attention(q, k, v))


IMAGES = torch.randn(6, 4, 16, 16, generator=torch.Generator().manual_seed(13))


@pytest.mark.parametrize("name", ["8-None-symmetric", "4-32-affine", "int8 a channel"])
@pytest.mark.parametrize("calibrated", [False, True])
def test_patches_rotation_and_scaling_are_those_of_rows(name: str, calibrated: bool) -> None:
    net, given = Block().eval(), {"calibration": [(IMAGES,)]} if calibrated else {"example_inputs": (IMAGES,)}
    rows, groups = (qfx.quantize_fx(net, {"": q}, **given) for q in (qfx.default_dynamic_qconfig, QCONFIGS[name]))
    assert steps(groups).count("linear_dynamic_grouped") == steps(rows).count("linear_dynamic") == 3
    assert steps(groups).count("attention") == 1
    said = {r.module_path: " ".join(r.reasons) for r in groups.report}
    assert "over patches of 4 x 4" in said["patches"]
    assert "rotated in blocks of 64" in said["qkv"]
    if calibrated:
        assert "channels scaled" in said["qkv"] or "4" in name
    equal(groups(IMAGES), interpret_integers(groups, (IMAGES,)).output)


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    "arguments", [{"bits": 5}, {"group_size": 48}, {"group_size": True}, {"group_size": 0}, {"bits": 16}]
)
def test_other_bits_and_groups_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(qfx.QConfigError, match="bits" if "bits" in arguments else "group_size"):
        qfx.groups_dynamic_qconfig(**arguments)


@pytest.mark.parametrize("size", [0, 1, 33, 256])
def test_other_groups_of_inputs_are_refused(size: int) -> None:
    with pytest.raises(qfx.QConfigError, match=f"group_size={size} is no number of inputs"):
        per_group_dynamic_quant_observer.with_args(group_size=size)()


def test_a_scale_along_the_features_is_refused() -> None:
    qconfig = qfx.QConfigDynamic(
        per_group_dynamic_quant_observer, qfx.quantization.default_per_channel_weight_observer.with_args(ch_axis=1)
    )
    with pytest.raises(qfx.ConversionError, match="axis 1"):
        quantized(qconfig)


def test_a_weight_that_is_not_finite_is_named() -> None:
    model = Net()
    with torch.no_grad():
        model.twice.weight[3, 4] = torch.nan
    with pytest.raises(qfx.ConversionError, match="twice is not finite"):
        quantized(qfx.int4_groups_dynamic_qconfig, model)
