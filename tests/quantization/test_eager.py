"""The calls of eager mode, each by itself."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qfx
import qfx.nn.intrinsic as nni
import qfx.nn.intrinsic.quantized as nniq
import qfx.nn.quantized as nnq
from qfx.errors import ConversionError, InputError, UncalibratedWarning
from qfx.quantization import (
    QuantWrapper,
    add_quant_dequant,
    convert,
    default_eval_fn,
    default_static_mapping,
    fuse_modules,
    get_default_qat_qconfig,
    get_default_qconfig,
    get_observer_dict,
    prepare,
    prepare_qat,
    propagate_qconfig_,
    quantize,
    quantize_dynamic,
    swap_module,
)
from tests.quantization.eager_net import OBSERVED, QCONFIG, Net, data, net, observers


class TestConvert:
    @pytest.mark.inventory("S077", "S126", "S195", "S205")
    def test_layers_are_swapped_under_their_paths(self) -> None:
        model, x = net(), data()
        prepared = prepare(model)
        prepared(x)
        before = {name for name, _ in model.named_modules() if not name.startswith("features.0.")}
        converted = convert(prepared)
        assert {name for name, _ in converted.named_modules()} == before
        kinds = {name: type(converted.get_submodule(name)) for name in [*OBSERVED, "dequant", "features.3"]}
        assert kinds == {
            "quant": nnq.Quantize,
            "features.0": nniq.ConvReLU2d,
            "skip": nnq.QFunctional,
            "conv": nnq.Conv2d,
            "fc": nnq.Linear,
            "dequant": nnq.DeQuantize,
            "features.3": nn.MaxPool2d,
        }
        assert isinstance(prepared.conv, nn.Conv2d)
        state = converted.state_dict()
        for name in OBSERVED:
            scale, zero_point = prepared.get_submodule(name).observer.calculate_qparams()
            assert torch.equal(state[f"{name}.scale"].reshape(1), scale)
            assert torch.equal(state[f"{name}.zero_point"].reshape(1), zero_point)
        # A dozen roundings of at most half a step each, the largest step being the result's.
        assert (converted(x) - model(x)).abs().max() < 6 * converted.fc.scale

    @pytest.mark.inventory("S077")
    def test_in_place_and_what_is_left_of_the_preparation(self) -> None:
        prepared = prepare(net())
        prepared(data())
        converted = convert(prepared, inplace=True)
        assert converted is prepared
        assert observers(converted) == []
        assert not [m for m in converted.modules() if hasattr(m, "qconfig") or hasattr(m, "observer")]
        kept = prepare(net())
        kept(data())
        assert hasattr(convert(kept, remove_qconfig=False), "qconfig")

    @pytest.mark.inventory("S077")
    def test_a_model_without_a_qconfig_is_unchanged(self) -> None:
        model = Net().eval()
        converted = convert(model)
        assert {n: type(m) for n, m in converted.named_modules()} == {n: type(m) for n, m in model.named_modules()}

    @pytest.mark.inventory("S077")
    def test_a_layer_that_was_never_prepared_is_named(self) -> None:
        model = Net().eval()
        model.conv.qconfig = QCONFIG
        with pytest.raises(ConversionError, match="Conv2d has a qconfig but no observer") as caught:
            convert(model)
        assert caught.value.where == "conv"

    @pytest.mark.inventory("S077")
    def test_an_observer_that_saw_nothing_is_named(self) -> None:
        with pytest.warns(UncalibratedWarning, match="where: quant"):
            convert(prepare(net()))

    @pytest.mark.inventory("S183")
    def test_a_model_that_is_not_on_the_cpu_is_named(self) -> None:
        model = net()
        model.conv.to("meta")
        with pytest.raises(InputError, match=r"'conv.weight' is on meta(.|\n)*\.cpu\(\)"):
            convert(model)

    @pytest.mark.inventory("S182")
    @pytest.mark.parametrize("name", ["fbgemm", "qnnpack"])
    def test_any_qconfig_gives_the_same_integers_on_any_engine(self, name: str) -> None:
        x = data()
        prepared = prepare(net(get_default_qconfig(name)))
        prepared(x)
        results = []
        try:
            for engine in ("fbgemm", "qnnpack"):
                qfx.backends.quantized.engine = engine
                results.append(convert(prepared)(x))
        finally:
            qfx.backends.quantized.engine = None
        assert torch.equal(*results)

    @pytest.mark.inventory("S085")
    def test_swap_module(self) -> None:
        layer = nn.Linear(4, 4).eval()
        assert swap_module(layer, default_static_mapping()) is layer
        layer.qconfig = QCONFIG
        assert swap_module(layer, default_static_mapping()) is layer
        other = nn.Sigmoid()
        other.qconfig = QCONFIG
        assert swap_module(other) is other
        seen: list[str] = []
        layer.register_forward_pre_hook(lambda *_: seen.append("before"))
        layer.register_forward_hook(lambda *_: seen.append("after"))
        prepare(layer, inplace=True)
        layer(torch.randn(3, 4))
        seen.clear()
        made = swap_module(layer, default_static_mapping())
        assert type(made) is nnq.Linear
        made(nnq.Quantize(0.1, 128)(torch.randn(3, 4)))
        assert seen == ["before", "after"]
        assert len(made._forward_hooks) == 1


@pytest.mark.inventory("S186", "S203")
def test_values_beyond_a_reduced_range_use_the_other_half() -> None:
    """``fbgemm`` maps the range found to 0..127, and what is beyond it does not saturate there."""
    model = QuantWrapper(nn.Identity())
    model.qconfig = get_default_qconfig("fbgemm")
    prepared, x = prepare(model), torch.rand(200, 4)
    prepared(x)
    converted = convert(prepared)
    assert int(converted.quant(x).int_repr().max()) <= 128
    assert (converted(1.9 * x) - 1.9 * x).abs().max() <= 0.501 * converted.quant.scale


@pytest.mark.inventory("S206")
@pytest.mark.parametrize("stage", ["prepared", "converted", "trained"])
def test_the_model_stays_an_ordinary_module(stage: str) -> None:
    x = data()
    if stage == "trained":
        model = prepare_qat(net(get_default_qat_qconfig(), training=True))
        model(x)
        model.eval().apply(qfx.quantization.disable_observer)
    else:
        model = prepare(net())
        model(x)
        model = convert(model) if stage == "converted" else model
    expected = model(x)
    seen: list[int] = []
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert {n for n, _ in twin.named_modules()} == {n for n, _ in model.named_modules()}
        handle = twin.conv.register_forward_hook(lambda *_: seen.append(1))
        assert torch.equal(twin(x), expected)
        handle.remove()
        twin.load_state_dict(model.state_dict())
        assert torch.equal(twin(x), expected)
        assert twin.train().training
        assert not twin.eval().conv.training
    assert len(seen) == 2


@pytest.mark.parametrize("call", [prepare, convert, quantize_dynamic, prepare_qat])
def test_what_eager_mode_can_not_change_raises(call: Any) -> None:
    graph = qfx.prepare_fx(nn.Sequential(nn.Linear(2, 2)), {"": QCONFIG}, torch.randn(1, 2))
    with pytest.raises(InputError, match=r"PreparedModel of graph mode(.|\n)*convert_fx"):
        call(graph)
    with pytest.raises(InputError, match="The model is function"):
        call(data)


@pytest.mark.inventory("S078")
def test_get_observer_dict_has_dotted_names() -> None:
    found: dict[str, Any] = {}
    prepared = prepare(net())
    get_observer_dict(prepared, found, "model")
    assert list(found) == [f"model.{name}.activation_post_process" for name in OBSERVED]
    assert found["model.conv.activation_post_process"] is prepared.conv.observer
    single: dict[str, Any] = {}
    get_observer_dict(prepared.conv, single)
    assert list(single) == ["activation_post_process"]


@pytest.mark.inventory("S076")
def test_add_quant_dequant_wraps_leaves_with_a_qconfig() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 4)).eval()
    fuse_modules(model, ["1.0", "1.1"], inplace=True)
    model.qconfig = QCONFIG
    model[2].qconfig = None
    propagate_qconfig_(model)
    x = torch.randn(20, 4)
    expected = model(x)
    wrapped = add_quant_dequant(model)
    assert [type(m) for m in wrapped] == [QuantWrapper, nn.Sequential, nn.Linear]
    assert type(wrapped[1][0]) is QuantWrapper
    assert type(wrapped[1][0].module) is nni.LinearReLU
    assert add_quant_dequant(copy.deepcopy(wrapped))[0].module is not wrapped[0]
    prepared = prepare(wrapped)
    prepared(x)
    converted = convert(prepared)
    assert type(converted[0].module) is nnq.Linear
    assert (converted(x) - expected).abs().max() < 0.1
    single = nn.Linear(4, 4)
    single.qconfig = QCONFIG
    assert type(add_quant_dequant(single)) is QuantWrapper
    assert type(add_quant_dequant(nn.Linear(4, 4))) is nn.Linear


@pytest.mark.inventory("S086", "S082")
def test_quantize_prepares_runs_and_converts() -> None:
    model, batches = net(), [(data(), torch.zeros(8)) for _ in range(2)]
    converted = quantize(model, default_eval_fn, [batches])
    assert type(converted.fc) is nnq.Linear
    assert isinstance(model.fc, nn.Linear)
    x = batches[0][0]
    assert (converted(x) - model(x)).abs().max() < 6 * converted.fc.scale
    assert quantize(model, default_eval_fn, [batches], inplace=True) is model
    assert type(model.fc) is nnq.Linear


@pytest.mark.inventory("S086")
def test_default_eval_fn_runs_in_evaluation_without_gradients() -> None:
    seen: list[tuple[bool, bool, int]] = []

    class Probe(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append((self.training, torch.is_grad_enabled(), len(x)))
            return x

    default_eval_fn(Probe().train(), [(torch.zeros(2), torch.zeros(2)), torch.zeros(3)])
    assert seen == [(False, False, 2), (False, False, 3)]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_model_that_was_never_called_is_recorded_as_any_other() -> None:
    """What compiling computes is in no recording, else torch.jit.trace, which records twice, finds two graphs."""
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 3))
    wrapped, x = QuantWrapper(layers).eval(), torch.randn(2, 3, 6, 6)
    wrapped.qconfig = get_default_qconfig()
    prepared = prepare(wrapped)
    prepared(x)
    model = convert(prepared)
    recorded = torch.jit.trace(model, x)
    assert torch.equal(recorded(x), model(x))
