"""Linear layers and tables with weights alone in fewer bits: the numbers of the graph's ops, and their state."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import qfx
from qfx.errors import ConversionError, InputError, QuantizationError, UnsupportedError
from qfx.nn.quantized import dynamic
from qfx.ops.compute.integer import linear_in_order
from qfx.passes.weight_only import store_weight
from qfx.quantization import quantize_dynamic

GROUPED: dict[str, dict[str, Any]] = {
    f"{bits}-{size}-{'symmetric' if symmetric else 'affine'}": {
        "bits": bits,
        "group_size": size,
        "symmetric": symmetric,
    }
    for bits in (8, 4)
    for size in (32, None)
    for symmetric in (True, False)
}
FORMS: dict[str, dict[str, Any]] = {
    **GROUPED,
    "float16": {"dtype": torch.float16},
    "bfloat16": {"dtype": torch.bfloat16},
}
QCONFIGS = {
    **{name: qfx.weight_only_qconfig(**form) for name, form in GROUPED.items()},
    "float16": qfx.float16_dynamic_qconfig,
    "bfloat16": qfx.bfloat16_dynamic_qconfig,
}
LAYERS = {
    "Linear": lambda: nn.Linear(64, 33),
    "Linear without bias": lambda: nn.Linear(64, 1, bias=False),
    "Embedding": lambda: nn.Embedding(9, 64, padding_idx=2),
    **{
        f"EmbeddingBag {mode}": lambda mode=mode: nn.EmbeddingBag(9, 64, mode=mode, padding_idx=2)
        for mode in ("sum", "mean", "max")
    },
}
IDS = torch.tensor([[1, 8, 0], [2, 5, 5], [2, 2, 2]])
X = torch.randn(3, 5, 64, generator=torch.Generator().manual_seed(1))


def layer(name: str, form: str, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    made: Any = LAYERS[name]().eval().requires_grad_(False)
    made.qconfig = QCONFIGS[form]
    return made


def quantized(name: str, form: str, seed: int = 0) -> Any:
    mod = layer(name, form, seed)
    return getattr(dynamic, type(mod).__name__).from_float(mod)


def given(name: str) -> Tensor:
    return X if name.startswith("Linear") else IDS


def by_definition(name: str, form: str) -> Tensor:
    """What the layer computes with the weight that its codes stand for."""
    mod = layer(name, form)
    weight = store_weight(mod.weight, QCONFIGS[form].weight()).values()
    if name.startswith("Linear"):
        return linear_in_order(X, weight, mod.bias)
    mod.weight.copy_(weight)
    return mod(IDS)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("form", FORMS)
def test_equals_the_definition_bit_for_bit(name: str, form: str) -> None:
    assert torch.equal(quantized(name, form)(given(name)), by_definition(name, form))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_bags_by_offsets_have_the_rows_of_the_table(form: str, mode: str, dtype: torch.dtype) -> None:
    q = quantized(f"EmbeddingBag {mode}", form)
    ids, offsets = IDS.reshape(-1).to(dtype), torch.tensor([0, 4, 4]).to(dtype)
    rows = q.weight.clone()
    assert torch.equal(q(ids, offsets), F.embedding_bag(ids, rows, offsets, mode=mode, padding_idx=2))
    if mode == "sum":
        factors = torch.linspace(-1, 1, 9)
        assert torch.equal(
            q(ids, offsets, factors),
            F.embedding_bag(ids, rows, offsets, mode=mode, per_sample_weights=factors, padding_idx=2),
        )


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("form", FORMS)
def test_the_state_is_the_layer(name: str, form: str) -> None:
    q = quantized(name, form)
    expected, other = q(given(name)), quantized(name, form, seed=1)
    assert not torch.equal(other(given(name)), expected)
    other.load_state_dict(q.state_dict())
    assert torch.equal(other(given(name)), expected)
    for twin in (copy.deepcopy(q), pickle.loads(pickle.dumps(q)), q.float()):
        assert torch.equal(twin(given(name)), expected)
        assert repr(twin) == repr(q)


@pytest.mark.parametrize("name", ["Linear", "Embedding", "EmbeddingBag mean"])
@pytest.mark.parametrize("form", FORMS)
def test_a_fresh_layer_takes_the_state(name: str, form: str) -> None:
    q = quantized(name, form)
    settings = {"mode": "mean"} if name.startswith("EmbeddingBag") else {}
    sizes = (64, 33) if name == "Linear" else (9, 64)
    padding = {} if name == "Linear" else {"padding_idx": 2}
    fresh = getattr(dynamic, type(q).__name__)(*sizes, **padding, **settings, **FORMS[form])
    assert bool((fresh(given(name)) == 0).all())
    assert repr(fresh) == repr(q)
    fresh.load_state_dict(q.state_dict())
    assert torch.equal(fresh(given(name)), q(given(name)))


@pytest.mark.parametrize("form", FORMS)
def test_a_state_of_another_form_is_refused(form: str) -> None:
    state = quantized("Linear", form).state_dict()
    for other in FORMS:
        if {n: (t.dtype, t.shape) for n, t in quantized("Linear", other).state_dict().items()} != {
            n: (t.dtype, t.shape) for n, t in state.items()
        }:
            with pytest.raises((QuantizationError, RuntimeError)):
                quantized("Linear", other).load_state_dict(state)


@pytest.mark.parametrize("name", ["8-32-affine", "4-None-symmetric"])
def test_scales_may_be_stored_in_either_width(name: str) -> None:
    small, normal = layer("Linear", name), quantized("Linear", name)
    small.weight *= 1e-5
    q = dynamic.Linear.from_float(small)
    assert q.state_dict()["weight_scale"].dtype is torch.float32
    assert normal.state_dict()["weight_scale"].dtype is torch.float16
    normal.load_state_dict(q.state_dict())
    assert torch.equal(normal(X), q(X))


def test_entries_that_make_no_sense_are_refused() -> None:
    q = quantized("Linear", "8-32-affine")
    state = q.state_dict()
    wrong = {
        "weight_scale": [-state["weight_scale"], state["weight_scale"][:, :1]],
        "weight_zero_point": [state["weight_zero_point"].long(), state["weight_zero_point"][:5]],
        "weight": [state["weight"].float(), state["weight"].to(torch.uint8)],
    }
    for entry, values in wrong.items():
        for value in values:
            with pytest.raises(QuantizationError, match=entry):
                q.load_state_dict({**state, entry: value})


@pytest.mark.parametrize("form", GROUPED)
def test_weights_answer_as_those_of_a_float_layer(form: str) -> None:
    q, mod = quantized("Linear", form), layer("Linear", form)
    assert q.weight.shape == mod.weight.shape
    values = store_weight(mod.weight, QCONFIGS[form].weight()).values()
    assert torch.equal(q.weight + 0, values)
    assert torch.equal(q.weight(), values)
    with pytest.raises(QuantizationError, match="from_float"):
        q.set_weight_bias(mod.weight, mod.bias)


# ---------------------------------------------------------------- whole models


class Net(nn.Module):
    """Every kind of layer that weights alone may be narrow of; in graph mode the bag stays a module."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.bag = nn.Embedding(9, 64), nn.EmbeddingBag(9, 64, mode="sum")
        self.fc, self.head = nn.Linear(64, 64), nn.Linear(64, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.relu(self.fc(self.words(ids) + self.bag(ids)[:, None])))


LOOKED_UP = (nn.Embedding, nn.EmbeddingBag)


def net() -> Net:
    torch.manual_seed(3)
    return Net().eval()


@pytest.mark.parametrize("form", FORMS)
def test_eager_and_graph_mode_compute_the_same(form: str) -> None:
    swapped = quantize_dynamic(net(), dict.fromkeys((nn.Linear, *LOOKED_UP), QCONFIGS[form]))
    assert {type(m).__module__.rpartition(".")[0] for m in swapped.children()} == {"qfx.nn.quantized.dynamic"}
    graph = qfx.quantize_fx(net(), {"": QCONFIGS[form]}, [(IDS,)])
    assert torch.equal(swapped(IDS), graph(IDS))
    file = io.BytesIO()
    qfx.save(graph, file)
    assert torch.equal(qfx.load(io.BytesIO(file.getvalue()))(IDS), graph(IDS))
    reasons = {r.module_path: r.reason for r in graph.report}
    stored = f"weights in {form[0]} bits" if form in GROUPED else form
    assert all(stored in reasons[name] for name in ("words", "bag", "fc", "head"))


def test_forms_mix_by_name() -> None:
    spec = {"fc": QCONFIGS["4-32-affine"], "head": QCONFIGS["bfloat16"], "bag": QCONFIGS["8-None-symmetric"]}
    made = quantize_dynamic(net(), spec)
    assert type(made.words) is nn.Embedding
    assert [made.fc.bits, made.head.dtype, made.bag.bits] == [4, torch.bfloat16, 8]
    assert torch.nn.functional.cosine_similarity(made(IDS).flatten(), net()(IDS).flatten(), 0) > 0.9


def test_bfloat16_by_dtype() -> None:
    made = quantize_dynamic(net(), dtype=torch.bfloat16)
    assert [made.fc.dtype, made.head.dtype] == [torch.bfloat16] * 2


def test_attention_has_projections_by_groups() -> None:
    torch.manual_seed(4)
    mod: Any = nn.MultiheadAttention(64, 4, batch_first=True).eval()
    made = quantize_dynamic(nn.Sequential(mod), {nn.MultiheadAttention: QCONFIGS["8-32-affine"]})[0]
    assert {m.bits for m in made.modules() if isinstance(m, dynamic.Linear)} == {8}
    with torch.no_grad():
        for weight in (mod.in_proj_weight, mod.out_proj.weight):
            weight.copy_(store_weight(weight, QCONFIGS["8-32-affine"].weight()).values())
        torch.testing.assert_close(made(X, X, X)[0], mod(X, X, X)[0])  # in another order of sums


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("table", LOOKED_UP)
def test_tables_by_torchs_names_are_off_by_a_step_of_their_row(table: type[nn.Module], bits: int) -> None:
    """A whole zero point moves a range by half a step."""
    name = "float_qparams_weight_only_qconfig" + ("_4bit" if bits == 4 else "")
    qconfig = getattr(qfx.quantization, name)
    torch.manual_seed(5)
    mod: Any = table(9, 64)
    made = quantize_dynamic(nn.Sequential(mod), {table: qconfig})[0]
    with torch.no_grad():
        reach = mod.weight.amax(1).clamp(min=0) - mod.weight.amin(1).clamp(max=0)
        off = (made.weight - mod.weight).abs().amax(1)
    ends = 1 + (2**bits - 1) * 2.0**-11  # and what rounding a scale to float16 moves the ends of a range by
    assert bool((off <= reach / (2**bits - 1) * ends).all())


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize("name", [n for n in dynamic.__all__ if n not in {"Linear", *(c.__name__ for c in LOOKED_UP)}])
def test_recurrent_layers_refuse_groups_and_bfloat16(name: str) -> None:
    if name == "MultiheadAttention":
        pytest.skip("its projections take them")
    mod = getattr(nn, name)(8, 2)
    for form in ("8-None-symmetric", "bfloat16"):
        mod.qconfig = QCONFIGS[form]
        with pytest.raises(UnsupportedError, match="scale a group" if form != "bfloat16" else "bfloat16"):
            getattr(dynamic, name).from_float(mod)


@pytest.mark.parametrize("name", ["Linear", "Embedding", "EmbeddingBag sum"])
def test_features_that_are_no_whole_groups_are_refused(name: str) -> None:
    mod = layer(name, "8-None-symmetric")
    mod.qconfig = qfx.weight_only_qconfig(4, 128)
    with pytest.raises(UnsupportedError, match=r"64 features .* no whole groups of 128"):
        getattr(dynamic, type(mod).__name__).from_float(mod)


def test_groups_with_quantized_activations_are_refused() -> None:
    mod = layer("Linear", "float16")
    mod.qconfig = qfx.QConfigDynamic(weight=qfx.PerGroupMinMaxObserver)
    with pytest.raises(ConversionError, match="quantizes activations"):
        dynamic.Linear.from_float(mod)


@pytest.mark.parametrize("wrong", [{"bits": 5}, {"bits": 4, "dtype": torch.float16}, {"bits": 8, "group_size": 0}])
def test_other_forms_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match="bits"):
        dynamic.Linear(64, 2, **wrong)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["Embedding", "EmbeddingBag max"])
def test_an_index_outside_is_an_error(name: str, form: str) -> None:
    with pytest.raises(InputError, match="from 0 to 8"):
        quantized(name, form)(torch.tensor([[0, 9]]))


@pytest.mark.parametrize("form", FORMS)
def test_a_weight_that_is_not_finite_is_refused(form: str) -> None:
    for name in ("Linear", "Embedding"):
        mod = layer(name, form)
        mod.weight[3, 4] = torch.nan
        with pytest.raises(qfx.QfxError, match="finite"):
            getattr(dynamic, name).from_float(mod)
