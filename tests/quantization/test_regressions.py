"""Mistakes that were made once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import qfx
import qfx.nn.qat as nnqat
import qfx.nn.quantized.functional as nnqf
from qfx.eager import run_op
from qfx.errors import ConversionError, InputError, UnsupportedError
from qfx.ops.table import TABLE
from qfx.quantization import (
    convert,
    default_qat_mapping,
    default_qat_qconfig,
    default_qconfig,
    default_static_mapping,
    fuse_known_modules,
    fuse_modules,
    prepare,
    prepare_qat,
    quantize_jit,
    swap_module,
)
from qfx.tensor import QTensor


def quantized(x: Tensor, scale: float = 0.05, zero_point: int = 120) -> QTensor:
    return qfx.quantize_per_tensor(x, scale, zero_point, qfx.quint8)


SOURCE = quantized(torch.linspace(0.0, 1.0, 4), 1 / 256, 0)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: F.hardsigmoid(x[:1], inplace=True),
        lambda x: nnqf.leaky_relu(x[0], inplace=True, scale=0.25, zero_point=3),
        lambda x: x[0].copy_(SOURCE),
        lambda x: x.detach().copy_(SOURCE),
        lambda x: torch.hardsigmoid(x[0], out=x[1]) if hasattr(torch, "hardsigmoid") else x.view(-1)[:4].copy_(SOURCE),
    ],
    ids=["hardsigmoid", "leaky_relu", "select", "detach", "flat"],
)
def test_a_change_in_a_view_keeps_the_other_values_of_its_base(change: Any) -> None:
    x = quantized(torch.linspace(-2.0, 2.0, 12).reshape(3, 4))
    before, last = x.qparams, x[2].dequantize()
    expected = x.clone()
    changed = change(x)
    assert x.qparams == changed.qparams == before
    assert changed.shape == x.shape or torch.equal(x[2].dequantize(), last)
    assert torch.equal(x[0].dequantize().flatten(), changed.dequantize().flatten()[:4])
    assert not torch.equal(x, expected)


def test_a_change_in_a_base_keeps_its_views_right() -> None:
    x = quantized(torch.zeros(4))
    view = x[1:]
    x.copy_(SOURCE)
    assert torch.equal(view.dequantize(), x.dequantize()[1:])
    assert torch.equal(x.dequantize(), quantized(SOURCE.dequantize()).dequantize())
    del view
    assert torch.equal(x.copy_(SOURCE), SOURCE)


class Doubled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2.0 * super().forward(x)


class QatDoubled(nnqat.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2.0 * super().forward(x)

    @classmethod
    def from_float(cls, mod: Any) -> QatDoubled:
        made = cls(mod.in_features, mod.out_features, qconfig=mod.qconfig)
        made.train(mod.training)
        return made


def test_results_of_a_mapping_of_ones_own_are_fake_quantized() -> None:
    model = nn.Sequential(Doubled(3, 4)).train()
    model.qconfig = default_qat_qconfig
    prepared = prepare_qat(model, {**default_qat_mapping(), Doubled: QatDoubled})
    assert len(prepared(torch.randn(300, 3)).unique()) <= 256


@pytest.mark.parametrize("kind", [tuple, list])
def test_run_args_are_unpacked_and_run_without_gradients(kind: Any) -> None:
    x = torch.randn(5, 3)
    seen: list[Any] = []

    def run(model: nn.Module, batch: Tensor, times: int) -> None:
        seen.append((times, model(batch).requires_grad))

    quantize_jit(nn.Sequential(nn.Linear(3, 4)).eval(), {"": default_qconfig}, run, kind([x, 2]))
    assert seen == [(2, False)]


def test_a_fusion_that_fails_changes_nothing() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(5)).eval()
    layers, seen = list(model), []
    handle = model[2].register_forward_pre_hook(lambda *_: seen.append("conv"))
    model[0].register_forward_pre_hook(lambda *_: seen.append("linear"))
    with pytest.raises(ConversionError, match="of 5 channels"):
        fuse_known_modules(layers[2:])
    assert len(model[2]._forward_pre_hooks) == 1
    with pytest.raises(ConversionError, match="of 5 channels"):
        fuse_modules(model, [["0", "1"], ["2", "3"]], inplace=True)
    assert all(now is before for now, before in zip(model, layers, strict=True))
    model[0](torch.randn(1, 3))
    model[2](torch.randn(1, 3, 2, 2))
    assert seen == ["linear", "conv"]
    handle.remove()
    assert not model[2]._forward_pre_hooks


def test_swap_module_leaves_its_argument_as_it_is() -> None:
    model = nn.Sequential(nn.Linear(3, 4)).eval()
    model.qconfig = default_qconfig
    prepared = prepare(model)
    layer, seen = prepared[0], []
    layer.register_forward_pre_hook(lambda *_: seen.append("before"))
    layer.register_forward_hook(lambda *_: seen.append("after"))
    prepared(torch.randn(5, 3))
    first, second = (swap_module(layer, default_static_mapping()) for _ in range(2))
    assert type(first) is type(second) is not type(layer)
    first(quantized(torch.randn(2, 3)))
    assert seen == ["before", "after"] * 2
    assert len(layer._forward_hooks) == 2
    assert layer.observer is layer.activation_post_process


def test_a_surplus_operand_is_an_error() -> None:
    x = quantized(torch.randn(3))
    with pytest.raises(InputError, match="relu got 2 operands, and has 1: x"):
        run_op("relu", x, x)


def test_an_attribute_of_the_users_called_observer_stays() -> None:
    class Watched(nn.Linear):
        observer = None

    kept = object.__new__(type("Kept", (), {}))
    plain, watched = nn.Linear(3, 4), Watched(3, 4)
    plain.observer = kept  # type: ignore[assignment]
    model = nn.Sequential(plain, watched).eval()
    model.qconfig = default_qconfig
    mapping = {**default_static_mapping(), Watched: default_static_mapping()[nn.Linear]}
    prepared = prepare(model, inplace=True, mapping=mapping)
    assert prepared[0].observer is kept
    assert prepared[1].observer is None
    assert "activation_post_process" in prepared[0]._modules
    del prepared[1]
    prepared(torch.randn(5, 3))
    convert(prepared, inplace=True)
    assert plain.observer is kept


def halved(x: Tensor) -> Tensor:
    return x / 2


def test_an_op_whose_module_is_taken_is_not_registered_at_all() -> None:
    with pytest.raises(UnsupportedError, match="ReLU can't compute 'halved'"):
        qfx.register_op(lambda x: x / 2, modules={nn.ReLU: []})(halved)
    assert "halved" not in TABLE
