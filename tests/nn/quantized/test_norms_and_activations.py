"""Norms and activations: layers without an int8 weight, against the float layer."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

import qfx
from qfx.ops.arithmetic import quantize
from qfx.quantization import (
    get_default_qconfig,
    prepare,
)
from qfx.tensor import QTensor
from tests.nn.quantized.layers import X, codes, named

VECTORS, IMAGES, VOLUMES = (3, 6, 9), (3, 6, 5, 4), (3, 6, 5, 4, 3)
LAYERS: dict[str, tuple[tuple[int, ...], tuple[Any, ...], dict[str, Any]]] = {
    **{
        f"{norm}{dims}d{text}": (shape, (6,), settings)
        for norm in ("BatchNorm", "InstanceNorm")
        for dims, shape in ((1, VECTORS), (2, IMAGES), (3, VOLUMES))
        for text, settings in (
            ("", {}),
            (" with eps", {"eps": 0.1}),
            (" with factors", {"affine": True}),
            (" without factors", {"affine": False}),
        )
    },
    "LayerNorm": ((3, 6, 5), ((6, 5),), {}),
    "GroupNorm": (IMAGES, (3, 6), {}),
    **{n: ((7, 50), (), {}) for n in ("ELU", "Hardswish", "CELU", "GELU", "Mish", "SELU", "SiLU", "Softplus")},
    "ELU with alpha": ((7, 50), (), {"alpha": 0.3}),
    "CELU with alpha": ((7, 50), (), {"alpha": 0.3}),
    "LeakyReLU": ((7, 50), (), {"negative_slope": 0.2}),
}
"""For each quantized class, with a remark on its settings: a shape of input, arguments and keywords."""


def float_layer(name: str) -> Any:
    """The float layer of a row of LAYERS, with parameters that are not trivial."""
    _, args, kwargs = LAYERS[name]
    module = getattr(nn, class_of(name))(*args, **kwargs)
    generator = torch.Generator().manual_seed(3)
    for what, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.is_floating_point():
            low = 0.5 if "var" in what else -1.0
            tensor.data.copy_(torch.rand(tensor.shape, generator=generator) * 2 + low)
    return module.eval()


def class_of(name: str) -> str:
    return name.partition(" ")[0]


OWN_ROWS = {
    "ELU": "S129",
    "Hardswish": "S130",
    "BatchNorm2d": "S131",
    "BatchNorm3d": "S132",
    "LayerNorm": "S133",
    "GroupNorm": "S134",
    "InstanceNorm1d": "S135",
    "InstanceNorm2d": "S136",
    "InstanceNorm3d": "S137",
}
OWN = [
    pytest.param(
        name, marks=pytest.mark.inventory("S038", OWN_ROWS[class_of(name)]) if class_of(name) in OWN_ROWS else ()
    )
    for name in LAYERS
]


def converted(name: str) -> tuple[nn.Module, Any, QTensor]:
    layer = float_layer(name)
    layer.qconfig = get_default_qconfig()
    prepared = prepare(layer)
    x = codes(*LAYERS[name][0])
    prepared(x.dequantize())
    return layer, named(class_of(name)).from_float(prepared), x


@pytest.mark.parametrize("name", OWN)
class TestOwnQParams:
    def test_is_within_one_quantum_of_the_float_layer(self, name: str) -> None:
        layer, module, x = converted(name)
        result = module(x)
        scale, zero = torch.tensor(module.scale), torch.tensor(module.zero_point)
        expected = quantize(layer(x.dequantize()), scale, zero, 0, 255)
        assert int((result.int_repr().long() - expected).abs().max()) <= 1
        assert (result.q_scale(), result.q_zero_point()) == (module.scale, module.zero_point)
        assert result.dtype is qfx.quint8

    def test_state_round_trips(self, name: str) -> None:
        _, module, x = converted(name)
        _, args, kwargs = LAYERS[name]
        other = named(class_of(name))(*args, **kwargs)
        other.load_state_dict(module.state_dict())
        expected = module(x).int_repr()
        for twin in (other, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert torch.equal(twin(x).int_repr(), expected)
        assert not list(module.parameters())

    def test_takes_the_arguments_of_its_float_layer(self, name: str) -> None:
        _, module, _ = converted(name)
        described = float_layer(name).extra_repr()
        assert module.extra_repr().startswith(described)
        assert module.extra_repr().endswith(f"scale={module.scale}, zero_point={module.zero_point}")


@pytest.mark.inventory("S133", "S134")
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.LayerNorm(7), (2, 5, 6, 7)),
        (nn.LayerNorm((5, 6, 7)), (2, 5, 6, 7)),
        (nn.LayerNorm((6, 7), bias=False), (3, 6, 7)),
        (nn.LayerNorm(7, elementwise_affine=False), (4, 7)),
        (nn.GroupNorm(2, 6, affine=False), (3, 6, 5)),
        (nn.GroupNorm(6, 6), (3, 6, 5, 4)),
        (nn.GroupNorm(1, 6, eps=0.1), (3, 6)),
    ],
)
def test_norms_of_any_shape_with_or_without_factors(layer: nn.Module, shape: tuple[int, ...]) -> None:
    layer.qconfig = get_default_qconfig()
    prepared = prepare(layer.eval())
    x = codes(*shape)
    prepared(x.dequantize())
    module = named(type(layer).__name__).from_float(prepared)
    expected = quantize(layer(x.dequantize()), torch.tensor(module.scale), torch.tensor(module.zero_point), 0, 255)
    assert int((module(x).int_repr().long() - expected).abs().max()) <= 1


@pytest.mark.inventory("S131")
def test_a_loaded_batch_norm_forgets_what_it_folded_before() -> None:
    _, module, x = converted("BatchNorm2d")
    before = module(x).int_repr()
    state = {k: v.clone() for k, v in module.state_dict().items()}
    state["running_mean"] += 1.0
    module.load_state_dict(state)
    assert not torch.equal(module(x).int_repr(), before)


@pytest.mark.inventory("S134", "S135", "S136", "S137")
@pytest.mark.parametrize("name", [name for name in LAYERS if name.startswith(("GroupNorm", "InstanceNorm"))])
def test_constant_groups_stay_finite(name: str) -> None:
    _, module, x = converted(name)
    constant = QTensor(torch.full_like(x.codes, 7), X)
    result = module(constant).dequantize()
    assert bool(result.isfinite().all())


@pytest.mark.inventory("S135", "S136", "S137")
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_instance_norm_takes_one_image_without_a_batch(dims: int) -> None:
    _, module, x = converted(f"InstanceNorm{dims}d")
    assert torch.equal(module(x[0]).int_repr(), module(x).int_repr()[0])


@pytest.mark.inventory("S127", "S128")
@pytest.mark.parametrize("name", ["ReLU", "ReLU6"])
def test_relu_clamps_the_codes_and_keeps_the_qparams(name: str) -> None:
    x = codes(7, 50)
    kept = x.int_repr()
    high = 255 if name == "ReLU" else min(255, X.zero_point + round(6.0 / X.scale))
    result = named(name)()(x)
    assert torch.equal(result.int_repr(), kept.clamp(X.zero_point, high))
    assert result.qparams == X
    assert torch.equal(x.int_repr(), kept)
    inplace = named(name)(inplace=True)
    assert inplace(x) is x
    assert torch.equal(x.int_repr(), result.int_repr())
    assert repr(inplace) == f"{name}(inplace=True)"


@pytest.mark.inventory("S126")
def test_the_float_max_pool_runs_on_codes() -> None:
    for pool in (nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2, ceil_mode=True), qfx.nn.MaxPool2d(3, 1, dilation=2)):
        x = codes(2, 4, 9, 7)
        result = pool(x)
        assert torch.equal(result.int_repr().float(), pool(x.int_repr().float()))
        assert result.qparams == X
