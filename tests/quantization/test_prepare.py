"""Qconfigs that reach modules, and observers put where they say."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qfx.nn.quantized as nnq
from qfx.errors import InputError, QConfigError
from qfx.quantization import (
    DeQuantStub,
    MinMaxObserver,
    Observer,
    QConfig,
    QuantStub,
    add_observer_,
    convert,
    default_qconfig,
    default_static_mapping,
    default_weight_observer,
    prepare,
    propagate_qconfig_,
)
from tests.quantization.eager_net import OBSERVED, OTHER, QCONFIG, Net, data, net, observers


class TestPropagate:
    @pytest.mark.inventory("S081", "S208")
    def test_a_parent_reaches_every_leaf_and_a_childs_own_wins(self) -> None:
        model = Net()
        model.qconfig = QCONFIG
        model.features.qconfig = OTHER
        propagate_qconfig_(model)
        leaves = {n: m.qconfig for n, m in model.named_modules() if not list(m.children())}
        assert leaves.keys() >= {"quant", "features.0", "features.3", "conv", "fc", "dequant"}
        assert {n: q is OTHER for n, q in leaves.items()} == {n: n.startswith("features") for n in leaves}
        assert {id(q) for q in leaves.values()} == {id(QCONFIG), id(OTHER)}

    @pytest.mark.inventory("S081", "S202")
    def test_none_stops(self) -> None:
        model = Net()
        model.qconfig = QCONFIG
        model.features.qconfig = None
        propagate_qconfig_(model)
        assert getattr(model.features[0], "qconfig", None) is None
        assert observers(prepare(model)) == ["quant", "skip", "conv", "fc"]

    @pytest.mark.inventory("S081", "S209")
    def test_a_dict_by_name_and_type_the_most_specific_wins(self) -> None:
        third = default_qconfig
        model = Net()
        propagate_qconfig_(model, {"": QCONFIG, nn.Conv2d: OTHER, "features.0": third, "fc": None})
        assert model.conv.qconfig is OTHER
        assert model.features[0].qconfig is third
        assert model.skip.qconfig is QCONFIG
        assert getattr(model.fc, "qconfig", None) is None
        sections = Net()
        propagate_qconfig_(sections, {"": QCONFIG, "object_type": [(nn.Conv2d, OTHER)], "module_name": {"fc": None}})
        assert sections.conv.qconfig is OTHER
        assert getattr(sections.fc, "qconfig", None) is None

    @pytest.mark.parametrize(
        ("given", "reason"),
        [
            ({"nowhere": QCONFIG}, "names 'nowhere'"),
            ({"fc": "int8"}, "The qconfig of 'fc' is builtins.str"),
            ({3: QCONFIG}, "has the key 3"),
            (QCONFIG, "A qconfig_dict is a dict, not QConfig"),
        ],
    )
    def test_what_is_no_qconfig_dict_raises(self, given: Any, reason: str) -> None:
        with pytest.raises(QConfigError, match=reason):
            propagate_qconfig_(Net(), given)

    def test_a_foreign_qconfig_attribute_raises(self) -> None:
        model = Net()
        model.fc.qconfig = "fbgemm"
        with pytest.raises(QConfigError, match=r"qconfig of fc is builtins\.str"):
            prepare(model)


@pytest.mark.inventory("S075")
def test_add_observer_adds_to_leaves_with_a_qconfig_once() -> None:
    model = net()
    model.fc.qconfig = None
    propagate_qconfig_(model)
    add_observer_(model)
    assert observers(model) == OBSERVED[:-1]
    before = {name: id(m) for name, m in model.named_modules()}
    hooks = len(model.conv._forward_hooks)
    add_observer_(model)
    assert {name: id(m) for name, m in model.named_modules()} == before
    assert len(model.conv._forward_hooks) == hooks == 1
    assert not [n for n, _ in model.named_modules() if n.startswith("features.0.0.")]


class TestPrepare:
    @pytest.mark.inventory("S079", "S193")
    def test_returns_an_observed_copy(self) -> None:
        model, x = net(), data()
        prepared = prepare(model)
        assert observers(prepared) == OBSERVED
        assert observers(model) == []
        assert torch.equal(prepared(x), model(x))
        again = prepare(model)
        again(x)
        assert set(prepared.state_dict()) == set(again.state_dict())

    @pytest.mark.inventory("S079")
    def test_in_place(self) -> None:
        model = net()
        assert prepare(model, inplace=True) is model
        assert observers(model) == OBSERVED

    @pytest.mark.inventory("S079")
    def test_warns_when_nothing_has_a_qconfig(self) -> None:
        with pytest.warns(UserWarning, match="No module has a qconfig"):
            prepared = prepare(Net())
        assert observers(prepared) == []

    def test_warns_of_a_subclass_that_no_mapping_names(self) -> None:
        class Mine(nn.Linear):
            pass

        model = nn.Sequential(Mine(2, 2))
        model.qconfig = QCONFIG
        with pytest.warns(UserWarning, match="0 stays float.*Mine is a subclass of Linear"):
            prepare(model)
        mapping = {**default_static_mapping(), Mine: nnq.Linear}
        prepared = prepare(model, mapping=mapping)
        assert observers(prepared) == ["0"]
        prepared(torch.randn(4, 2))
        assert type(convert(prepared, mapping)[0]) is nnq.Linear

    @pytest.mark.inventory("S204")
    def test_the_observer_has_two_names_and_is_one_module(self) -> None:
        prepared = prepare(net())
        for name in OBSERVED:
            module = prepared.get_submodule(name)
            assert module.observer is module.activation_post_process
            assert isinstance(module.observer, Observer)
        twin = copy.deepcopy(prepared)
        assert twin.conv.observer is twin.conv.activation_post_process
        assert twin.conv.observer is not prepared.conv.observer
        assert not [key for key in prepared.state_dict() if "observer" in key]

    @pytest.mark.inventory("S194")
    def test_observers_see_the_data_without_gradients_and_in_evaluation(self) -> None:
        prepared, x = prepare(net()), data()
        with torch.no_grad():
            prepared(x[:4])
            prepared(x[4:])
        assert float(prepared.quant.observer.min_val) == float(x.min())
        assert float(prepared.quant.observer.max_val) == float(x.max())

    @pytest.mark.inventory("S209")
    def test_takes_a_qconfig_dict(self) -> None:
        prepared = prepare(Net().eval(), qconfig_dict={nn.Linear: QCONFIG})
        assert observers(prepared) == ["fc"]
        rules = {"": None, nn.Linear: None, nn.Conv2d: QCONFIG, "fc": OTHER, "features.0": None}
        for given in (rules, dict(reversed(rules.items()))):  # name over type over default, in any order
            prepared = prepare(Net().eval(), qconfig_dict=given)
            assert observers(prepared) == ["conv", "fc"]
            assert (prepared.conv.qconfig, prepared.fc.qconfig) == (QCONFIG, OTHER)
        with pytest.raises(InputError, match="inplace is dict"):
            prepare(Net(), {"": QCONFIG})  # type: ignore[arg-type]

    @pytest.mark.inventory("S188")
    def test_a_module_that_is_called_twice_has_one_observer_for_both(self) -> None:
        class Twice(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.quant, self.fc, self.dequant = QuantStub(), nn.Linear(4, 4), DeQuantStub()
                self.qconfig = QConfig(MinMaxObserver, default_weight_observer)

            def forward(self, x: Tensor) -> Tensor:
                return self.dequant(self.fc(self.fc(self.quant(x))))

        model = Twice().eval()
        prepared, x = prepare(model), torch.randn(16, 4)
        prepared(x)
        results = torch.stack([model.fc(x), model.fc(model.fc(x))]).detach()
        assert float(prepared.fc.observer.max_val) == float(results.max())
        assert (convert(prepared)(x) - model(x)).abs().max() < 0.1
