from __future__ import annotations

import copy
import functools
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import nn

import qfx
from qfx import quantization
from qfx.errors import QConfigError
from qfx.ir.types import QDType
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
    default_dynamic_quant_observer,
    default_fake_quant,
    default_observer,
    default_per_channel_weight_observer,
    default_qat_qconfig,
    default_qconfig,
    default_weight_fake_quant,
    default_weight_observer,
    float16_dynamic_qconfig,
    get_default_qat_qconfig,
    get_default_qat_qconfig_dict,
    get_default_qconfig,
    get_default_qconfig_dict,
    per_channel_dynamic_qconfig,
    per_tensor_dynamic_qconfig,
    per_tensor_dynamic_quant_observer,
)
from qfx.quantization.qconfig import SMALLEST_SCALE
from tests.quantization.peer import own_qparams, peer_qparams

BACKENDS = ["x86", "fbgemm", "qnnpack", "onednn"]


@pytest.mark.inventory("S220")
def test_with_args_chains_and_the_last_wins() -> None:
    factory = MinMaxObserver.with_args(quant_min=0, quant_max=3).with_args(quant_max=7)
    first, second = factory(), factory(quant_max=15)
    assert (first.quant_max, second.quant_max) == (7, 15)
    assert first is not factory()
    assert MinMaxObserver().quant_max == 255


@pytest.mark.inventory("S220")
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


@pytest.mark.inventory("S091", "S093", "S094", "S095", "S096", "S097", "S105", "S106")
def test_the_specified_equalities() -> None:
    assert default_observer == MinMaxObserver.with_args(reduce_range=True)
    assert default_weight_observer == MinMaxObserver.with_args(
        dtype=quantization.observer.base.QDType.qint8,
        qscheme=quantization.observer.base.QScheme.per_tensor_symmetric,
    )
    assert default_qconfig == QConfig(default_observer, default_weight_observer)
    assert default_qat_qconfig == QConfig(default_fake_quant, default_weight_fake_quant)
    assert per_tensor_dynamic_qconfig == QConfigDynamic(per_tensor_dynamic_quant_observer, default_weight_observer)
    assert default_dynamic_qconfig == per_channel_dynamic_qconfig == QConfigDynamic()
    assert tuple(default_dynamic_qconfig) == (default_dynamic_quant_observer, default_per_channel_weight_observer)
    assert float16_dynamic_qconfig == QConfigDynamic(NoopObserver, NoopObserver.with_args(dtype=torch.float16))
    assert quantization.qconfig.QConfig is QConfig
    assert quantization.qconfig.QConfigDynamic is QConfigDynamic


@pytest.mark.inventory("S090", "S092")
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
@pytest.mark.inventory("S090", "S092")
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


@pytest.mark.inventory("S092")
def test_which_qconfigs_are_dynamic() -> None:
    assert default_dynamic_qconfig.is_dynamic
    assert QConfig(PlaceholderObserver.with_args(is_dynamic=True), default_weight_observer).is_dynamic
    assert QConfig(functools.partial(PlaceholderObserver, is_dynamic=True), default_weight_observer).is_dynamic
    assert not default_qconfig.is_dynamic


def test_which_qconfigs_give_rows_scales_of_their_own() -> None:
    by_rows = QConfigDynamic(weight=default_weight_observer), QConfig(default_dynamic_quant_observer, MinMaxObserver)
    for qconfig in (default_dynamic_qconfig, per_channel_dynamic_qconfig, *by_rows):
        assert qconfig.per_row
        assert qconfig.is_dynamic
    before = QConfigDynamic(NoopObserver, default_weight_observer)  # as files hold it that know of no rows
    for qconfig in (per_tensor_dynamic_qconfig, float16_dynamic_qconfig, default_qconfig, before):
        assert not qconfig.per_row


def test_which_qconfigs_give_groups_of_inputs_scales_of_their_own() -> None:
    for qconfig in (
        qfx.per_group_dynamic_qconfig,
        qfx.int8_groups_dynamic_qconfig,
        qfx.groups_dynamic_qconfig(4, 128, False),
    ):
        assert qconfig.input_group == 32
        assert qconfig.is_dynamic
        assert qconfig.by_groups
        assert not qconfig.weight_only
    others = (
        default_dynamic_qconfig,
        default_qconfig,
        qfx.int4_weight_only_qconfig,
        QConfigDynamic(qfx.PerGroupMinMaxObserver),
    )
    assert [qconfig.input_group for qconfig in others] == [None] * 4


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
@pytest.mark.inventory("S100")
def test_named_qconfigs_give_the_peers_qparams(backend: str, part: str) -> None:
    data = [torch.randn(6, 4, 3, 3) * scale for scale in (1, 2, 1.5)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = getattr(peer("get_default_qconfig", backend), part)()
    assert own_qparams(getattr(get_default_qconfig(backend), part)(), data) == peer_qparams(theirs, data)


@pytest.mark.parametrize("part", ["activation", "weight"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.inventory("S101")
def test_named_training_qconfigs_give_the_peers_values(backend: str, part: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = getattr(peer("get_default_qat_qconfig", backend, 0), part)()
        ours = getattr(get_default_qat_qconfig(backend), part)()
        for scale in (1, 2, 1.5):
            x = torch.randn(6, 4, 3, 3) * scale
            difference = (ours(x) - theirs(x)).abs()
            # The peer multiplies by the reciprocal of the scale: a tie, as at a symmetric range's end, may land one
            # step away.
            assert int((difference > 0).sum()) <= ours.scale.numel()
            assert float(difference.max()) <= float(ours.scale.max()) * 1.001
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
@pytest.mark.inventory("S100", "S101")
def test_an_unknown_name_is_an_error_with_the_nearest(get: Any) -> None:
    with pytest.raises(QConfigError, match="'qnpack'") as caught:
        get("qnpack")
    assert "Did you mean 'qnnpack'" in str(caught.value)
    assert "'onednn'" in str(caught.value)


def test_everything_named_is_there() -> None:
    for name in quantization.__all__:
        assert hasattr(quantization, name)
    assert issubclass(FakeQuantize, nn.Module)


@pytest.mark.inventory("S100", "S203")
@pytest.mark.parametrize(("backend", "highest", "axis"), [("fbgemm", 127, 0), ("qnnpack", 255, None)])
def test_a_name_stands_for_a_range_and_a_granularity(backend: str, highest: int, axis: int | None) -> None:
    for get in (get_default_qconfig, get_default_qat_qconfig):
        activation, weight = get(backend).activation(), get(backend).weight()
        assert (activation.quant_min, activation.quant_max) == (0, highest)
        weight(torch.randn(6, 4))
        assert weight.qparams().axis == axis


@pytest.mark.inventory("S101")
@pytest.mark.parametrize("backend", ["fbgemm", "qnnpack"])
def test_training_qconfigs_hold_factories_of_fake_quantization(backend: str) -> None:
    for factory in get_default_qat_qconfig(backend):
        assert isinstance(factory(), FakeQuantize)
        assert factory() is not factory()


@pytest.mark.inventory("S092", "S096")
def test_a_dynamic_qconfig_observes_no_activations() -> None:
    assert isinstance(QConfigDynamic().activation(), PlaceholderObserver)
    assert default_dynamic_qconfig.weight().dtype is QDType.qint8


@pytest.mark.parametrize(
    ("qconfig", "scales"),
    [(default_dynamic_qconfig, 8), (per_channel_dynamic_qconfig, 8), (per_tensor_dynamic_qconfig, 1)],
)
def test_graph_mode_and_eager_mode_give_weights_the_scales_that_a_dynamic_qconfig_names(
    qconfig: QConfig, scales: int
) -> None:
    net, x = nn.Sequential(nn.Linear(4, 8)).eval(), torch.randn(3, 4)
    graph = qfx.quantize_fx(net, {"": qconfig}, example_inputs=(x,))
    assert graph.state_dict()["0.weight_scale"].numel() == scales
    eager = quantization.quantize_dynamic(net, {nn.Linear: qconfig})
    assert torch.equal(graph(x), eager(x))
    by_default = quantization.quantize_dynamic(net, {nn.Linear})
    assert torch.equal(by_default(x), eager(x)) == (scales == 8)


@pytest.mark.inventory("S097")
def test_float16_weights_are_named_by_their_observer() -> None:
    assert float16_dynamic_qconfig.weight().dtype is torch.float16
    assert float16_dynamic_qconfig.is_dynamic


@pytest.mark.inventory("S191")
@pytest.mark.parametrize(("scheme", "zero_point"), [("per_tensor_affine", 64), ("per_tensor_symmetric", 128)])
def test_the_qconfig_chooses_symmetric_or_asymmetric(scheme: str, zero_point: int) -> None:
    qconfig = QConfig(MinMaxObserver.with_args(qscheme=scheme), default_weight_observer)
    x = torch.tensor([[-1.0, 3.0]])
    prepared = qfx.prepare_fx(nn.Sequential(nn.Linear(2, 2)), {"": qconfig}, x)
    prepared(x)
    assert zero_point in [o.qparams().zero_point for o in prepared.modules() if type(o) is MinMaxObserver]


@pytest.mark.inventory("S192")
def test_the_qconfig_chooses_minimum_and_maximum_or_least_squared_error() -> None:
    x = torch.cat([torch.randn(4095), torch.tensor([40.0])]).reshape(-1, 2)
    errors = {}
    for observer in (MinMaxObserver, HistogramObserver):
        qconfig = QConfig(observer, default_weight_observer)
        model = nn.Sequential(nn.Linear(2, 2, bias=False))
        model[0].weight.data = torch.eye(2)
        quantized = qfx.quantize_fx(model, {"": qconfig}, [x], bias_correction=False, adaptive_rounding=False)
        errors[observer] = float((quantized(x) - x).square().sum())
    assert errors[HistogramObserver] < errors[MinMaxObserver]
