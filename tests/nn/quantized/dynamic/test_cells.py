"""The dynamic LSTMCell, GRUCell and RNNCell: a step of the layers, called as the float cells."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from qfx.errors import ConversionError, InputError, UnsupportedError
from qfx.nn.quantized import dynamic
from qfx.quantization import float16_dynamic_qconfig, per_channel_dynamic_qconfig, per_tensor_dynamic_qconfig

ROWS = {"LSTM": "S140", "GRU": "S141", "RNN": "S142"}
CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    **{kind: (kind, {}) for kind in ROWS},
    **{f"{kind} without bias": (kind, {"bias": False}) for kind in ROWS},
    "RNN with relu": ("RNN", {"nonlinearity": "relu"}),
}
each_cell = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.inventory(ROWS[kind])) for n, (kind, _) in CELLS.items()]
)


def cell(name: str, qconfig: Any = per_channel_dynamic_qconfig, inputs: int = 30, hidden: int = 50) -> Any:
    kind, arguments = CELLS[name]
    torch.manual_seed(4)
    made = getattr(nn, f"{kind}Cell")(inputs, hidden, **arguments).eval().requires_grad_(False)
    made.qconfig = qconfig
    return made


def quantized(mod: Any) -> Any:
    return getattr(dynamic, type(mod).__name__).from_float(mod)


def listed(states: Any) -> tuple[Tensor, ...]:
    return states if isinstance(states, tuple) else (states,)


def states_for(mod: Any, *batch: int) -> Any:
    made = tuple(torch.rand(*batch, mod.hidden_size) * 2 - 1 for _ in range(2 if isinstance(mod, nn.LSTMCell) else 1))
    return made if len(made) > 1 else made[0]


@each_cell
@pytest.mark.parametrize("batch", [(), (1,), (5,)])
@pytest.mark.parametrize("qconfig", [per_tensor_dynamic_qconfig, per_channel_dynamic_qconfig, float16_dynamic_qconfig])
def test_is_close_to_the_float_cell(name: str, batch: tuple[int, ...], qconfig: Any) -> None:
    mod = cell(name, qconfig)
    q, x = quantized(mod), torch.randn(*batch, 30)
    for hx in ((), (states_for(mod, *batch),)):
        ours, theirs = listed(q(x, *hx)), listed(mod(x, *hx))
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert a.shape == b.shape
            assert float(nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)) > 0.999


@each_cell
def test_is_a_step_of_the_layer(name: str) -> None:
    mod = cell(name)
    kind, arguments = CELLS[name]
    layer = getattr(dynamic, kind)(30, 50, **arguments)
    q, x, hx = quantized(mod), torch.randn(3, 30), states_for(mod, 3)
    ends = ("", "_scale", "_zero_point")
    state = q.state_dict()
    own = {f"{n}_l0{end}": state[n + end] for n in mod.state_dict() for end in ends if n + end in state}
    layer.load_state_dict({**own, "input_per_row": state["input_per_row"]})
    given = tuple(h.unsqueeze(0) for h in listed(hx))
    _, after = layer(x.unsqueeze(0), given if len(given) > 1 else given[0])
    for ours, theirs in zip(listed(q(x, hx)), listed(after), strict=True):
        assert torch.equal(ours, theirs[0])


@each_cell
def test_state_survives(name: str) -> None:
    q, x = quantized(cell(name)), torch.randn(2, 30)
    kind, arguments = CELLS[name]
    fresh = getattr(dynamic, f"{kind}Cell")(30, 50, **arguments)
    fresh.load_state_dict(q.state_dict())
    for other in (fresh, copy.deepcopy(q), pickle.loads(pickle.dumps(q))):
        for ours, theirs in zip(listed(other(x)), listed(q(x)), strict=True):
            assert torch.equal(ours, theirs)
    assert set(q.get_weight()) | set(q.get_bias()) == set(q.state_dict()) - {"input_per_row"}


@each_cell
def test_mistakes(name: str) -> None:
    mod = cell(name)
    q, x, hx = quantized(mod), torch.randn(2, 30), states_for(mod, 2)
    bad = [
        (torch.randn(2, 29),),
        (torch.randn(1, 2, 30),),
        (x.double(),),
        (x, states_for(mod, 3)),
    ]
    for arguments in (*bad, (x, "state")):
        with pytest.raises(InputError):
            q(*arguments)
    with pytest.raises(ConversionError, match="Linear"):
        type(q).from_float(nn.Linear(3, 4))
    with pytest.raises(UnsupportedError, match="gradient"):
        listed(q(x.requires_grad_(), hx))[0].sum().backward()


@pytest.mark.inventory("S142")
def test_an_rnn_cell_has_two_nonlinearities() -> None:
    assert repr(dynamic.RNNCell(3, 4, False, "relu")) == "RNNCell(3, 4, bias=False, nonlinearity=relu, dtype=qfx.qint8)"
    with pytest.raises(ConversionError, match="sigmoid"):
        dynamic.RNNCell(3, 4, nonlinearity="sigmoid")


@pytest.mark.parametrize("cls", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_an_empty_batch_has_an_empty_state(cls: type[nn.Module]) -> None:
    cell = cls(6, 5)
    quantized = getattr(dynamic, cls.__name__).from_float(cell)
    want, got = (made(torch.randn(0, 6)) for made in (cell, quantized))
    want, got = (made if isinstance(made, tuple) else (made,) for made in (want, got))
    assert [h.shape for h in got] == [h.shape for h in want]
