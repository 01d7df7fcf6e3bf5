"""What a new user tries first: models and mistakes that once ended in a wrong type, a wrong dtype or a bare crash."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qfx

DEFAULT = {"": qfx.get_default_qconfig()}
X = torch.randn(4, 4, generator=torch.Generator().manual_seed(5))


class Net(nn.Module):
    """A linear layer under the forward that a case asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.l = nn.Linear(4, 4)


class ListOut(Net):
    def forward(self, x: Tensor) -> list[Any]:
        return [self.l(x), {"a": [x]}]


class BackToFloat(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.l(x).double().mean(1).float()


class ExtraKeywords(Net):
    def forward(self, x: Tensor, **_: Any) -> Tensor:
        return self.l(x)


class ListIndex(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.l(x)[[0, 2]]


@pytest.mark.parametrize("case", [ListOut, BackToFloat, ExtraKeywords, ListIndex])
def test_result_has_the_float_model_s_type_shape_and_dtype(case: type[nn.Module]) -> None:
    model = case().eval()
    given, wanted = qfx.quantize_fx(model, DEFAULT, [X])(X), model(X)
    assert type(given) is type(wanted)
    ours, theirs = (torch.utils._pytree.tree_leaves(v) for v in (given, wanted))
    assert [(t.dtype, t.shape) for t in ours] == [(t.dtype, t.shape) for t in theirs]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.LazyLinear(4),
        lambda: nn.DataParallel(nn.Linear(4, 4)),
        lambda: torch.compile(nn.Linear(4, 4)),
        lambda: qfx.prepare_fx(nn.Linear(4, 4), DEFAULT),
        lambda: 3,
    ],
)
@pytest.mark.parametrize("call", [qfx.fuse_fx, lambda model: qfx.prepare_fx(model, DEFAULT)])
def test_what_is_no_float_model_is_told(make: Callable[[], Any], call: Callable[[Any], Any]) -> None:
    with pytest.raises(qfx.InputError) as caught:
        call(make())
    assert caught.value.remedy


class OfOneName(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.layers, self.name = nn.ModuleDict({name: nn.Linear(4, 4)}), name

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[self.name](x)


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "class"])
def test_a_module_with_a_name_that_code_cannot_have_is_quantized_under_it(name: str) -> None:
    model = OfOneName(name)
    quantized = qfx.quantize_fx(model, DEFAULT, [X])
    assert [record.module_path for record in quantized.report.decided("int8")] == [f"layers.{name}"]
    assert f"layers.{name}.weight" in quantized.state_dict()
    assert (quantized(X) - model(X)).abs().max() <= 0.02 * model(X).abs().max()


def test_a_key_that_can_be_no_key_is_told() -> None:
    with pytest.raises(qfx.QConfigError, match="object_type"):
        qfx.prepare_fx(nn.Linear(4, 4), {"object_type": [([1], None)]})


def test_a_wrong_size_has_a_remedy() -> None:
    with pytest.raises(qfx.InputError) as caught:
        qfx.quantize_fx(nn.Linear(4, 4), DEFAULT, [X])(torch.zeros(1, 5))
    assert caught.value.remedy


def test_to_dot_takes_what_draw_takes() -> None:
    assert "linear" in qfx.to_dot(qfx.fuse_fx(nn.Linear(4, 4))).source
    assert "linear" in qfx.to_dot(nn.Linear(4, 4)).source
    with pytest.raises(qfx.InputError):
        qfx.to_dot(3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_a_model_of_another_precision_is_quantized_as_float32(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).to(dtype).eval()
    batches = [torch.randn(3, 4, dtype=dtype) for _ in range(3)]
    quantized = qfx.quantize_fx(model, {"": qfx.get_default_qconfig()}, batches)
    assert next(model.parameters()).dtype is dtype
    assert quantized(batches[0]).dtype is torch.float32
    assert torch.equal(quantized(batches[0]), quantized(batches[0].float()))


def test_a_model_of_any_number_of_inputs_is_refused_by_name() -> None:
    class Sum(nn.Module):
        def forward(self, *xs: torch.Tensor) -> torch.Tensor:
            return torch.stack(xs).sum(0)

    with pytest.raises(qfx.CaptureError, match="any number of inputs"):
        qfx.prepare_fx(Sum(), {"": qfx.get_default_qconfig()})


@pytest.mark.parametrize(
    ("layer", "x", "decision"),
    [
        (nn.BatchNorm2d(3), torch.randn(4, 3, 5, 5), "float"),
        (nn.Linear(4, 4), X, "int8"),
        (nn.ReLU(), X, "float"),
        (nn.LSTM(4, 5, batch_first=True), torch.randn(2, 3, 4), "int8"),
    ],
)
def test_a_bare_layer_is_a_model(layer: nn.Module, x: Tensor, decision: str) -> None:
    quantized = qfx.quantize_fx(layer.eval(), DEFAULT, [x])
    layers = [r for r in quantized.report if r.is_layer] or quantized.report
    assert [r.decision for r in layers] == [decision]
    given, wanted = (torch.utils._pytree.tree_leaves(model(x)) for model in (quantized, layer))
    for ours, theirs in zip(given, wanted, strict=True):
        assert (ours - theirs).abs().max() <= 0.02 * theirs.abs().max()


class Resized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear, self.norm = nn.Conv2d(3, 4, 3, 2, 1), nn.Linear(6, 6), nn.BatchNorm1d(6)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return F.interpolate(self.conv(x), size=x.shape[2:]), self.norm(self.linear(y))


def test_shapes_of_bare_inputs_are_known_from_the_first_batch() -> None:
    batch = torch.randn(2, 3, 8, 8), torch.randn(2, 6)
    quantized = qfx.quantize_fx(Resized().eval(), DEFAULT, [batch])
    assert [r.op for r in quantized.report.decided("int8")] == ["conv", "linear"]
    assert len(quantized.report) == 3
    assert quantized(torch.randn(3, 3, 10, 6), torch.randn(3, 6))[0].shape == (3, 4, 10, 6)


class AddsOnes(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.l(x) + torch.ones(x.shape[0])[:, None]


@pytest.mark.parametrize("examples", [None, (X,)])
def test_a_tensor_made_from_a_size_at_the_root(examples: Any) -> None:
    model = AddsOnes().eval()
    prepared = qfx.prepare_fx(model, DEFAULT, examples)
    prepared(X)
    quantized = qfx.convert_fx(prepared)
    for x in (X, X[:1]):
        assert (quantized(x) - model(x)).abs().max() < 0.05
