"""Rotated inputs: which layers have them, that they change nothing but rounding, and what they gain."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import qfx
from qfx.lowering.interpreter import interpret_integers
from qfx.passes.rotation import rotated_weight

STATIC = {"": qfx.get_default_qconfig()}
DYNAMIC = {"": qfx.quantization.default_dynamic_qconfig}
X = torch.randn(3, 9, 64, generator=torch.Generator().manual_seed(2))


class Block(nn.Module):
    """A pre-norm block of a transformer whose normalizations have outlier channels."""

    def __init__(self, width: int = 64, hidden: int = 96, activation: Any = F.gelu) -> None:
        super().__init__()
        torch.manual_seed(8)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down, self.activation = nn.Linear(width, hidden), nn.Linear(hidden, width), activation
        for norm in (self.norm1, self.norm2):
            nn.init.normal_(norm.weight, 1.0, 0.1)
            with torch.no_grad():
                norm.weight[[3, 17]] = 40.0
        for layer in (self.q, self.k, self.v, self.up):
            with torch.no_grad():
                layer.weight[:, [3, 17]] /= 40.0

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (4, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        return self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x))
        return x + self.down(self.activation(self.up(self.norm2(x))))


def sqnr(want: Tensor, got: Tensor) -> float:
    return float(10 * torch.log10(want.square().sum() / (want - got).square().sum()))


def rotations(model: Any) -> list[Any]:
    return [r for r in model.report if r.op == "rotate"]


def rotated(model: Any) -> set[str]:
    return {r.module_path for r in model.report if any("rotated" in reason for reason in r.reasons)}


# A scale a row follows the rows already, one a tensor follows nothing: so much a rotation gains at least, in dB.
@pytest.mark.parametrize(("qconfigs", "gain"), [(STATIC, 3.0), (DYNAMIC, 1.0)], ids=["static", "dynamic"])
@pytest.mark.parametrize("activation", [F.gelu, F.silu, lambda x: F.silu(x) * (x + 1.0)], ids=["gelu", "silu", "gated"])
def test_layers_of_transformers_read_rotated_inputs(qconfigs: Any, gain: float, activation: Any) -> None:
    net = Block(activation=activation).eval()
    model = qfx.quantize_fx(net, qconfigs, [X])
    assert rotated(model) == {"q", "k", "v", "o", "up", "down"}
    assert len(rotations(model)) == 4  # queries, keys and values read the same
    assert sum(part.executable is not None for part in model.compiled.segments) == 1
    assert torch.equal(model(X), interpret_integers(model.graph_module(), (X,)).output)
    plain = qfx.quantize_fx(net, qconfigs, [X], rotation=False)
    assert not rotations(plain)
    assert not rotated(plain)
    with torch.no_grad():
        assert sqnr(net(X), model(X)) > sqnr(net(X), plain(X)) + gain
        assert sqnr(net(X), model(X)) > 30


def test_the_state_dict_keeps_its_names() -> None:
    names = set(qfx.quantize_fx(Block().eval(), STATIC, [X]).state_dict())
    plain = set(qfx.quantize_fx(Block().eval(), STATIC, [X], rotation=False).state_dict())
    assert {name for name in plain if ".weight" in name} == {name for name in names if ".weight" in name}


class Others(nn.Module):
    """Layers beside an attention that have nothing to gain, or nothing that a block divides."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(8)
        self.first, self.norm, self.narrow = nn.Linear(64, 64), nn.LayerNorm(64), nn.Linear(64, 40)
        self.inner, self.odd, self.kept = nn.LayerNorm(40), nn.Linear(40, 64), nn.Linear(64, 64)
        self.up, self.down = nn.Linear(64, 64), nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)  # reads an input of the model
        x = x + self.odd(self.inner(self.narrow(self.norm(x))))  # 40 channels have no block
        x = x + self.kept(self.norm(x))  # is to stay float
        x = x + self.down(torch.relu(self.up(x)))  # reads a residual stream; reads a ReLU
        return F.scaled_dot_product_attention(x, x, x)


def test_other_layers_are_left() -> None:
    model = qfx.quantize_fx(Others().eval(), {**STATIC, "module_name": [("kept", None)]}, [X])
    assert rotated(model) == {"narrow"}
    half = qfx.quantize_fx(Block().eval(), {"": qfx.quantization.float16_dynamic_qconfig}, [X])
    assert not rotations(half)


def test_networks_without_attention_are_left() -> None:
    net = nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 64)).eval()
    assert not rotations(qfx.quantize_fx(net, STATIC, [X]))


class Tied(nn.Module):
    """One weight, of which one use is rotated and one is not."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(8)
        self.layer, self.norm = nn.Linear(64, 64), nn.LayerNorm(64)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        y = self.layer(self.norm(y))
        return F.scaled_dot_product_attention(y, y, y)


@pytest.mark.parametrize("qconfigs", [STATIC, DYNAMIC], ids=["static", "dynamic"])
def test_a_weight_may_be_rotated_for_one_of_its_uses(qconfigs: Any) -> None:
    net = Tied().eval()
    model = qfx.quantize_fx(net, qconfigs, [X])
    assert len(rotations(model)) == 1
    with torch.no_grad():
        assert sqnr(net(X), model(X)) > 30
    assert torch.equal(model(X), interpret_integers(model.graph_module(), (X,)).output)


@pytest.mark.parametrize("block", [16, 32, 64])
def test_rotated_weights_undo_the_rotation_of_the_input(block: int) -> None:
    weight, x = torch.randn(5, 192), torch.randn(7, 192)
    rotate = qfx.ops.TABLE["rotate"].fn
    got = rotate(x.double(), block=block) @ rotated_weight(weight.double(), block=block).T
    torch.testing.assert_close(got, x.double() @ weight.double().T)
