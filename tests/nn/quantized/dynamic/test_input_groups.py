"""Eager layers whose inputs have a scale for a group of each row: the numbers of the graph's ops, and their state."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qfx
from qfx.errors import UnsupportedError
from qfx.nn.quantized import dynamic
from qfx.ops.compute.integer import linear_dynamic_grouped
from qfx.passes.weight_only import store_weight
from qfx.quantization import default_weight_observer, per_group_dynamic_quant_observer, quantize_dynamic

FORMS: dict[str, dict[str, Any]] = {
    f"{bits}-{size}-{'symmetric' if symmetric else 'affine'}": {
        "bits": bits,
        "group_size": size,
        "symmetric": symmetric,
    }
    for bits in (8, 4)
    for size in (32, None)
    for symmetric in (True, False)
}
QCONFIGS: dict[str, Any] = {
    **{name: qfx.groups_dynamic_qconfig(**form) for name, form in FORMS.items()},
    "int8 a channel": qfx.QConfigDynamic(per_group_dynamic_quant_observer),
    "int8 a tensor": qfx.QConfigDynamic(per_group_dynamic_quant_observer, default_weight_observer),
}
X = torch.randn(3, 5, 64, generator=torch.Generator().manual_seed(1))


def layer(form: str, seed: int = 0, *, bias: bool = True) -> Any:
    torch.manual_seed(seed)
    made: Any = nn.Linear(64, 33, bias).requires_grad_(False)
    made.qconfig = QCONFIGS[form]
    return made


def quantized(form: str, seed: int = 0) -> dynamic.Linear:
    return dynamic.Linear.from_float(layer(form, seed))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("form", QCONFIGS)
def test_equals_the_definition_bit_for_bit(form: str, bias: bool) -> None:
    mod = layer(form, bias=bias)
    expected = linear_dynamic_grouped(X, store_weight(mod.weight, mod.qconfig.weight()), mod.bias, group_size=32)
    assert torch.equal(dynamic.Linear.from_float(mod)(X), expected)


@pytest.mark.parametrize("form", QCONFIGS)
def test_the_state_is_the_layer(form: str) -> None:
    q = quantized(form)
    expected, other = q(X), quantized(form, seed=1)
    assert not torch.equal(other(X), expected)
    other.load_state_dict(q.state_dict())
    assert torch.equal(other(X), expected)
    for twin in (copy.deepcopy(q), pickle.loads(pickle.dumps(q)), q.float()):
        assert torch.equal(twin(X), expected)
        assert repr(twin) == repr(q)


@pytest.mark.parametrize("form", FORMS)
def test_a_fresh_layer_takes_the_state(form: str) -> None:
    q, fresh = quantized(form), dynamic.Linear(64, 33, **FORMS[form], input_group=32)
    assert bool((fresh(X) == 0).all())
    assert repr(fresh) == repr(q)
    assert "input_group=32" in repr(q)
    fresh.load_state_dict(q.state_dict())
    assert torch.equal(fresh(X), q(X))


@pytest.mark.parametrize("form", QCONFIGS)
def test_the_weight_is_that_of_the_float_layer_rounded(form: str) -> None:
    q, mod = quantized(form), layer(form)
    assert torch.equal(q.weight + 0, store_weight(mod.weight, mod.qconfig.weight()).values())


# ---------------------------------------------------------------- whole models


class Net(nn.Module):
    """In graph mode the bag stays a module, and so does what can't be traced."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.words, self.bag = nn.Embedding(9, 64), nn.EmbeddingBag(9, 64, mode="sum")
        self.fc, self.inside, self.head = nn.Linear(64, 64), nn.Sequential(nn.Linear(64, 64)), nn.Linear(64, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.inside(torch.relu(self.fc(self.words(ids) + self.bag(ids)[:, None]))))


IDS = torch.tensor([[1, 8, 0], [2, 5, 5], [2, 2, 2]])


@pytest.mark.parametrize("form", QCONFIGS)
def test_eager_and_graph_mode_compute_the_same(form: str) -> None:
    swapped = quantize_dynamic(Net().eval(), dict.fromkeys((nn.Linear, nn.Embedding, nn.EmbeddingBag), QCONFIGS[form]))
    assert {m.input_group for m in swapped.modules() if isinstance(m, dynamic.Linear)} == {32}
    mapping = {"": QCONFIGS[form], "non_traceable_module_name": ["inside"]}
    graph = qfx.quantize_fx(Net().eval(), mapping, [(IDS,)])
    assert torch.equal(swapped(IDS), graph(IDS))
    file = io.BytesIO()
    qfx.save(graph, file)
    assert torch.equal(qfx.load(io.BytesIO(file.getvalue()))(IDS), graph(IDS))
    reasons = {r.module_path: r.reason for r in graph.report}
    assert all("one scale for 32 features of a row" in reasons[name] for name in ("fc", "inside.0", "head"))


def test_attention_has_projections_with_inputs_by_groups() -> None:
    torch.manual_seed(4)
    mod = nn.MultiheadAttention(64, 4, batch_first=True).eval()
    made = quantize_dynamic(nn.Sequential(mod), {nn.MultiheadAttention: QCONFIGS["8-None-symmetric"]})[0]
    assert {m.input_group for m in made.modules() if isinstance(m, dynamic.Linear)} == {32}
    with torch.no_grad():
        expected, got = mod(X, X, X)[0], made(X, X, X)[0]
    assert float((got - expected).norm() / expected.norm()) < 0.02  # 8 bits of inputs and weights, twice


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize("name", ["LSTM", "GRU", "LSTMCell", "GRUCell", "RNNCell"])
@pytest.mark.parametrize("form", ["8-None-symmetric", "int8 a channel"])
def test_recurrent_layers_refuse_them(name: str, form: str) -> None:
    mod = getattr(nn, name)(8, 2)
    mod.qconfig = QCONFIGS[form]
    with pytest.raises(UnsupportedError, match="scale a group"):
        getattr(dynamic, name).from_float(mod)


@pytest.mark.parametrize(
    "wrong",
    [
        {"input_group": 32},
        {"bits": 8, "input_group": 33},
        {"bits": 8, "input_group": 64, "group_size": 32},
        {"dtype": torch.float16, "input_group": 32},
    ],
)
def test_other_forms_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match="Inputs can't have a scale"):
        dynamic.Linear(64, 2, **wrong)
