"""Which cheap operations stay float: what nothing int8 reads, what lies between a spread range and its inverse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qfx
from qfx.lowering.interpreter import interpret_integers
from qfx.passes import precision

DEFAULT = {"": qfx.get_default_qconfig()}
Body = Callable[[Any, Tensor], Any]


class Net(nn.Module):
    """A convolution of ``[N, 3, 6, 6]``, two more and a linear layer for ``body``, a function of the first's result."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.first, self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.fc, self.norm = nn.Linear(8, 8), nn.BatchNorm2d(8)
        self.norm.running_var.fill_(3.0)
        self.body = body

    def forward(self, x: Tensor) -> Any:
        return self.body(self, self.first(x))


def images(count: int, seed: int) -> Tensor:
    return torch.randn(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))


def quantized(body: Body) -> tuple[nn.Module, qfx.QuantizedModel]:
    torch.manual_seed(1)
    net = Net(body).eval()
    return net, quantize(net, DEFAULT)


def quantize(net: nn.Module, qconfig_dict: dict[str, Any]) -> qfx.QuantizedModel:
    return qfx.quantize_fx(net, qconfig_dict, [images(4, 0)], adaptive_rounding=False)


def sqnr(want: Tensor, got: Tensor) -> float:
    want, got = want.double(), got.double()
    return float(10 * torch.log10(want.square().sum() / (want - got).square().sum()))


def cheap(model: qfx.QuantizedModel) -> dict[str, set[str]]:
    """Reasons of the float records of ops without weights."""
    found: dict[str, set[str]] = {}
    for record in model.report:
        if record.op not in ("conv", "linear", "matmul"):
            found.setdefault(record.decision, set()).add(record.reason)
    return found


TAILS: dict[str, Body] = {
    "view": lambda n, y: y.view(y.shape[0], -1),
    "permute": lambda n, y: y.permute(0, 2, 3, 1),
    "t": lambda n, y: y[0, 0].t(),
    "chunk": lambda n, y: y.chunk(2, 1),
    "slices": lambda n, y: (y[:, 1:, ::2], y[:, -1]),
    "stack": lambda n, y: torch.stack([y, y * 2]),
    "expand": lambda n, y: y[:, :, None].expand(-1, -1, 2, -1, -1),
    "squeeze": lambda n, y: y[:, :1].squeeze(1),
    "pad": lambda n, y: F.pad(y, (1, 0, 2, 1), value=3.0),
    "reflect": lambda n, y: F.pad(y, (1, 1, 1, 1), mode="reflect"),
    "pixel shuffle": lambda n, y: F.pixel_shuffle(y, 2),
    "channel shuffle": lambda n, y: F.channel_shuffle(y, 2),
    "tanh": lambda n, y: torch.tanh(y),
    "sigmoid": lambda n, y: y.sigmoid(),
    "hardsigmoid": lambda n, y: F.hardsigmoid(y),
    "silu": lambda n, y: F.silu(y),
    "gelu": lambda n, y: F.gelu(y),
    "softplus": lambda n, y: F.softplus(y),
    "exp": lambda n, y: y.exp(),
    "softmax of scores": lambda n, y: (y * 4 + 1).softmax(1),
    "relu twice read": lambda n, y: (F.relu(y), y),
    "two heads": lambda n, y: n.a(y) + n.b(y),
    "two heads, clamped": lambda n, y: F.relu6(n.a(y) + n.b(y)),
    "a head and a function": lambda n, y: n.a(y) + F.silu(y),
    "three heads": lambda n, y: n.a(y) - n.b(y) * n.norm(y),
    "batch norm": lambda n, y: n.norm(F.relu(y)),
    "max pool": lambda n, y: F.max_pool2d(y, 3, 2, 1),
    "average pool": lambda n, y: F.avg_pool2d(y, 3, 2, 1, count_include_pad=False),
    "average pool of a divisor": lambda n, y: F.avg_pool2d(y, 2, divisor_override=3),
    "adaptive pools": lambda n, y: F.adaptive_avg_pool2d(y, (3, 2)) + F.adaptive_max_pool2d(y, (3, 2)),
    "global pool": lambda n, y: F.adaptive_avg_pool2d(y, 1).flatten(1),
    "mean of apart dims": lambda n, y: y.mean((1, 3)),
    "mean, kept": lambda n, y: y.mean(1, keepdim=True),
    "sum": lambda n, y: y.sum((2, 3)),
    "maximum": lambda n, y: y.amax((0, 2), keepdim=True),
    "bilinear": lambda n, y: F.interpolate(y, scale_factor=2, mode="bilinear"),
    "bilinear, aligned": lambda n, y: F.interpolate(y, size=(11, 5), mode="bilinear", align_corners=True),
    "nearest": lambda n, y: F.interpolate(y, size=(11, 17)),
    "heads of different ranges": lambda n, y: torch.cat([n.a(y).exp(), n.b(y).sigmoid()], 1)[:, 2:].flatten(2),
    "decoded boxes": lambda n, y: torch.cat([(n.a(y)[:, :2].sigmoid() * 2 - 0.5) * 8, n.b(y)[:, 2:].exp()], 1).mT,
    "normalized": lambda n, y: y / y.square().sum(1, keepdim=True).sqrt(),
}


@pytest.mark.parametrize("name", TAILS)
def test_what_only_outputs_read_is_not_rounded(name: str) -> None:
    net, model = quantized(TAILS[name])
    twin, x = quantize(net, {"": None, "object_type": _LAYERS}), images(5, 9)
    assert cheap(model).keys() <= {"float"}
    assert [part.executable is not None for part in model.compiled.segments] == [True]
    exact = interpret_integers(model.graph_module(), (x,)).output
    for got, layers_only, integers in zip(*map(_flat, (model(x), twin(x), exact)), strict=True):
        torch.testing.assert_close(got, integers, rtol=0, atol=0)
        torch.testing.assert_close(got, layers_only, rtol=2**-20, atol=2**-20)
    layers = [part for part in model.report if part.op == "conv"]
    assert layers[-1].qparams is None


_LAYERS = [(nn.Conv2d, qfx.get_default_qconfig())]


def _flat(value: Any) -> tuple[Tensor, ...]:
    return value if isinstance(value, tuple) else tuple(value) if isinstance(value, list) else (value,)


INSIDE: dict[str, Body] = {
    "relu": lambda n, y: n.a(F.silu(y)),
    "global pool and linear": lambda n, y: n.fc(F.adaptive_avg_pool2d(y, 1).flatten(1)),
    "pools": lambda n, y: n.a(F.avg_pool2d(F.max_pool2d(y, 2), 2)),
    "bilinear": lambda n, y: n.a(F.interpolate(y, scale_factor=2, mode="bilinear")),
    "residual": lambda n, y: n.b(n.a(y) + F.silu(y)),
    "squeeze and excite": lambda n, y: n.b(y * n.a(y.mean((2, 3), keepdim=True)).sigmoid()),
    "concatenation": lambda n, y: n.b(torch.cat([y[:, :4], n.a(y)[:, 4:]], 1)),
    "matmul": lambda n, y: y.flatten(2) @ F.silu(y).flatten(2).mT,
    "read by a layer and returned": lambda n, y: (z := F.silu(y), n.a(z)),
}


@pytest.mark.parametrize("name", INSIDE)
def test_what_a_layer_reads_stays_int8(name: str) -> None:
    _, model = quantized(INSIDE[name])
    assert cheap(model).keys() == {"int8"}


def test_before_a_float_operation_in_the_middle_nothing_is_rounded() -> None:
    _, model = quantized(lambda n, y: n.fc(F.layer_norm(F.silu(y.permute(0, 2, 3, 1)), (8,))))
    assert cheap(model).keys() == {"float"}
    assert [r.reason for r in model.report if r.op == "permute"] == [precision.UNREAD]


def test_a_stream_that_only_norms_and_sums_read_is_float() -> None:
    """The residual stream of a transformer: every layer reads it behind a norm."""

    class Stream(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(3))
            self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            for layer, norm in zip(self.layers, self.norms, strict=True):
                x = x + layer(norm(x))
            return x

    torch.manual_seed(0)
    net, x = Stream().eval(), torch.randn(4, 6, 16) * torch.tensor([100.0] + [1.0] * 15)
    model = qfx.quantize_fx(net, DEFAULT, [torch.randn(4, 6, 16) * torch.tensor([100.0] + [1.0] * 15), x])
    assert [r.fused for r in model.report if r.op == "linear"] == [("residual",)] * 3
    assert all(r.qparams is None for r in model.report if r.op == "linear")
    assert {step.op for step in model.explain().parts[0].steps} == {"layer_norm+quantize", "conv"}  # type: ignore[union-attr]
    assert torch.equal(model(x), interpret_integers(model.graph_module(), (x,)).output)
    with torch.no_grad():
        want = net(x)
    assert sqnr(want[..., 1:], model(x)[..., 1:]) > 35


def test_an_output_that_leaves_as_integers_keeps_its_tail_int8() -> None:
    qconfig_dict = {**DEFAULT, "output_quantized_idxs": [0]}
    torch.manual_seed(1)
    net = Net(lambda n, y: F.silu(y).flatten(1)).eval()
    model = quantize(net, qconfig_dict)
    assert cheap(model).keys() == {"int8"}
    assert model(images(2, 1)).dtype is torch.uint8


# ---------------------------------------------------------------- ranges that are spread


SPREAD: dict[str, Body] = {
    "magnitude": lambda n, y: (y**2 + y.mT**2).sqrt(),
    "magnitude of parts": lambda n, y: (torch.cat([y[:, :4], y[:, :4]], 1) ** 2 + y**2).sqrt(),
    "magnitude by products": lambda n, y: torch.sqrt(y * y + y.mT * y.mT + 1e-6),
    "square root by power": lambda n, y: y.pow(2).mean(1, keepdim=True).expand(-1, 8, -1, -1).pow(0.5),
    "cube root of cubes": lambda n, y: (F.relu(y).pow(3) + 1e-3).pow(1 / 3),
    "p-norm": lambda n, y: y * y.abs().pow(4).sum(1, keepdim=True).pow(-0.25),
    "rms": lambda n, y: y * torch.rsqrt(y.pow(2).mean(1, keepdim=True) + 1e-5),
    "rms by division": lambda n, y: y / (y.square().mean((2, 3), keepdim=True) + 1e-5).sqrt(),
    "normalized": lambda n, y: (
        (y - y.mean(1, keepdim=True)) / ((y - y.mean(1, keepdim=True)) ** 2).mean(1, True).sqrt()
    ),
    "exp over its sum": lambda n, y: y.exp() / y.exp().sum(1, keepdim=True),
    "exp times a reciprocal": lambda n, y: y.exp() * y.exp().sum(1, keepdim=True).reciprocal(),
    "log of a sum of exp": lambda n, y: y.exp().sum(1, keepdim=True).log().expand(-1, 8, -1, -1),
    "log of squares": lambda n, y: torch.log(1 + y**2),
    "tanh by hand": lambda n, y: (y.exp() - 1) / (y.exp() + 1),
    "pooled power": lambda n, y: F.avg_pool2d(y**2, 3, 1, 1).sqrt(),
    "power": lambda n, y: y**2,
    "exponentials": lambda n, y: y.exp() + y.mT,
    "root of no square": lambda n, y: F.relu(y).sqrt(),
    "root of a product": lambda n, y: F.relu(y * y.mT).sqrt(),
    "root behind a pool": lambda n, y: F.max_pool2d(y, 3, 1, 1).abs().sqrt(),
    "a layer in between": lambda n, y: F.relu(n.a(y**2)).sqrt(),
    "interpolated power": lambda n, y: F.interpolate(y**2, size=(6, 6), mode="bilinear", align_corners=True).sqrt(),
}


@pytest.mark.parametrize("name", SPREAD)
def test_between_a_spread_range_and_its_inverse_layers_see_what_float_code_computes(name: str) -> None:
    """Bit for bit the model in which nothing but the layers is quantized."""
    net, model = quantized(lambda n, y: n.b(SPREAD[name](n, n.a(y))))
    twin, x = quantize(net, {"": None, "object_type": _LAYERS}), images(16, 7)
    assert torch.equal(model(x), twin(x))
    assert torch.equal(model(x), interpret_integers(model.graph_module(), (x,)).output)
    assert all(part.executable is not None for part in model.compiled.segments)


@pytest.mark.parametrize("name", SPREAD)
def test_a_spread_range_stays_float_although_a_layer_reads_it_too(name: str) -> None:
    """``y`` is read by a layer, and so exists as integers; what spreads it computes in float all the same."""
    _, model = quantized(lambda n, y: n.b(SPREAD[name](n, y)) + n.a(y))
    spreading = [r for r in model.report if r.op in ("square", "pow_scalar", "exp", "sqrt", "log", "reciprocal", "div")]
    assert spreading
    assert {r.decision for r in spreading} == {"float"}


UNSPREAD: dict[str, Body] = {
    "a bounded square": lambda n, y: n.b((y**2).tanh() + y),
    "gelu by hand": lambda n, y: n.b(0.5 * y * (1 + torch.tanh(0.8 * (y + 0.04 * y**3)))),
    "a gate": lambda n, y: n.b(y * y.sigmoid()),
    "a reciprocal of a constant": lambda n, y: n.b(y * (n.norm.running_var + 1).rsqrt()[:, None, None]),
}


@pytest.mark.parametrize("name", UNSPREAD)
def test_other_functions_stay_int8(name: str) -> None:
    _, model = quantized(UNSPREAD[name])
    assert "float" not in cheap(model)


def test_the_report_names_the_rule() -> None:
    _, model = quantized(lambda n, y: torch.tanh(n.b((y**2 + 1).sqrt() * (y**2).mean(1, keepdim=True).rsqrt())))
    assert cheap(model)["float"] == {
        precision.UNREAD, precision.SPREAD, precision.DIVISION, "rsqrt is computed in float between int8 values",
    }  # fmt: skip
