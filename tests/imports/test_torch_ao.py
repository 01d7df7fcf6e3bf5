"""Models of PyTorch's own eager and FX modes come in with their own numbers."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import qfx
from qfx.errors import ConversionError, InputError
from qfx.imports.torch_ao import FUNCTIONS, MODULES, PACKED, kind_of
from qfx.quantization import convert, fuse_modules, get_default_qconfig, prepare
from tests.imports.cases import CASES, UNTRACEABLE, Net, conv, images, named, rows, seeded, tokens, within
from tests.imports.peers import Quiet, dynamic, dynamic_fx_mode, eager, fx_mode, quietly
from tests.quantization import stub_nets


def taken(model: Any, *inputs: Any) -> Any:
    with quietly():
        return qfx.from_torch_ao(model, inputs)


def scales(model: Any) -> dict[str, tuple[float, int]]:
    """Those that modules of another tool have for their results, by path."""
    found = {}
    for path, module in model.named_modules():
        if kind_of(module) in MODULES and isinstance(getattr(module, "scale", None), float):
            found[path] = float(torch.tensor(module.scale)), int(module.zero_point)
    return found


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("name", named(*UNTRACEABLE))
def test_fx_mode_is_within_one_quantum_with_its_numbers(name: str, reference: bool) -> None:
    make, inputs = CASES[name]
    given = fx_mode(seeded(make), inputs, reference=reference)
    model, x = taken(given, *inputs()), inputs()
    assert (model(*x) - Quiet(given)(*x)).abs().max() <= within(model)
    found = {r.module_path: r.qparams.per_tensor() for r in model.report if r.qparams is not None}
    assert scales(given).items() <= found.items()
    assert all(r.decision == "int8" for r in model.report.layers() if r.op in ("conv", "linear"))


def test_integers_of_weights_are_those_given() -> None:
    given = fx_mode(seeded(lambda: nn.Sequential(conv(), nn.Flatten(), nn.Linear(384, 3))), images)
    state = taken(given, *images()).state_dict()
    for path in ("0", "2"):
        weight = getattr(given, path).weight()
        assert torch.equal(state[f"{path}.weight"], weight.int_repr())
        assert torch.equal(state[f"{path}.weight_scale"], weight.q_per_channel_scales().float())


def stub_images() -> tuple[torch.Tensor]:
    return (stub_nets.images(seed=int(torch.randint(99, ()))),)


STUB_NETS = pytest.mark.parametrize(
    "make", [stub_nets.resnet, stub_nets.mobilenet], ids=["like ResNet-18", "like MobileNetV2"]
)


@STUB_NETS
def test_eager_mode(make: Any) -> None:
    """Of the whole net results are one quantum apart on average; each layer alone is at most that, as the next test."""
    given = eager(make, stub_images)
    model, x = taken(given, *stub_images()), stub_images()
    assert (model(*x) - Quiet(given)(*x)).abs().mean() <= within(model)
    assert not model.report.decided("float")
    found = {r.module_path: r.qparams.per_tensor() for r in model.report if r.qparams is not None}
    assert {path: numbers for path, numbers in scales(given).items() if path != "quant"}.items() <= found.items()


@STUB_NETS
def test_each_layer_of_eager_mode_on_what_it_gets_in_its_net(make: Any) -> None:
    given, seen = eager(make, stub_images), {}
    layers = {path: m for path, m in given.named_modules() if "intrinsic" in kind_of(m) or hasattr(m, "out_channels")}
    for path, module in layers.items():
        module.register_forward_hook(lambda _, args, result, path=path: seen.update({path: (args[0], result)}))
    Quiet(given)(*stub_images())
    for path, (x, result) in seen.items():
        layers[path]._forward_hooks.clear()
        with quietly():
            from torch.ao.nn.quantized import DeQuantize, Quantize

            alone = nn.Sequential(Quantize(x.q_scale(), x.q_zero_point(), x.dtype), layers[path], DeQuantize())
        ours = taken(alone, x.dequantize())(x.dequantize())
        assert (ours - result.dequantize()).abs().max() <= result.q_scale() * 1.001, path


@STUB_NETS
def test_a_state_of_quantized_modules_loads_into_ours(make: Any) -> None:
    given, net = eager(make, stub_images), make()
    net = fuse_modules(net, net.lists())
    net.qconfig = get_default_qconfig()
    with quietly():
        ours = convert(prepare(net))
        missing, unexpected = ours.load_state_dict(given.state_dict())
    assert not missing
    assert not unexpected
    (x,) = stub_images()
    assert torch.equal(ours(x), taken(given, x)(x))


def spread(weights: Any, x: torch.Tensor) -> float:
    """How far a layer's result may be: a step of its input at 128 values, through the largest sum of weights."""
    return float(x.max().clamp(min=0) - x.min().clamp(max=0)) / 127 * float(weights.detach().abs().sum(1).max())


@pytest.mark.parametrize("tool", [dynamic, lambda m: dynamic_fx_mode(m, rows)], ids=["eager", "fx"])
def test_dynamic_linear_layers(tool: Any) -> None:
    float_model = seeded(lambda: nn.Sequential(nn.Linear(16, 8), nn.ReLU()))
    given = tool(float_model)
    model, (x,) = taken(given, *rows()), rows()
    assert (model(x) - Quiet(given)(x)).abs().max() <= spread(float_model[0].weight, x)
    assert [r.decision for r in model.report] == ["int8"]


def test_a_dynamic_reference_model() -> None:
    float_model = seeded(lambda: nn.Sequential(nn.Linear(16, 8), nn.ReLU()))
    given = dynamic_fx_mode(float_model, rows, reference=True)
    model, (x,) = taken(given, *rows()), rows()
    assert (model(x) - Quiet(given)(x)).abs().max() <= spread(float_model[0].weight, x)


@pytest.mark.parametrize("cls", [nn.LSTM, nn.GRU])
def test_dynamic_recurrent_layers(cls: Any) -> None:
    layers = cls(16, 6, 2, batch_first=True, bidirectional=True), nn.Linear(12, 3)
    given = dynamic(seeded(lambda: Net(lambda m, x: m[1](m[0](x)[0]), *layers)))
    model, x = taken(given, *rows()), rows()
    expected = Quiet(given)(*x)
    assert {r.decision for r in model.report.layers()} == {"int8"}
    assert (model(*x) - expected).norm() < 0.02 * expected.norm()


def test_tables_of_rows_stay_tables_of_float_rows() -> None:
    given = fx_mode(seeded(lambda: nn.Sequential(nn.Embedding(20, 16), nn.Linear(16, 4))), tokens)
    model, x = taken(given, *tokens()), tokens()
    assert (model(*x) - Quiet(given)(*x)).abs().max() <= within(model)


def test_functions_of_parameters() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.randn(4, 16)), nn.Parameter(torch.randn(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.relu(F.linear(x, self.weight, self.bias))

    for reference in (False, True):
        given = fx_mode(seeded(Functional), rows, reference=reference)
        model, x = taken(given, *rows()), rows()
        assert (model(*x) - Quiet(given)(*x)).abs().max() <= within(model)
        assert [r.decision for r in model.report] == ["int8"]


def test_rows_name_what_there_is() -> None:
    with quietly():
        import torch.ao.nn.intrinsic.quantized as fused
        import torch.ao.nn.intrinsic.quantized.dynamic as fused_dynamic
        import torch.ao.nn.quantized as static
        import torch.ao.nn.quantized.dynamic as per_call
        from torch.ao.nn.quantized import reference
    homes = {
        "quantized": static, "quantized.dynamic": per_call, "quantized.reference": reference,
        "intrinsic.quantized": fused, "intrinsic.quantized.dynamic": fused_dynamic,
    }  # fmt: skip
    for name in MODULES:
        home, _, cls = name.rpartition(".")
        assert kind_of(getattr(homes[home], cls).__new__(getattr(homes[home], cls))) == name
    for name, row in {**FUNCTIONS, **PACKED}.items():
        packet = getattr(torch.ops.quantized, name.removeprefix("quantized."))
        schemas = [getattr(packet, each)._schema for each in packet.overloads()]
        if name in FUNCTIONS:
            wanted = {*row.operands.split(), *row.settings.split()}
            assert any(wanted <= {a.name for a in schema.arguments} for schema in schemas), name


def test_what_has_no_row_is_refused_by_its_name() -> None:
    class Scaled(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q = torch.quantize_per_tensor(x, 0.1, 0, torch.quint8)
            return torch.ops.quantized.cat_relu_out([q], 0, torch.empty_like(q)).dequantize()

    with pytest.raises(ConversionError, match=re.escape("There is no reading of quantized.cat_relu_out")):
        taken(Scaled(), torch.randn(2, 3))


def test_values_of_32_bits_are_refused() -> None:
    class Wide(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.quantize_per_tensor(x, 0.1, 0, torch.qint32).dequantize()

    with pytest.raises(ConversionError, match="activations have 8 bits"):
        taken(Wide(), torch.randn(2, 3))


@pytest.mark.parametrize(("model", "inputs"), [(nn.Linear(2, 2), None), ("a path", (torch.ones(2),))])
def test_what_is_no_model_or_without_inputs_is_an_error(model: Any, inputs: Any) -> None:
    with pytest.raises(InputError):
        qfx.from_torch_ao(model, inputs)
