"""Rows of rotated inputs that one scale can't hold: which layers read a scale a row, what they compute and gain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import qfx
from qfx.lowering.interpreter import interpret_integers
from qfx.passes.row_scales import BY_ROWS
from qfx.quantization.observer import HistogramObserver

WIDTH = 64
DEFAULT = qfx.get_default_qconfig()
LARGE = 40.0
"""What a few rows are times as large as the others."""


class OneScale(HistogramObserver):
    """An observer of a user's own: the default's range, and one scale for all rows."""


SHARED = qfx.quantization.QConfig(OneScale.with_args(eps=2.0**-60), DEFAULT.weight)


class Net(nn.Module):
    """A layer that reads ``body``'s value, and an attention behind it; the other layers stay float."""

    def __init__(self, body: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(8)
        self.up, self.gate, self.down = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3))
        self.last, self.norm, self.body = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), body

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.last(self.body(self, x))
        return y, F.scaled_dot_product_attention(y, y, y)


BODIES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "gelu": lambda n, x: F.gelu(n.up(x)),
    "silu": lambda n, x: F.silu(n.up(x)),
    "gated": lambda n, x: F.silu(n.gate(x)) * n.up(x),
    "product": lambda n, x: n.gate(x) * torch.tanh(n.up(x)),
    "attention": lambda n, x: F.scaled_dot_product_attention(n.norm(x), n.norm(x), x),
    "moved": lambda n, x: F.gelu(n.up(x)).unflatten(-1, (4, -1)).flatten(2),
}


def tokens(count: int, seed: int, large: float = LARGE) -> Tensor:
    """``[count, 25, WIDTH]``: of each sample the first token is as much larger than the others."""
    x = torch.randn(count, 25, WIDTH, generator=torch.Generator().manual_seed(seed))
    x[:, 0] *= large
    return x


def made(net: nn.Module, large: float = LARGE, qconfig: Any = DEFAULT, **options: Any) -> qfx.QuantizedModel:
    given = {"": qconfig, "module_name": [("up", None), ("gate", None)]}
    return qfx.quantize_fx(net, given, [tokens(8, seed, large) for seed in range(3)], **options)


def by_rows(model: Any) -> set[str]:
    return {r.module_path for r in model.report if r.reason == BY_ROWS.reason}


def errors(net: nn.Module, model: Any, x: Tensor) -> Tensor:
    """The relative error of each row of the layer's result."""
    with torch.no_grad():
        want, got = net(x)[0], model(x)[0]
    return (got - want).norm(dim=-1) / want.norm(dim=-1)


def is_exact(model: qfx.QuantizedModel, x: Tensor) -> bool:
    """Whether the program computes what the QDQ graph means."""
    return all(map(torch.equal, model(x), interpret_integers(model.graph_module(), (x,)).output))


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_rows_of_other_sizes_have_scales_of_their_own(body: Callable[[Any, Tensor], Tensor]) -> None:
    net, x = Net(body).eval(), tokens(4, 9)
    model, shared = made(net), made(net, qconfig=SHARED)
    assert "last" in by_rows(model)
    assert not by_rows(shared)
    assert is_exact(model, x)
    assert model.state_dict().keys() >= {"last.weight", "last.bias"}
    assert errors(net, model, x).median() < 0.6 * errors(net, shared, x).median()


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_rows_of_one_size_share_a_scale(body: Callable[[Any, Tensor], Tensor]) -> None:
    assert not by_rows(made(Net(body).eval(), large=1.0)) & {"last"}


def test_without_a_rotation_there_is_one_scale() -> None:
    assert not by_rows(made(Net(BODIES["gelu"]).eval(), rotation=False))


def test_without_data_there_is_one_scale() -> None:
    prepared = qfx.prepare_fx(Net(BODIES["gelu"]).eval(), {"": DEFAULT}, (tokens(1, 0),))
    with pytest.raises(qfx.CalibrationError):
        qfx.convert_fx(prepared)


def test_errors_of_weights_are_made_good_as_in_other_layers() -> None:
    net = Net(BODIES["gelu"]).eval()
    model = made(net)
    (record,) = (r for r in model.report if r.module_path == "last" and r.op == "linear")
    assert record.decision == "int8"
    assert record.recovery == ("its input rotated in blocks of 64", "weights rounded adaptively", "bias corrected")
    plain = made(net, adaptive_rounding=False, bias_correction=False)
    assert by_rows(plain) == by_rows(model)
    seen = torch.cat([tokens(8, seed) for seed in range(3)])
    with torch.no_grad():
        shift, plain_shift = ((m(seen)[0] - net(seen)[0]).mean((0, 1)).norm() for m in (model, plain))
    assert shift < 0.5 * plain_shift


class Twice(Net):
    """One layer for a value whose rows differ and for one whose rows don't."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, z = super().forward(x)
        return y, z + self.last(self.norm(x))


class Onward(Net):
    """A layer by rows whose result another reads as integers."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = torch.relu(self.last(self.body(self, x)))
        return self.down(y), F.scaled_dot_product_attention(y, y, y)


@pytest.mark.parametrize("kind", [Twice, Onward])
def test_such_layers_stand_beside_others(kind: type[Net], tmp_path: Path) -> None:
    net, x = kind(BODIES["gelu"]).eval(), tokens(4, 9)
    model = made(net)
    assert "last" in by_rows(model)
    assert is_exact(model, x)
    qfx.save(model, tmp_path / "model.qfx")
    assert all(map(torch.equal, qfx.load(tmp_path / "model.qfx")(x), model(x)))


def test_a_prepared_model_converts_twice_to_the_same() -> None:
    prepared, x = qfx.prepare_fx(Net(BODIES["gelu"]).eval(), {"": DEFAULT}, (tokens(1, 0),)), tokens(4, 9)
    with torch.no_grad():
        prepared(x)
    first, second = qfx.convert_fx(prepared), qfx.convert_fx(prepared)
    assert by_rows(first) == by_rows(second)
    assert by_rows(first)
    assert all(map(torch.equal, first(x), second(x)))
