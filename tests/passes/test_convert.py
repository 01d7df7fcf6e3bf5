"""Observed to QDQ: where integers are stored when parameters have several uses, and what the graph becomes."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qfx
from qfx.lowering.interpreter import interpret_integers
from qfx.models import QuantizedModel

DEFAULT = {"": qfx.get_default_qconfig()}
X = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(9))


def quantized(model: nn.Module) -> QuantizedModel:
    """``model`` quantized, after a check that it is close to the float one and exact."""
    torch.manual_seed(0)
    made = qfx.quantize_fx(model.eval(), DEFAULT, [X])
    with torch.no_grad():
        want = model(X)
    got = made(X)
    assert (got - want).square().sum() < 1e-2 * want.square().sum()
    assert torch.equal(got, interpret_integers(made.graph_module(), (X,)).output)
    return made


def dtypes(model: QuantizedModel, *names: str) -> dict[str, torch.dtype]:
    state = model.state_dict()
    return {k: v.dtype for k, v in state.items() if k.rpartition(".")[2] in names}


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.relu(self.conv(x)))


def test_a_module_used_twice_stores_its_weight_once_and_a_bias_for_each_input_scale() -> None:
    model = quantized(Twice())
    assert dtypes(model, "weight", "weight_int8") == {"conv.weight": torch.int8}
    assert dtypes(model, "bias", "bias_int8") == {"conv.bias": torch.int32, "conv.bias_int8": torch.int32}


class WeightAdded(nn.Module):
    """The weight of an int8 layer is an activation too."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) + self.fc.weight


class WeightInFloat(nn.Module):
    """The weight and the bias of an int8 layer are operands of float ops too."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        return torch.matmul(self.fc(x), self.fc.weight) / self.fc.bias.abs().add(1)


@pytest.mark.parametrize("model", [WeightAdded, WeightInFloat])
def test_a_parameter_that_something_else_reads_stays_float_beside_its_integers(model: type[nn.Module]) -> None:
    made = quantized(model())
    kinds = dtypes(made, "weight", "weight_int8")
    assert kinds == {"fc.weight": torch.float32, "fc.weight_int8": torch.int8}


class Collisions(nn.Module):
    """Names that conversion would like to use are taken."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.weight_scale = nn.Parameter(torch.randn(4, 3, 1, 1)), nn.Parameter(torch.rand(4, 1, 1) + 1)
        self.bias = nn.Conv2d(4, 4, 1)
        self.bias.scale, self.bias.zero_point = nn.Parameter(torch.rand(4, 1, 1)), nn.Parameter(torch.rand(4, 1, 1))
        self.x = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.softplus(F.conv2d(x, self.weight)) * self.weight_scale
        return self.x(F.softplus(self.bias(x)) * self.bias.scale + self.bias.zero_point)


def test_names_that_the_user_took_are_left_to_the_user() -> None:
    model = quantized(Collisions())
    state = model.state_dict()
    assert state["bias.weight"].dtype == torch.int8
    assert {k for k, v in state.items() if v.dtype == torch.int8} >= {"bias.weight", "x.weight"}


class Shared(nn.Module):
    """One Parameter under two modules."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.a(x)))


def test_a_parameter_shared_by_two_modules_is_quantized_for_both() -> None:
    made = quantized(Shared())
    a, b = made.a.weight, made.b.weight
    assert a.dtype == b.dtype == torch.int8
    assert torch.equal(a, b)


def test_a_qdq_graph_has_pairs_of_quantize_and_dequantize_and_no_observers() -> None:
    model = quantized(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 2, 1)))
    calls = Counter(getattr(n.target, "__name__", n.target) for n in model.graph.nodes if n.op.startswith("call"))
    assert calls == {"conv": 2, "max_pool": 1, "quantize": 3, "dequantize": 3 + 4}
    for node in model.graph.nodes:
        if getattr(node.target, "__name__", "") == "quantize":
            assert [u.target.__name__ for u in node.users] == ["dequantize"]


def test_values_that_share_qparams_read_the_same_buffers() -> None:
    model = quantized(nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(2), nn.Conv2d(4, 2, 1)))
    scales = [n.args[1].target for n in model.graph.nodes if getattr(n.target, "__name__", "") == "quantize"]
    assert len(scales) == 3
    assert len(set(scales)) == 2


@pytest.mark.parametrize("kernel", [1, 3])
def test_corrected_biases_have_no_mean_error_on_the_calibration_data(kernel: int) -> None:
    """Without padding the input mean of each tap is nearly that of the layer; with kernel 1 it is exactly that."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, kernel, bias=False)).eval()
    qconfig = {"": qfx.QConfig(qfx.MinMaxObserver, qfx.default_weight_observer.with_args(quant_min=-8, quant_max=7))}
    x = X.abs()
    with torch.no_grad():
        want = net(x).double().mean((0, 2, 3))
    errors = {}
    for correction in (False, True):
        model = qfx.quantize_fx(net, qconfig, [x], bias_correction=correction, adaptive_rounding=False)
        errors[correction] = float((model.run_graph(x).double().mean((0, 2, 3)) - want).abs().max())
    assert errors[True] < 0.1 * errors[False]
