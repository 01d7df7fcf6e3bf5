"""QConfigMapping and the custom configurations: what a dict says, by calls; one conversion for both."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

import qfx
from qfx.passes.resolve import parse_qconfig_dict
from qfx.quantization import ConvertCustomConfig, FuseCustomConfig, PrepareCustomConfig, QConfigMapping, QuantType
from qfx.quantization.custom_entries import with_custom_config
from tests.quantization import custom

A, B = qfx.get_default_qconfig(), qfx.get_default_qconfig("qnnpack")
X = custom.X

CALLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "empty": (lambda m: m, {}),
    "global": (lambda m: m.set_global(A), {"": A}),
    "none": (lambda m: m.set_global(A).set_global(None), {}),
    "types": (
        lambda m: m.set_object_type(nn.Linear, None).set_object_type(torch.add, A).set_object_type("sigmoid", B),
        {"object_type": [(nn.Linear, None), (torch.add, A), ("sigmoid", B)]},
    ),
    "patterns": (
        lambda m: m.set_module_name_regex("a.*", A).set_module_name_regex("b", None),
        {"module_name_regex": [("a.*", A), ("b", None)]},
    ),
    "names": (
        lambda m: m.set_module_name("a", A).set_module_name("b.c", B).set_module_name("a", None),
        {"module_name": [("a", None), ("b.c", B)]},
    ),
    "order": (
        lambda m: m.set_module_name_object_type_order("a", nn.Linear, 1, B),
        {"module_name_object_type_order": [("a", nn.Linear, 1, B)]},
    ),
    "all": (
        lambda m: (
            m.set_global(A)
            .set_module_name_object_type_order("", torch.add, 0, None)
            .set_module_name("x", B)
            .set_module_name_regex("y", A)
            .set_object_type("relu", None)
        ),
        {
            "": A,
            "object_type": [("relu", None)],
            "module_name_regex": [("y", A)],
            "module_name": [("x", B)],
            "module_name_object_type_order": [("", torch.add, 0, None)],
        },
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_it_is_the_dict_that_its_calls_say(name: str) -> None:
    build, expected = CALLS[name]
    mapping = build(QConfigMapping())
    assert dict(mapping) == expected == mapping
    assert len(mapping) == len(expected)
    assert parse_qconfig_dict(mapping) == parse_qconfig_dict(expected)
    assert QConfigMapping.from_dict(expected) == mapping
    assert QConfigMapping.from_dict(mapping.to_dict()) == mapping
    assert mapping.to_dict().keys() == {
        "", "object_type", "module_name_regex", "module_name", "module_name_object_type_order",
    }  # fmt: skip
    for again in (copy.deepcopy(mapping), pickle.loads(pickle.dumps(mapping))):
        assert again == mapping
    assert repr(mapping).startswith("QConfigMapping (")
    for section in expected:
        assert not section or f"{section}_qconfigs: " in repr(mapping)


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.set_global(7),
        lambda m: m.set_object_type(nn.Linear(1, 1), A),
        lambda m: m.set_module_name_regex("(", A),
        lambda m: m.set_module_name(nn.Linear, A),
        lambda m: m.set_module_name_object_type_order("a", nn.Linear, -1, A),
        lambda m: QConfigMapping.from_dict({"preserved_attributes": ["a"]}),
        lambda m: QConfigMapping.from_dict({"modul_name": []}),
        lambda m: qfx.get_default_qconfig_mapping("armpit"),
        lambda m: qfx.get_default_qconfig_mapping(version=1),
        lambda m: qfx.get_default_qat_qconfig_mapping(version=2),
    ],
)
def test_mistakes_are_named_where_they_are_made(call: Any) -> None:
    with pytest.raises(qfx.QConfigError) as raised:
        call(QConfigMapping())
    assert raised.value.remedy


def test_a_mapping_may_name_types_that_a_model_lacks() -> None:
    net = nn.Sequential(nn.Linear(*X.shape[-1:], 3))
    mapping = QConfigMapping().set_global(A).set_object_type(nn.ReLU, None).set_object_type("sigmoid", None)
    with pytest.warns(qfx.UnusedEntryWarning, match="names") as caught:
        model = qfx.quantize_fx(net, mapping, [X])
    assert [kind for w in caught for kind in ("ReLU", "sigmoid") if kind in str(w.message)] == ["ReLU", "sigmoid"]
    assert model.report
    with pytest.raises(qfx.QConfigError, match="ReLU"):
        qfx.quantize_fx(net, dict(mapping), [X])
    with pytest.raises(qfx.QConfigError, match="head"):
        qfx.quantize_fx(net, QConfigMapping().set_global(A).set_module_name("head", None), [X])


@pytest.mark.parametrize("backend", [None, "x86", "qnnpack"])
def test_the_defaults(backend: str | None) -> None:
    assert qfx.get_default_qconfig_mapping(backend) == {"": qfx.get_default_qconfig(backend)}
    assert qfx.get_default_qat_qconfig_mapping(backend, version=0) == {"": qfx.get_default_qat_qconfig(backend)}


TAKEN = {
    "quantize_fx": lambda m, q: qfx.quantize_fx(m, q, [X]),
    "prepare_fx": lambda m, q: qfx.convert_fx(calibrated(qfx.prepare_fx(m, q, (X,)))),
    "convert_fx": lambda m, q: qfx.convert_fx(calibrated(qfx.prepare_fx(m, q, (X,))), qconfig_mapping=q),
    "quantize_jit": lambda m, q: qfx.quantization.quantize_jit(m, q, lambda prepared: prepared(X)),
    "merged": lambda m, q: qfx.quantize_fx(m, qfx.merge_qconfig_dict(q, {}), [X]),
    "sensitivity": lambda m, q: qfx.quantize_fx(m, qfx.sensitivity(m, q, [X]).as_qconfig_dict(0), [X]),
}


def calibrated(prepared: Any) -> Any:
    prepared(X)
    return prepared


@pytest.mark.parametrize("name", TAKEN)
def test_every_call_takes_a_mapping_as_it_takes_a_dict(name: str) -> None:
    mapping = QConfigMapping().set_global(A).set_module_name("last", None)
    net = custom.net()
    assert torch.equal(TAKEN[name](net, mapping)(X), TAKEN[name](net, dict(mapping))(X))


def test_training_takes_a_mapping() -> None:
    prepared = qfx.prepare_qat_fx(custom.net(), qfx.get_default_qat_qconfig_mapping(), (X,))
    prepared(X).sum().backward()
    assert qfx.convert_fx(prepared.eval(), qconfig_mapping=qfx.get_default_qat_qconfig_mapping()).report.decided("int8")


# ---------------------------------------------------------------- custom configurations


def prepared_by(**said: Any) -> Any:
    return qfx.prepare_fx(custom.net(), {"": A}, (X,), **said)


FULL = (
    PrepareCustomConfig()
    .set_standalone_module_name("first", QConfigMapping().set_global(B), (X,), None, None)
    .set_standalone_module_class(custom.Custom, None, (X,), None, None)
    .set_float_to_observed_mapping(custom.Custom, custom.Observed)
    .set_non_traceable_module_names(["last"])
    .set_non_traceable_module_classes([custom.Net])
    .set_input_quantized_indexes([0])
    .set_output_quantized_indexes([0])
    .set_preserved_attributes(["labels"])
)


@pytest.mark.parametrize(
    "config",
    [
        FULL,
        ConvertCustomConfig()
        .set_preserved_attributes(["a"])
        .set_observed_to_quantized_mapping(custom.Observed, custom.Quantized),
        FuseCustomConfig().set_preserved_attributes(["a"]),
        PrepareCustomConfig(),
    ],
    ids=["prepare", "convert", "fuse", "empty"],
)  # fmt: skip
def test_a_configuration_is_its_dict(config: Any) -> None:
    again = type(config).from_dict(config.to_dict())
    assert vars(again) == vars(config)
    assert again.to_dict() == config.to_dict()
    assert type(config).__name__ in repr(config)


def test_every_key_that_torch_had_is_taken() -> None:
    assert {*FULL.to_dict()} == {
        "standalone_module_name", "standalone_module_class", "float_to_observed_custom_module_class",
        "non_traceable_module_name", "non_traceable_module_class", "input_quantized_idxs", "output_quantized_idxs",
        "preserved_attributes",
    }  # fmt: skip
    assert FULL.float_to_observed_mapping == {QuantType.STATIC: {custom.Custom: custom.Observed}}


def test_attributes_are_preserved_from_either_side() -> None:
    prepared = calibrated(prepared_by(prepare_custom_config={"preserved_attributes": ["labels"]}))
    prepared.note = "here"
    quantized = qfx.convert_fx(prepared, ConvertCustomConfig().set_preserved_attributes(["note"]))
    assert (quantized.labels, quantized.note) == (["a", "b"], "here")
    fused = qfx.fuse_fx(custom.net(), FuseCustomConfig().set_preserved_attributes(["labels"]))
    assert fused.labels == ["a", "b"]


def test_it_says_what_the_qconfig_dict_can_say() -> None:
    by_dict = qfx.quantize_fx(custom.net(), {"": A, "non_traceable_module_name": ["custom"]}, [X])
    by_config = qfx.quantize_fx(
        custom.net(),
        {"": A},
        [X],
        prepare_custom_config=PrepareCustomConfig().set_non_traceable_module_names(["custom"]),
    )
    assert str(by_config.report) == str(by_dict.report)


def test_a_standalone_module_has_its_own_qconfigs() -> None:
    own = QConfigMapping().set_global(B).set_module_name("linear", None).set_module_name_regex("lin", A)
    own.set_module_name_object_type_order("", nn.Linear, 0, A)
    config = PrepareCustomConfig().set_standalone_module_class(custom.Custom, own, (X,), None, None)
    rules = with_custom_config(parse_qconfig_dict({"": A}), config, custom.net())
    assert rules.module_name == (("custom", B), ("custom.linear", None))
    assert rules.module_name_regex == ((r"custom\.(?:lin)", A),)
    assert rules.module_name_object_type_order == ((("custom", nn.Linear, 0), A),)
    float_part = PrepareCustomConfig().set_standalone_module_name("first", QConfigMapping().set_module_name("", None))
    assert with_custom_config(parse_qconfig_dict({"": A}), PrepareCustomConfig(), custom.net()).module_name == ()
    assert float_part.to_dict()["standalone_module_name"][0][0] == "first"


class BackendConfig:
    """As torch's, by name."""


REFUSED: dict[str, tuple[Any, str]] = {
    "backend_config": (lambda: prepared_by(backend_config=BackendConfig()), "backend_config"),
    "equalization": (lambda: prepared_by(_equalization_config=QConfigMapping()), "_equalization_config"),
    "unknown key": (lambda: prepared_by(prepare_custom_config={"additional_fuser_method_mapping": {}}), "no key"),
    "no config": (lambda: prepared_by(prepare_custom_config=[1]), "can't be made of list"),
    "no list": (lambda: prepared_by(prepare_custom_config={"preserved_attributes": "labels"}), "where a list belongs"),
    "flat classes": (
        lambda: prepared_by(prepare_custom_config={"float_to_observed_custom_module_class": {custom.Custom: nn.ReLU}}),
        "no dict of dicts",
    ),
    "missing attribute": (
        lambda: prepared_by(prepare_custom_config={"preserved_attributes": ["nothing"]}), "does not have",
    ),
    "standalone types": (
        lambda: prepared_by(
            prepare_custom_config=PrepareCustomConfig().set_standalone_module_name(
                "first", QConfigMapping().set_object_type(nn.Linear, None)
            )
        ),
        "by type of operation",
    ),
    "nested": (
        lambda: prepared_by(
            prepare_custom_config=PrepareCustomConfig().set_standalone_module_name(
                "first", None, None, PrepareCustomConfig().set_preserved_attributes(["a"])
            )
        ),
        "a PrepareCustomConfig of its own",
    ),
    "is_reference": (lambda: qfx.convert_fx(calibrated(prepared_by()), is_reference=True), "reference model"),
    "keep_original_weights": (
        lambda: qfx.convert_fx(calibrated(prepared_by()), keep_original_weights=True), "no float weights",
    ),
    "another mapping": (
        lambda: qfx.convert_fx(calibrated(prepared_by()), qconfig_mapping={"": A, "module_name": [("last", None)]}),
        "another qconfig_mapping",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_meaning_here_is_refused_by_name(name: str) -> None:
    call, text = REFUSED[name]
    with pytest.raises(qfx.QConfigError, match=text) as raised:
        call()
    assert raised.value.remedy


def test_batch_norms_stay_for_training_whatever_the_mode() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
    for model in (net.train(), net.eval()):
        fused = qfx.quantization.fuse_modules_qat(model, ["0", "1", "2"])
        assert type(fused[0]) is qfx.nn.intrinsic.ConvBnReLU2d
        assert fused[0].training is model.training
    assert type(qfx.quantization.fuse_modules(net, ["0", "1", "2"])[0]) is qfx.nn.intrinsic.ConvReLU2d
