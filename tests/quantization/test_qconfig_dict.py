from __future__ import annotations

import pickle
import re
from typing import Any

import pytest
import torch
from torch import nn

from qfx.errors import QConfigError
from qfx.quantization import (
    HistogramObserver,
    MinMaxObserver,
    QConfig,
    default_dynamic_qconfig,
    default_qconfig,
    default_weight_observer,
    get_default_qconfig,
)
from qfx.quantization.qconfig_dict import QConfigRules, parse_qconfig_dict

A, B = (QConfig(MinMaxObserver.with_args(eps=eps), default_weight_observer) for eps in (2**-10, 2**-11))


@pytest.mark.inventory("S209")
def test_dicts_are_accepted_and_later_entries_replace() -> None:
    as_dict = parse_qconfig_dict(
        {"object_type": {nn.Conv2d: A}, "module_name_object_type_order": {("layer1", torch.add, 0): None}}
    )
    as_list = parse_qconfig_dict(
        {
            "object_type": [(nn.Conv2d, B), (nn.Conv2d, A)],
            "module_name_object_type_order": [("layer1", torch.add, 0, None)],
        }
    )
    assert as_dict == as_list


@pytest.mark.parametrize(
    ("entry", "remedy"),
    [
        ({"module_name_regex": [("layer(", A)]}, r"re\.escape"),
        ({"module_name_regex": [(3, A)]}, "as a string, not compiled"),
        ({"module_name": [(nn.Conv2d, A)]}, "'object_type'"),
        ({"module_name_object_type_order": [(None, torch.add, 0, A)]}, "'' for the model"),
        ({"module_name_object_type_order": [("a", torch.add, -1, A)]}, "Count from 0"),
        ({"non_traceable_module_name": [nn.LSTM]}, "'non_traceable_module_class'"),
        ({"non_traceable_module_class": ["lstm"]}, "'non_traceable_module_name'"),
        ({"preserved_attributes": [1]}, "as a string"),
        ({"input_quantized_idxs": [0.0]}, "Count from 0"),
        ({"output_quantized_idxs": 0}, r"\[0\]"),
    ],
)
def test_wrong_entries_come_with_what_to_write(entry: dict[str, Any], remedy: str) -> None:
    with pytest.raises(QConfigError) as caught:
        parse_qconfig_dict(entry)
    assert next(iter(entry)) in caught.value.what
    assert caught.value.remedy is not None
    assert re.search(remedy, caught.value.remedy)


def test_rules_are_values_that_pickle() -> None:
    rules = parse_qconfig_dict({"": get_default_qconfig(), "object_type": [(nn.Linear, default_dynamic_qconfig)]})
    assert pickle.loads(pickle.dumps(rules)) == rules


def test_the_other_keys_are_kept() -> None:
    rules = parse_qconfig_dict(
        {
            "non_traceable_module_name": ["layer1"],
            "non_traceable_module_class": [nn.LSTM],
            "preserved_attributes": ["classes"],
            "input_quantized_idxs": [0],
            "output_quantized_idxs": [],
        }
    )
    assert rules == QConfigRules(
        non_traceable_module_name=("layer1",),
        non_traceable_module_class=(nn.LSTM,),
        preserved_attributes=("classes",),
        input_quantized_idxs=(0,),
    )


@pytest.mark.parametrize(
    ("qconfig_dict", "words"),
    [
        (default_qconfig, ["A qconfig_dict is a dict", "{'': QConfig("]),
        (HistogramObserver, ["A qconfig_dict is a dict", "the class HistogramObserver"]),
        ({"object_types": []}, ["unknown key 'object_types'", "Did you mean 'object_type'", "'module_name_regex'"]),
        ({"layer1": default_qconfig}, ["unknown key 'layer1'", "'module_name'"]),
        ({"": HistogramObserver}, ["qconfig_dict['']", "the class HistogramObserver", "None to keep"]),
        ({"": nn.Linear(1, 1)}, ["an instance of torch.nn.modules.linear.Linear"]),
        ({"": HistogramObserver()}, ["an instance of HistogramObserver"]),
        ({"module_name": [("a", "int8")]}, ["'module_name', a", "an instance of str"]),
        ({"module_name": ["layer1"]}, ["not a list of tuples (key, qconfig)"]),
        ({"module_name": "layer1"}, ["not a list of tuples"]),
        ({"module_name": [(nn.Conv2d, None)]}, ["where a string belongs"]),
        ({"object_type": [(nn.ReLU(), None)]}, ["an instance of ReLU", "the class ReLU"]),
        ({"object_type": [(3, None)]}, ["names 3"]),
        ({"module_name_regex": [("layer(", None)]}, ["'layer('", "no regular expression"]),
        ({"module_name_object_type_order": [("a", nn.ReLU, None)]}, ["(path, type, index, qconfig)"]),
        ({"module_name_object_type_order": [("a", nn.ReLU, -1, None)]}, ["-1"]),
        ({"non_traceable_module_class": [nn.ReLU()]}, ["where a module class belongs"]),
        ({"non_traceable_module_name": "layer1"}, ["where a list belongs"]),
        ({"input_quantized_idxs": [True]}, ["True", "index"]),
        ({"preserved_attributes": [1]}, ["where a string belongs"]),
    ],
)
def test_a_malformed_dict_is_an_error(qconfig_dict: Any, words: list[str]) -> None:
    with pytest.raises(QConfigError) as caught:
        parse_qconfig_dict(qconfig_dict)
    for word in words:
        assert word in str(caught.value)
