"""One Normal form whatever the frontend: every row of the op table on its samples, and networks."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qfx.observed import capture_normal
from qfx.ops import TABLE, Sample
from tests.frontends.canonical import dump
from tests.lowering.test_golden import BODIES, Body
from tests.nets import NETS, small_net

FRONTENDS = ("symbolic", "torchscript", "export")

BELOW_NORMAL = {
    "quantize", "dequantize", "requantize_dynamic", "decode_weight", "rotate", "rotary", "gated", "causal_softmax",
}  # fmt: skip
"""Rows that no frontend makes: of later levels and passes, and of files from before attention was an op."""


class Sampled(nn.Module):
    """A sample of a row: its activations are inputs, its other tensors buffers, the rest is constant."""

    def __init__(self, op: str, sample: Sample) -> None:
        super().__init__()
        self.op, self.options, self.arguments = op, dict(sample.kwargs), []
        inputs: list[Tensor] = []
        for name, value in zip(inspect.signature(TABLE[op].fn).parameters, sample.args, strict=False):
            if isinstance(value, list):
                self.arguments.append(slice(len(inputs), len(inputs) + len(value)))
                inputs += value
            elif isinstance(value, Tensor) and name in TABLE[op].tensors:
                self.arguments.append(slice(len(inputs), len(inputs) + 1, 1))
                inputs.append(value)
            elif isinstance(value, Tensor):
                self.register_buffer(name, value.clone())
                self.arguments.append(name)
            else:
                self.arguments.append((value,))
        self.inputs = tuple(inputs)

    def forward(
        self, a: Tensor, b: Tensor | None = None, c: Tensor | None = None, d: Tensor | None = None
    ) -> Any:  # fmt: skip
        arguments = [self.argument(item, (a, b, c, d)) for item in self.arguments]
        return TABLE[self.op].fn(*arguments, **self.options)

    def argument(self, item: Any, given: tuple[Any, ...]) -> Any:
        if isinstance(item, slice):
            return list(given[item]) if item.step is None else given[item.start]
        return getattr(self, item) if isinstance(item, str) else item[0]


class Lambda(nn.Module):
    """A function, with layers and constants to call."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor], *shape: int, **layers: nn.Module) -> None:
        super().__init__()
        self.function, self.shape = function, shape
        self.layers = nn.ModuleDict(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layers, x)


def _norm() -> nn.Module:
    norm = nn.BatchNorm2d(3)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2.0)
    return norm


class First(nn.Module):
    """What a layer gives at every time step, of all that it returns."""

    def forward(self, given: Any) -> Any:
        return given[0]


IMAGE = (2, 3, 8, 9)
SEQUENCE = (5, 3, 6)
SPELLED: dict[str, list[tuple[nn.Module, tuple[int, ...]]]] = {
    "channel_affine": [(nn.Sequential(_norm()), IMAGE), (Lambda(lambda m, x: m["norm"](x), norm=_norm()), IMAGE)],
    "max_pool": [
        (nn.Sequential(nn.MaxPool2d((3, 2), (2, 1), (1, 1), 1, False, True)), IMAGE),
        (nn.Sequential(nn.MaxPool1d(3, 2, 1, 2)), (2, 3, 11)),
        (Lambda(lambda m, x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True)), IMAGE),
        (Lambda(lambda m, x: F.max_pool3d(x, 2)), (1, 2, 4, 5, 6)),
    ],
    "avg_pool": [
        (nn.Sequential(nn.AvgPool2d((3, 2), (2, 1), (1, 1), True, False)), IMAGE),
        (nn.Sequential(nn.AvgPool1d(4, 3, 2)), (2, 3, 11)),
        (Lambda(lambda m, x: F.avg_pool2d(x, 3, 2, 1, divisor_override=5)), IMAGE),
        (Lambda(lambda m, x: F.avg_pool3d(x, 2)), (1, 2, 4, 5, 6)),
    ],
    "adaptive_avg_pool": [
        (nn.Sequential(nn.AdaptiveAvgPool2d((6, None))), IMAGE),
        (Lambda(lambda m, x: F.adaptive_avg_pool1d(x, 4)), (2, 3, 10)),
    ],
    "adaptive_max_pool": [
        (nn.Sequential(nn.AdaptiveMaxPool2d((3, 4))), IMAGE),
        (Lambda(lambda m, x: F.adaptive_max_pool1d(x, 4)), (2, 3, 10)),
    ],
    "channel_shuffle": [
        (nn.Sequential(nn.ChannelShuffle(3)), (2, 12, 3, 5)),
        (Lambda(lambda m, x: F.channel_shuffle(x, 2)), (1, 6, 4, 4)),
    ],
    "attention": [
        (Lambda(lambda m, x: F.scaled_dot_product_attention(x, x, x, is_causal=True, scale=0.5)), (2, 3, 5, 8)),
    ],
    "lstm": [
        (nn.Sequential(nn.LSTM(6, 7), First()), SEQUENCE),
        (nn.Sequential(nn.LSTM(6, 7, 2, bias=False, batch_first=True, bidirectional=True), First()), SEQUENCE),
        (Lambda(lambda m, x: m["layer"](x)[1][1], layer=nn.LSTM(6, 7, 2, bidirectional=True)), SEQUENCE),
        (Lambda(lambda m, x: m["layer"](x, (x.narrow(0, 0, 1), x.narrow(0, 1, 1)))[0], layer=nn.LSTM(6, 6)), SEQUENCE),
        (nn.Sequential(nn.LSTM(6, 7), First()), (5, 6)),
    ],
    "gru": [
        (nn.Sequential(nn.GRU(6, 7, 2, batch_first=True, bidirectional=True), First()), SEQUENCE),
        (
            Lambda(
                lambda m, x: m["layer"](x, x.narrow(0, 0, 2))[0], layer=nn.GRU(6, 6, bias=False, bidirectional=True)
            ),
            SEQUENCE,
        ),
    ],
    "rnn": [
        (nn.Sequential(nn.RNN(6, 7, 2), First()), SEQUENCE),
        (nn.Sequential(nn.RNN(6, 7, nonlinearity="relu", batch_first=True, bidirectional=True), First()), SEQUENCE),
    ],
    "last_state": [
        (Lambda(lambda m, x: m["layer"](x)[1], layer=nn.GRU(6, 7)), SEQUENCE),
        (Lambda(lambda m, x: m["layer"](x)[1][0], layer=nn.LSTM(6, 7, 2, bidirectional=True)), SEQUENCE),
    ],
    "embedding": [(Lambda(lambda m, x: m.table(x.abs().long()), table=nn.Embedding(9, 4)), (2, 3))],
    "embedding_bag": [
        (Lambda(lambda m, x: m.bag(x.abs().long()), bag=nn.EmbeddingBag(9, 4, mode="max", padding_idx=2)), (2, 3)),
        (Lambda(lambda m, x: m.bag(x.abs().long(), None, x), bag=nn.EmbeddingBag(9, 4, mode="sum")), (2, 3)),
        (Lambda(lambda m, x: m.bag(x.abs().long(), x.mul(0.0).long()), bag=nn.EmbeddingBag(9, 4, sparse=True)), (3,)),
    ],
    "arange": [(Lambda(lambda m, x: x + torch.arange(x.shape[1])), (2, 3))],
    "full": [(Lambda(lambda m, x: x + torch.full((x.shape[0], 1), 2.0)), (2, 3))],
    "slice": [
        (Lambda(lambda m, x: x[:, 1:3]), IMAGE),
        (Lambda(lambda m, x: x[..., :-1:2]), IMAGE),
        (Lambda(lambda m, x: torch.cat(x.chunk(2, 3)[::-1], 3)), (2, 3, 8, 8)),
        (Lambda(lambda m, x: x.narrow(1, 1, 2) * x.split(1, 1)[0]), IMAGE),
    ],
}
"""User code for the rows whose float reference is more than user code."""


def _cases() -> Iterator[Any]:
    for name, samples in ((op.name, op.samples) for op in TABLE.values()):
        if name in SPELLED:
            yield from (pytest.param(net, (torch.randn(shape),), id=f"{name}-{i}")
                        for i, (net, shape) in enumerate(SPELLED[name]))  # fmt: skip
        elif name not in BELOW_NORMAL:
            for index, sample in enumerate(samples()):
                net = Sampled(name, sample)
                yield pytest.param(net, net.inputs, id=f"{name}-{index}")


def test_every_row_is_compared() -> None:
    assert set(TABLE) == {case.id.rpartition("-")[0] for case in _cases()} | BELOW_NORMAL


UNBATCHED = {"conv-11", "conv-10"}
"""Samples that TorchScript and export write with a batch of one, as torch computes them."""


@pytest.mark.parametrize(("net", "inputs"), [case for case in _cases() if case.id not in UNBATCHED])
def test_every_row_has_one_normal_form(net: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    compare(net.eval(), inputs)


def compare(net: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Captures by every frontend; the first dump is symbolic tracing's."""
    forms = {name: capture_normal(net, inputs, frontend=name) for name in FRONTENDS}
    dumps = {name: dump(form) for name, form in forms.items()}
    assert dumps["torchscript"] == dumps["symbolic"]
    assert dumps["export"] == dumps["symbolic"]
    with torch.no_grad():
        torch.testing.assert_close(forms["torchscript"](*inputs), net(*inputs), rtol=1e-4, atol=1e-4)


class Prelus(nn.Module):
    """Every way to write a leaky ReLU with learned slopes, one for all channels or one for each."""

    def __init__(self, slopes: int) -> None:
        super().__init__()
        self.layer = nn.PReLU(slopes, init=0.1)
        self.slope = nn.Parameter(torch.linspace(0.2, 0.3, slopes))
        self.register_buffer("fixed", torch.full((slopes,), 0.4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.prelu(F.prelu(self.layer(x), self.slope), self.fixed).prelu(self.slope)


@pytest.mark.parametrize("slopes", [1, 3])
@pytest.mark.parametrize("form", ["module", "program", "scripted", "traced"])
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_prelu_has_one_normal_form(slopes: int, form: str) -> None:
    net, x = Prelus(slopes).eval(), torch.randn(IMAGE)
    compare(net, (x,))
    if form == "module":
        return
    makers: dict[str, Callable[..., Any]] = {"program": torch.export.export, "traced": torch.jit.trace}
    model = torch.jit.script(net) if form == "scripted" else makers[form](net, (x,))
    assert dump(capture_normal(model, (x,))) == dump(capture_normal(net, (x,), frontend="symbolic"))


@pytest.mark.parametrize("name", NETS)
def test_networks_have_one_normal_form(name: str) -> None:
    compare(small_net(name), (torch.randn(2, 3, 32, 32),))


@pytest.mark.parametrize("name", BODIES)
def test_small_graphs_have_one_normal_form(name: str) -> None:
    compare(Body(BODIES[name]).eval(), (torch.randn(2, 3, 8, 8),))
