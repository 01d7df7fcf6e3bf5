"""Values that share quantization parameters, and ranges known beforehand: when they give way to ranges of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qfx
from qfx.lowering.interpreter import interpret_integers
from qfx.quantization.observer import FixedOrObserved, HistogramObserver, MinMaxObserver, MovingAverageMinMaxObserver
from qfx.quantization.observer.base import APART
from qfx.quantization.observer.union import united

QCONFIGS = {
    "default": qfx.get_default_qconfig(),
    "fbgemm": qfx.get_default_qconfig("fbgemm"),
    "min and max": qfx.QConfig(MinMaxObserver, qfx.default_per_channel_weight_observer),
    "moving average": qfx.QConfig(MovingAverageMinMaxObserver, qfx.default_per_channel_weight_observer),
}
Body = Callable[[Any, Tensor], Any]


class Heads(nn.Module):
    """Boxes ``ratio`` times as wide as scores, and layers that read them."""

    def __init__(self, body: Body, ratio: float = 200.0) -> None:
        super().__init__()
        self.stem, self.box, self.score = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 1)
        self.of_both, self.of_four, self.of_three = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(12, 4, 1)
        with torch.no_grad():
            self.box.weight.mul_(ratio)
            self.box.bias.mul_(ratio)
        self.body = body

    def forward(self, x: Tensor) -> Any:
        y = F.relu(self.stem(x))
        return self.body(self, self.box(y), self.score(y))


def images(count: int, seed: int) -> Tensor:
    return torch.randn(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))


def quantized(body: Body, qconfig: str = "default", ratio: float = 200.0) -> tuple[nn.Module, qfx.QuantizedModel]:
    torch.manual_seed(1)
    net = Heads(body, ratio).eval()
    return net, qfx.quantize_fx(net, {"": QCONFIGS[qconfig]}, [images(4, 0), images(4, 1)])


def sqnr(want: Tensor, got: Tensor) -> float:
    want, got = want.double(), got.double()
    return float(10 * torch.log10(want.square().sum() / (want - got).square().sum()))


def notes(model: qfx.QuantizedModel) -> list[str]:
    return [note for record in model.report for note in record.recovery if "an eighth" in note]


OUTPUTS: dict[str, Body] = {
    "as they are": lambda n, box, score: torch.cat([box, score], 1),
    "probabilities": lambda n, box, score: torch.cat([box * 100, score.sigmoid()], 1),
    "rows": lambda n, box, score: torch.cat([box, score], 1).flatten(2).permute(0, 2, 1),
    "stacked": lambda n, box, score: torch.stack([box, score], 1),
    "levels": lambda n, box, score: torch.cat(
        [torch.cat([box, score], 1).flatten(2), F.avg_pool2d(torch.cat([box, score], 1), 2).flatten(2)], 2
    ),
    "decoded": lambda n, box, score: torch.cat([(box.sigmoid() * 2 - 0.5) * 640, score.sigmoid()], 1).flatten(2).mT,
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_each_part_of_an_output_is_as_good_as_alone(name: str) -> None:
    """Narrow parts beside wide ones: judged apart, and as good as where their parts are returned apart."""
    body = OUTPUTS[name]
    net, model = quantized(body)
    _, alone = quantized(lambda n, box, score: (body(n, box, score * 0), body(n, box * 0, score)))
    x = images(6, 5)
    with torch.no_grad():
        want = net(x)
    narrow = _narrow(want)
    assert sqnr(want[narrow], model(x)[narrow]) > sqnr(want[narrow], alone(x)[1][narrow]) - 1.0
    assert sqnr(want[narrow], model(x)[narrow]) > 25
    assert sqnr(want[~narrow], model(x)[~narrow]) > 25


def _narrow(value: Tensor) -> Tensor:
    """The scores of an output: the second half along the dim of 8, or of 2."""
    dim = next(d for d, length in enumerate(value.shape) if d > 0 and length in (2, 8))
    mask = torch.zeros_like(value, dtype=torch.bool)
    half = value.shape[dim] // 2
    mask.narrow(dim, half, half).fill_(True)
    return mask


SPLIT: dict[str, Body] = {
    "cat": lambda n, box, score: (n.of_four(score), n.of_both(torch.cat([box, score], 1))),
    "stack": lambda n, box, score: (n.of_four(score), n.of_both(torch.stack([box, score], 1).flatten(1, 2))),
    "pad": lambda n, box, score: (n.of_four(score), n.of_four(F.pad(score, (1, 1), value=300.0))),
    "moved on the way": lambda n, box, score: (n.of_four(score.mT), n.of_both(torch.cat([box, score.mT], 1))),
    "pooled": lambda n, box, score: (n.of_four(F.max_pool2d(score, 2)), n.of_both(torch.cat([box, score], 1))),
    "another join": lambda n, box, score: (
        n.of_both(torch.cat([score, n.of_four(score)], 1)), n.of_both(torch.cat([score, box], 1)),
    ),
    "returned": lambda n, box, score: (score, n.of_both(torch.cat([box, score], 1))),
    "moved and returned": lambda n, box, score: (score.flatten(2).mT, n.of_both(torch.cat([box, score], 1))),
    "read by a float op": lambda n, box, score: (score.softmax(1), n.of_both(torch.cat([box, score], 1))),
    "a join of a join": lambda n, box, score: (
        n.of_both(z := torch.cat([score, n.of_four(score)], 1)), n.of_three(torch.cat([z, box], 1)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("qconfig", QCONFIGS)
@pytest.mark.parametrize("name", SPLIT)
def test_a_narrow_operand_keeps_its_own_range_for_what_else_reads_it(name: str, qconfig: str) -> None:
    net, model = quantized(SPLIT[name], qconfig)
    x = images(6, 5)
    with torch.no_grad():
        want = net(x)
    got, exact = model(x), interpret_integers(model.graph_module(), (x,)).output
    assert all(torch.equal(a, b) for a, b in zip(got, exact, strict=True))
    assert min(sqnr(a, b) for a, b in zip(want, got, strict=True)) > 22
    assert notes(model)
    assert [part.executable is not None for part in model.compiled.segments] == [True]


TWICE: dict[str, Body] = {
    "as it is": lambda n, box, score: (z := torch.cat([box, score], 1), n.of_both(z)),
    "stacked": lambda n, box, score: ((z := torch.stack([box, score], 1)).flatten(1, 2), n.of_both(z.flatten(1, 2))),
    "rows": lambda n, box, score: ((z := torch.cat([box, score], 1)).flatten(2), n.of_both(z)),
    "moved before": lambda n, box, score: (z := torch.cat([box, score], 1).mT, n.of_both(z)),
    "pooled": lambda n, box, score: (z := F.avg_pool2d(torch.cat([box, score], 1), 2), n.of_both(z)),
    "joined again": lambda n, box, score: (
        z := torch.cat([y := torch.cat([box, score], 1), n.of_both(y)], 1), n.of_three(z),
    ),
    "in a float op": lambda n, box, score: ((z := torch.cat([box, score], 1)).cumsum(2), n.of_both(z)),
}  # fmt: skip


@pytest.mark.parametrize("qconfig", QCONFIGS)
@pytest.mark.parametrize("name", TWICE)
def test_a_join_that_is_returned_and_read_by_a_layer_is_returned_as_good_as_its_parts(name: str, qconfig: str) -> None:
    net, model = quantized(TWICE[name], qconfig)
    x = images(6, 5)
    with torch.no_grad():
        (want, layer), (got, of_layer) = net(x), model(x)
    narrow = (slice(None), slice(4, 8))
    assert min(sqnr(want[narrow], got[narrow]), sqnr(want, got), sqnr(layer, of_layer)) > 22
    exact = interpret_integers(model.graph_module(), (x,)).output
    assert all(torch.equal(a, b) for a, b in zip((got, of_layer), exact, strict=True))


def test_a_join_that_leaves_as_integers_has_no_copy() -> None:
    torch.manual_seed(1)
    net = Heads(TWICE["as it is"]).eval()
    model = qfx.quantize_fx(net, {"": QCONFIGS["default"], "output_quantized_idxs": [0]}, [images(4, 0)])
    assert model(images(4, 1))[0].dtype is torch.uint8
    assert [record.decision for record in model.report if record.op == "cat"] == ["int8"]


@pytest.mark.parametrize("qconfig", QCONFIGS)
def test_ranges_that_are_not_apart_share_as_one_observer_finds(qconfig: str) -> None:
    """The operand of a join that a layer reads too, of the join's range: the qparams of one observer of both."""
    body = SPLIT["cat"]
    torch.manual_seed(1)
    net = Heads(body, 1.0).eval()
    prepared = qfx.prepare_fx(net, {"": QCONFIGS[qconfig]}, (images(4, 0),))
    shared = QCONFIGS[qconfig].activation()
    with torch.no_grad():
        for batch in (images(4, 0), images(4, 1)):
            prepared(batch)
            y = F.relu(net.stem(batch))
            shared(net.box(y))
            shared(net.score(y))
    records = {r.name: r for r in qfx.convert_fx(prepared).report}
    assert records["cat"].qparams == records["box"].qparams == records["score"].qparams == shared.qparams()
    assert not notes(qfx.convert_fx(prepared))


@pytest.mark.parametrize(("ratio", "apart"), [(0.9 * APART, False), (1.1 * APART, True)])
def test_ranges_are_apart_beyond_the_ratio(ratio: float, apart: bool) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.narrow, self.both, self.one = (nn.Conv2d(i, 1, 1, bias=False) for i in (1, 1, 2, 1))
            nn.init.constant_(self.wide.weight, ratio)
            nn.init.constant_(self.narrow.weight, 1.0)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            narrow = self.narrow(x)
            return self.one(narrow), self.both(torch.cat([self.wide(x), narrow], 1))

    model = qfx.quantize_fx(Scaled().eval(), {"": QCONFIGS["min and max"]}, [torch.rand(2, 1, 4, 4)])
    assert bool(notes(model)) == apart


def test_an_operand_that_only_the_join_reads_shares_and_is_rounded_once() -> None:
    _, model = quantized(lambda n, box, score: n.of_both(torch.cat([box, score], 1)))
    assert not notes(model)
    assert "lookup" not in str(model.explain())


def test_an_observer_whose_states_nobody_unites_goes_on_sharing() -> None:
    class Own(MinMaxObserver):
        pass

    qconfig = {"": qfx.QConfig(Own, qfx.default_per_channel_weight_observer)}
    torch.manual_seed(1)
    net = Heads(SPLIT["a join of a join"]).eval()
    model = qfx.quantize_fx(net, qconfig, [images(4, 0)])
    assert not notes(model)
    assert model(images(2, 3))[0].isfinite().all()


@pytest.mark.parametrize("kind", [MinMaxObserver, HistogramObserver])
def test_united_observers_are_one_that_saw_everything(kind: Any) -> None:
    parts, whole = [kind(), kind()], kind()
    for observer, x in zip(parts, (torch.randn(500), 40 * torch.rand(700)), strict=True):
        observer(x)
        whole(x)
    one = united(parts)
    assert one.qparams() == whole.qparams()
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), whole.buffers(), strict=True))


def test_training_shares_whatever_the_ranges_are() -> None:
    """The model learns with the joint scale, so conversion keeps it."""
    torch.manual_seed(1)
    prepared = qfx.prepare_qat_fx(Heads(SPLIT["cat"]), {"": qfx.get_default_qat_qconfig()}, (images(4, 0),))
    prepared(images(4, 0))
    model, x = qfx.convert_fx(prepared.eval()), images(4, 2)
    records = {r.name: r for r in model.report}
    assert records["cat"].qparams == records["score"].qparams
    with torch.no_grad():
        for a, b in zip(prepared(x), model(x), strict=True):
            assert sqnr(a, b) > 40


# ---------------------------------------------------------------- ranges known beforehand


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "hardsigmoid": F.hardsigmoid,
    "tanh": torch.tanh,
    "softmax": lambda x: F.softmax(x, 1),
}
OFFSETS = {"sigmoid": -5.0, "hardsigmoid": -2.9, "tanh": 0.0, "softmax": 0.0}


class Gate(nn.Module):
    """A function of values about ``offset`` as wide as ``spread``, read by a layer."""

    def __init__(self, name: str, channels: int, spread: float, offset: float) -> None:
        super().__init__()
        self.function, self.offset = FUNCTIONS[name], offset
        self.first, self.last = nn.Conv2d(3, channels, 1, bias=False), nn.Conv2d(channels, 4, 1, bias=False)
        with torch.no_grad():
            self.first.weight *= spread

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x) + self.offset))


def gate(name: str, spread: float, offset: float, qconfig: str = "default") -> tuple[Gate, qfx.PreparedModel]:
    torch.manual_seed(0)
    net = Gate(name, 64, spread, offset).eval()
    prepared = qfx.prepare_fx(net, {"": QCONFIGS[qconfig]}, (images(4, 0),))
    for seed in range(2):
        prepared(images(4, seed))
    return net, prepared


@pytest.mark.parametrize("qconfig", QCONFIGS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_fixed_range_gives_way_where_little_of_it_is_used(name: str, qconfig: str) -> None:
    net, prepared = gate(name, 0.02, OFFSETS[name], qconfig)
    model, x = qfx.convert_fx(prepared), images(6, 9)
    record = next(r for r in model.report if r.op == name)
    assert record.qparams.scale * 127 < FIXED[name] * 255 / APART
    assert any("fixed" in note for note in record.recovery)
    assert torch.equal(model(x), interpret_integers(model.graph_module(), (x,)).output)
    with torch.no_grad():
        want, own = net(x), sqnr(net(x), model(x))
    known = {f"{name}.scale": torch.tensor(FIXED[name]), f"{name}.zero_point": torch.tensor(128 * (name == "tanh"))}
    model.load_state_dict(model.state_dict() | known)
    assert own > sqnr(want, model(x)) + 6


FIXED = {"sigmoid": 1 / 256, "hardsigmoid": 1 / 256, "tanh": 2 / 256, "softmax": 1 / 256}


@pytest.mark.parametrize("name", ["sigmoid", "hardsigmoid", "tanh"])
def test_a_fixed_range_stays_where_it_is_used(name: str) -> None:
    _, prepared = gate(name, 4.0, 0.0)
    record = next(r for r in qfx.convert_fx(prepared).report if r.op == name)
    assert (record.qparams.scale, record.recovery) == (FIXED[name], ())


def test_what_is_not_finite_does_not_count() -> None:
    """A row of a softmax that a mask leaves nothing of."""
    observer = FixedOrObserved(1 / 256, 0, "quint8", MinMaxObserver())
    assert observer.qparams().scale == 1 / 256
    observer(torch.tensor([0.01, float("nan"), float("inf")]))
    assert observer.gave_way
    assert observer.qparams().scale == MinMaxObserver().affine(torch.zeros(1), torch.tensor([0.01]))[0].item()


def test_training_keeps_fixed_ranges() -> None:
    torch.manual_seed(0)
    net = Gate("tanh", 8, 0.01, 0.0)
    prepared = qfx.prepare_qat_fx(net, {"": qfx.get_default_qat_qconfig()}, (images(4, 0),))
    prepared(images(4, 0))
    record = next(r for r in qfx.convert_fx(prepared.eval()).report if r.op == "tanh")
    assert record.qparams.scale == 2 / 256
