from __future__ import annotations

import copy
import functools
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import nn

from qfx import quantization
from qfx.errors import QConfigError
from qfx.quantization import (
    FakeQuantize,
    HistogramObserver,
    MinMaxObserver,
    NoopObserver,
    PerChannelMinMaxObserver,
    PlaceholderObserver,
    QConfig,
    QConfigDynamic,
    default_dynamic_qconfig,
    default_fake_quant,
    default_observer,
    default_qat_qconfig,
    default_qconfig,
    default_weight_fake_quant,
    default_weight_observer,
    float16_dynamic_qconfig,
    get_default_qat_qconfig,
    get_default_qat_qconfig_dict,
    get_default_qconfig,
    get_default_qconfig_dict,
)
from qfx.quantization.qconfig import SMALLEST_SCALE
from tests.quantization.peer import own_qparams, peer_qparams

BACKENDS = ["x86", "fbgemm", "qnnpack", "onednn"]


def test_with_args_chains_and_the_last_wins() -> None:
    factory = MinMaxObserver.with_args(quant_min=0, quant_max=3).with_args(quant_max=7)
    first, second = factory(), factory(quant_max=15)
    assert (first.quant_max, second.quant_max) == (7, 15)
    assert first is not factory()
    assert MinMaxObserver().quant_max == 255


def test_factories_compare_hash_copy_and_pickle_by_value() -> None:
    a, b = MinMaxObserver.with_args(eps=0.5), MinMaxObserver.with_args(eps=0.25).with_args(eps=0.5)
    assert a == b
    assert hash(a) == hash(b)
    assert a not in (MinMaxObserver.with_args(eps=0.25), HistogramObserver.with_args(eps=0.5), MinMaxObserver)
    assert pickle.loads(pickle.dumps(a)) == a == copy.deepcopy(a)
    assert repr(a) == "MinMaxObserver.with_args(eps=0.5)"


def test_factory_arguments_cannot_be_changed_from_outside() -> None:
    factory = MinMaxObserver.with_args(eps=0.5)
    factory.kwargs["eps"] = 0.25
    assert factory().eps == 0.5


def test_the_specified_equalities() -> None:
    assert default_observer == MinMaxObserver.with_args(reduce_range=True)
    assert default_weight_observer == MinMaxObserver.with_args(
        dtype=quantization.observer.base.QDType.qint8,
        qscheme=quantization.observer.base.QScheme.per_tensor_symmetric,
    )
    assert default_qconfig == QConfig(default_observer, default_weight_observer)
    assert default_qat_qconfig == QConfig(default_fake_quant, default_weight_fake_quant)
    assert default_dynamic_qconfig == QConfigDynamic(weight=default_weight_observer)
    assert float16_dynamic_qconfig == QConfigDynamic(weight=NoopObserver.with_args(dtype=torch.float16))
    assert quantization.qconfig.QConfig is QConfig


def test_qconfig_is_a_value() -> None:
    a, b = QConfig(MinMaxObserver, default_weight_observer), QConfig(MinMaxObserver, default_weight_observer)
    assert a == b
    assert len({a, b}) == 1
    assert a != QConfig(HistogramObserver, default_weight_observer)
    assert a != QConfigDynamic(MinMaxObserver, default_weight_observer)
    for value in (a, default_dynamic_qconfig, get_default_qat_qconfig()):
        assert pickle.loads(pickle.dumps(value)) == value == copy.deepcopy(value)
    activation, weight = a
    assert (activation, weight) == (a.activation, a.weight)
    assert "MinMaxObserver" in repr(a)
    with pytest.raises(AttributeError):
        a.weight = None  # type: ignore[misc]


@pytest.mark.parametrize("kind", [QConfig, QConfigDynamic])
@pytest.mark.parametrize("field", ["activation", "weight"])
def test_an_instance_in_place_of_a_factory_is_an_error(kind: Any, field: str) -> None:
    with pytest.raises(QConfigError, match="got an instance of MinMaxObserver") as caught:
        kind(**{"activation": MinMaxObserver, "weight": MinMaxObserver, field: MinMaxObserver()})
    assert "MinMaxObserver.with_args" in str(caught.value)
    with pytest.raises(QConfigError, match="can't be called"):
        kind(**{"activation": MinMaxObserver, "weight": MinMaxObserver, field: 8})


def test_a_class_that_is_no_observer_is_an_error() -> None:
    import torch.ao.quantization as ao

    for foreign in (ao.MinMaxObserver, ao.MinMaxObserver.with_args(quant_min=0, quant_max=127), nn.Linear):
        with pytest.raises(QConfigError, match="no observer of qfx"):
            QConfig(foreign, default_weight_observer)
    for accepted in (nn.Identity, functools.partial(MinMaxObserver, eps=0.5), lambda: MinMaxObserver(eps=0.5)):
        assert QConfig(accepted, default_weight_observer).activation is accepted


def test_which_qconfigs_are_dynamic() -> None:
    assert default_dynamic_qconfig.is_dynamic
    assert QConfig(PlaceholderObserver.with_args(is_dynamic=True), default_weight_observer).is_dynamic
    assert QConfig(functools.partial(PlaceholderObserver, is_dynamic=True), default_weight_observer).is_dynamic
    assert not default_qconfig.is_dynamic


def test_our_default() -> None:
    activation, weight = get_default_qconfig().activation(), get_default_qconfig().weight()
    assert type(activation) is HistogramObserver
    assert activation.eps == weight.eps == SMALLEST_SCALE
    assert torch.finfo(torch.float32).tiny < SMALLEST_SCALE**2
    assert (activation.quant_min, activation.quant_max) == (0, 255)
    assert isinstance(weight, PerChannelMinMaxObserver)
    assert (weight.quant_min, weight.quant_max) == (-128, 127)
    assert get_default_qconfig_dict() == {"": get_default_qconfig()}
    assert get_default_qat_qconfig_dict("x86") == {"": get_default_qat_qconfig("x86")}


def peer(function: str, *args: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch.ao.quantization as ao

        return getattr(ao, function)(*args)


@pytest.mark.parametrize("part", ["activation", "weight"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_named_qconfigs_give_the_peers_qparams(backend: str, part: str) -> None:
    data = [torch.randn(6, 4, 3, 3) * scale for scale in (1, 2, 1.5)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = getattr(peer("get_default_qconfig", backend), part)()
    assert own_qparams(getattr(get_default_qconfig(backend), part)(), data) == peer_qparams(theirs, data)


@pytest.mark.parametrize("part", ["activation", "weight"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_named_training_qconfigs_give_the_peers_values(backend: str, part: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = getattr(peer("get_default_qat_qconfig", backend, 0), part)()
        ours = getattr(get_default_qat_qconfig(backend), part)()
        for scale in (1, 2, 1.5):
            x = torch.randn(6, 4, 3, 3) * scale
            assert torch.equal(ours(x), theirs(x))
    assert ours.scale.tolist() == theirs.scale.tolist()
    assert ours.zero_point.tolist() == theirs.zero_point.tolist()


@pytest.mark.parametrize(
    "name",
    [
        "default_qconfig",
        "default_per_channel_qconfig",
        "default_symmetric_qnnpack_qconfig",
        "default_per_channel_symmetric_qnnpack_qconfig",
    ],
)
def test_default_qconfigs_give_the_peers_qparams(name: str) -> None:
    data = [torch.randn(6, 4) * scale for scale in (1, 2, 1.5)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch.ao.quantization.qconfig as ao

        theirs = getattr(ao, name)
        pairs = [(o(), t()) for o, t in zip(getattr(quantization, name), theirs, strict=True)]
    for ours, peers in pairs:
        assert own_qparams(ours, data) == peer_qparams(peers, data)


@pytest.mark.parametrize("get", [get_default_qconfig, get_default_qat_qconfig])
def test_an_unknown_name_is_an_error_with_the_nearest(get: Any) -> None:
    with pytest.raises(QConfigError, match="'qnpack'") as caught:
        get("qnpack")
    assert "Did you mean 'qnnpack'" in str(caught.value)
    assert "'onednn'" in str(caught.value)


def test_everything_named_is_there() -> None:
    for name in quantization.__all__:
        assert hasattr(quantization, name)
    assert issubclass(FakeQuantize, nn.Module)
