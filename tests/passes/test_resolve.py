from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

from qfx.errors import QConfigError
from qfx.passes.resolve import Spelled, parse_qconfig_dict, resolve
from qfx.quantization import (
    MinMaxObserver,
    QConfig,
    default_weight_observer,
)

A, B, C, D = (
    QConfig(MinMaxObserver.with_args(eps=eps), default_weight_observer) for eps in (2**-10, 2**-11, 2**-12, 2**-13)
)


class Block(nn.Module):
    pass


MODULES = {
    "": nn.Module,
    "stem": nn.Conv2d,
    "layer1": Block,
    "layer1.conv1": nn.Conv2d,
    "layer1.conv2": nn.Conv2d,
    "layer1.drop": nn.Dropout,
    "layer10": Block,
    "layer10.conv1": nn.Conv2d,
    "fc": nn.Linear,
}

OPS: tuple[tuple[str, str, Any], ...] = (
    ("stem", "stem", nn.Conv2d),
    ("relu", "", F.relu),
    ("l1_conv1", "layer1.conv1", nn.Conv2d),
    ("l1_add", "layer1", operator.add),
    ("l1_conv2", "layer1.conv2", nn.Conv2d),
    ("l1_add_1", "layer1", operator.add),
    ("l10_conv1", "layer10.conv1", nn.Conv2d),
    ("l10_add", "layer10", torch.add),
    ("mean", "", "mean"),
    ("fc", "fc", nn.Linear),
)


def model(ops: Iterable[tuple[str, str, Any]] = OPS, **meta: Any) -> fx.GraphModule:
    """A graph of ``(node name, module path, spelling)``; every node is a call of one function."""
    graph = fx.Graph()
    value = graph.placeholder("x")
    for name, path, alias in ops:
        value = graph.create_node("call_function", torch.neg, (value,), name=name)
        value.meta.update(module_path=path, alias=alias, **meta)
        if isinstance(alias, type):
            value.meta["module_class"] = alias
    graph.output(value)
    return fx.GraphModule(nn.Module(), graph)


def resolved(qconfig_dict: dict[str, Any], **kwargs: Any) -> dict[str, QConfig | None]:
    spelled = Spelled(MODULES, frozenset({"contiguous"}))
    found = resolve(model(**kwargs), parse_qconfig_dict(qconfig_dict), spelled)
    return {name: qconfig for name, (qconfig, _) in found.items()}


def test_the_default_holds_for_every_op() -> None:
    assert resolved({"": A}) == {name: A for name, _, _ in OPS}


def test_without_an_entry_an_op_stays_float() -> None:
    found = resolve(model(), parse_qconfig_dict({"object_type": [(nn.Linear, A)]}))
    assert found["fc"] == (A, "object_type Linear")
    assert found["stem"] == (None, "no entry")


@pytest.mark.inventory("S209")
def test_the_five_priorities() -> None:
    rules: dict[str, Any] = {"": None}
    steps: list[tuple[dict[str, Any], QConfig | None]] = [
        ({"": A}, A),
        ({"object_type": [(nn.Conv2d, B)]}, B),
        ({"module_name_regex": [("layer1\\.conv.*", C)]}, C),
        ({"module_name": [("layer1.conv2", D)]}, D),
        ({"module_name_object_type_order": [("layer1", nn.Conv2d, 1, None)]}, None),
    ]
    for entry, expected in steps:
        rules |= entry
        assert resolved(rules)["l1_conv2"] == expected
        # What comes later in the dict does not matter.
        assert resolved(dict(reversed(rules.items())))["l1_conv2"] == expected


def test_the_rule_is_reported() -> None:
    rules = parse_qconfig_dict(
        {
            "": A,
            "object_type": [(F.relu, None)],
            "module_name_regex": [("fc", B)],
            "module_name": [("layer10", C)],
            "module_name_object_type_order": [("layer1", operator.add, 1, D)],
        }
    )
    found = {name: rule for name, (_, rule) in resolve(model(), rules).items()}
    assert found["stem"] == '""'
    assert found["relu"] == "object_type relu"
    assert found["fc"] == "module_name_regex 'fc'"
    assert found["l10_add"] == "module_name 'layer10'"
    assert found["l1_add_1"] == "module_name_object_type_order ('layer1', add, 1)"


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (nn.Conv2d, {"stem", "l1_conv1", "l1_conv2", "l10_conv1"}),
        (nn.modules.conv._ConvNd, {"stem", "l1_conv1", "l1_conv2", "l10_conv1"}),
        (operator.add, {"l1_add", "l1_add_1"}),
        (torch.add, {"l10_add"}),
        ("mean", {"mean"}),
        (Block, {"l1_conv1", "l1_add", "l1_conv2", "l1_add_1", "l10_conv1", "l10_add"}),
    ],
)
def test_object_types(kind: Any, names: set[str]) -> None:
    found = resolved({"": A, "object_type": [(kind, B)]})
    assert {name for name, qconfig in found.items() if qconfig is B} == names


def test_the_ops_own_type_counts_before_the_modules_around_it() -> None:
    found = resolved({"object_type": [(Block, A), (nn.Module, B), (nn.Conv2d, C), (torch.add, D)]})
    assert (found["l1_conv1"], found["l1_add"], found["l10_add"], found["fc"]) == (C, A, D, B)


def test_a_module_name_holds_below_and_the_deepest_wins() -> None:
    found = resolved({"": A, "module_name": [("layer1", B), ("layer1.conv2", C)]})
    assert [found[n] for n in ("l1_conv1", "l1_add", "l1_conv2", "l10_conv1")] == [B, B, C, A]


def test_the_first_pattern_that_matches_wins() -> None:
    found = resolved({"": A, "module_name_regex": [(r"layer\d+\.conv1", B), ("layer1", C)]})
    assert [found[n] for n in ("l1_conv1", "l1_add", "l10_add", "l10_conv1", "stem")] == [B, C, C, B, A]


def test_orders_count_within_one_module() -> None:
    found = resolved(
        {
            "": A,
            "module_name_object_type_order": [
                ("layer1", operator.add, 1, B),
                ("layer1", nn.Conv2d, 0, C),
                ("", nn.Conv2d, 0, D),
            ],
        }
    )
    assert [found[n] for n in ("l1_add", "l1_add_1", "l1_conv1", "l1_conv2", "stem", "l10_conv1")] == [A, B, C, A, D, A]


def test_orders_count_calls_not_nodes() -> None:
    gm = model([("a", "", torch.chunk), ("b", "", torch.chunk), ("c", "", torch.chunk)])
    a, b, c = gm.graph.find_nodes(op="call_function", target=torch.neg)
    a.meta["call"] = b.meta["call"] = "chunk"
    found = resolve(gm, parse_qconfig_dict({"module_name_object_type_order": [("", torch.chunk, 1, A)]}))
    assert [found[n.name][0] for n in (a, b, c)] == [None, None, A]


def test_resolve_changes_nothing() -> None:
    gm = model()
    before = [(n.name, dict(n.meta)) for n in gm.graph.nodes]
    resolve(gm, parse_qconfig_dict({"": A}))
    assert [(n.name, dict(n.meta)) for n in gm.graph.nodes] == before


@pytest.mark.parametrize(
    "entry",
    [
        {"module_name": [("layer1.drop", A)]},
        {"object_type": [(nn.Dropout, A)]},
        {"object_type": [("contiguous", A)]},
        {"module_name_regex": [(".*drop", A)]},
        {"module_name": [("", A)]},
    ],
)
def test_what_passes_have_removed_is_no_mistake(entry: dict[str, Any]) -> None:
    resolved(entry)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"module_name": [("layer1.conv3", A)]}, ["'layer1.conv3'", "Nearest", "layer1.conv1"]),
        ({"module_name": [("layer", A)]}, ["'layer'", "layer1"]),
        ({"module_name_regex": [("block.*", A)]}, ["'block.*'", "no module's path"]),
        ({"object_type": [(nn.Conv3d, A)]}, ["'Conv3d'", "Conv2d"]),
        ({"object_type": [(F.relu6, A)]}, ["'relu6'", "relu"]),
        ({"object_type": [("mean_", A)]}, ["'mean_'", "mean"]),
        ({"non_traceable_module_name": ["layer2"]}, ["'layer2'", "layer1"]),
        ({"non_traceable_module_class": [nn.LSTM]}, ["non_traceable_module_class", "'LSTM'"]),
        ({"module_name_object_type_order": [("layer2", torch.add, 0, A)]}, ["'layer2'", "layer1"]),
        ({"module_name_object_type_order": [("layer1", torch.add, 0, A)]}, ["calls no such operation itself"]),
        ({"module_name_object_type_order": [("layer1", operator.add, 2, A)]}, ["has 2", "0 to 1"]),
    ],
)
def test_what_matches_nothing_is_an_error_with_the_nearest(entry: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(QConfigError) as caught:
        resolved({"": A} | entry)
    for word in words:
        assert word in str(caught.value)
