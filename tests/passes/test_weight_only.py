"""Weights alone in fewer bits: what is stored, what is computed from it, and which layers have them."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qfx
from qfx.lowering.interpreter import interpret_integers
from qfx.ops.qdq.decode import StoredWeight, decode_weight, pack_nibbles, unpack_nibbles
from qfx.passes.weight_only import store_weight
from qfx.quantization import QConfigMapping
from qfx.runtime import isa_names

GROUPED = {
    f"{bits}-{group}-{'symmetric' if symmetric else 'affine'}": qfx.weight_only_qconfig(bits, group, symmetric)
    for bits in (8, 4)
    for group in (32, 64, 128, None)
    for symmetric in (True, False)
}
HALVES = {"float16": qfx.float16_dynamic_qconfig, "bfloat16": qfx.bfloat16_dynamic_qconfig}
QCONFIGS: dict[str, Any] = {**HALVES, **GROUPED}


class Net(nn.Module):
    """Layers with every epilogue, one of them twice, of widths that all groups divide."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice = nn.Linear(128, 256), nn.Linear(256, 256)
        self.last = nn.Linear(256, 9, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = nn.functional.relu6(self.twice(x) + x)
        return self.last(self.twice(x) + x)


def net() -> Net:
    torch.manual_seed(5)
    return Net().eval()


X = torch.randn(2, 5, 128, generator=torch.Generator().manual_seed(6))


def quantized(qconfig: Any, model: nn.Module | None = None, x: Tensor = X) -> qfx.QuantizedModel:
    return qfx.quantize_fx(net() if model is None else model, {"": qconfig}, [(x,)])


def saved(model: qfx.QuantizedModel, **kwargs: Any) -> bytes:
    file = io.BytesIO()
    qfx.save(model, file, **kwargs)
    return file.getvalue()


def stored_weights(model: Any) -> dict[str, StoredWeight]:
    found = {}
    for node in model.compiled.graph.nodes:
        weight = node.meta.get("weights", {}).get("weight")
        if weight is not None and isinstance(weight.array, StoredWeight):
            found[node.name] = weight.array
    return found


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize("name", QCONFIGS)
def test_programs_compute_what_the_definition_says_on_every_level(name: str) -> None:
    model = quantized(QCONFIGS[name])
    content, expected = saved(model), interpret_integers(model, (X,)).output
    assert len(stored_weights(model)) == 4
    for isa in isa_names():
        torch.testing.assert_close(qfx.load(io.BytesIO(content), isa=isa)(X), expected, rtol=0, atol=0)
    for size in (1, 3):
        torch.testing.assert_close(model(X[:1, :size]), expected[:1, :size], rtol=0, atol=0)


@pytest.mark.parametrize("name", GROUPED)
def test_a_weight_is_off_by_half_a_step_of_its_group(name: str) -> None:
    observer = QCONFIGS[name].weight()
    weight = torch.randn(24, 256, generator=torch.Generator().manual_seed(7)) * torch.logspace(-3, 3, 24).unsqueeze(1)
    stored = store_weight(weight, observer)
    assert stored.scale is not None
    assert stored.problem() is None
    decoded = decode_weight(stored.codes, stored.scale, stored.zero_point, shape=stored.packed)
    groups = stored.scale.shape[1]
    steps = ((weight - decoded).reshape(24, groups, -1).abs() / stored.scale.float().unsqueeze(-1)).max()
    ends = (2**observer.bits - 1) * 2.0**-11  # what rounding a scale to float16 moves the ends of a range by
    assert steps <= (0.5 if stored.zero_point is None else 1.0) + ends  # a zero point moves a range by half a step
    assert (stored.zero_point is None) == ("symmetric" in name)


@pytest.mark.parametrize(("name", "error"), [("float16", 2.0**-11), ("bfloat16", 2.0**-8)])
def test_sixteen_bits_round_and_saturate(name: str, error: float) -> None:
    weight = torch.tensor([[1.0, -3.14159, 1e-3, 3.0e38, -3.4e38]])
    decoded = decode_weight(store_weight(weight, QCONFIGS[name].weight()).codes)
    largest = torch.finfo(getattr(torch, name)).max
    torch.testing.assert_close(decoded, weight.clamp(-largest, largest), rtol=error, atol=0)


def test_scales_are_float16_unless_one_of_them_would_lose_digits() -> None:
    weight = torch.randn(4, 64, generator=torch.Generator().manual_seed(8))
    for factor, dtype in ((1.0, torch.float16), (1e-5, torch.float32), (1e7, torch.float32)):
        stored = store_weight(torch.cat([weight, weight * factor]), qfx.int4_weight_only_qconfig.weight())
        assert stored.scale is not None
        assert stored.scale.dtype is dtype
    assert store_weight(weight * 0, qfx.int4_weight_only_qconfig.weight()).scale.unique().tolist() == [1.0]  # type: ignore[union-attr]


@pytest.mark.parametrize("count", [1, 2, 7, 16])
def test_every_code_of_four_bits_survives_packing(count: int) -> None:
    codes = torch.arange(-8, 8, dtype=torch.int8)[:count]
    packed = pack_nibbles(codes)
    assert packed.tolist() == [
        (int(codes[i]) & 15) | ((int(codes[i + 1]) & 15) << 4 if i + 1 < count else 0) for i in range(0, count, 2)
    ]
    assert unpack_nibbles(packed, (count,)).equal(codes)


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize("bits", [8, 4])
def test_models_files_and_kernels_hold_no_more_than_codes_and_scales(bits: int) -> None:
    model = nn.Sequential(nn.Linear(512, 512, bias=False)).eval()
    made = quantized(qfx.weight_only_qconfig(bits, 32, symmetric=False), model, torch.randn(1, 512))
    weights = 512 * 512
    wanted = weights * bits // 8 + weights // 32 * (2 + bits / 8)
    state = made.state_dict()
    assert sum(t.nbytes for t in state.values()) == wanted
    assert wanted <= len(saved(made)) < wanted + 8000  # the graph, as text
    (part,) = made.explain().parts
    groups = weights // 32 * 3  # a zero point is a byte there
    assert part.memory.packed_bytes == weights * bits // 8 + groups + 512 * 4


def test_a_layer_that_is_used_twice_is_stored_once() -> None:
    assert len({w.codes.data_ptr() for w in stored_weights(quantized(qfx.int4_weight_only_qconfig)).values()}) == 3


# ---------------------------------------------------------------- which layers


def test_qconfigs_of_every_kind_mix_by_name() -> None:
    layers = {
        "static": qfx.get_default_qconfig(),
        "dynamic": qfx.default_dynamic_qconfig,
        **{f"layer_{name}".replace("-", "_"): qconfig for name, qconfig in QCONFIGS.items()},
        "plain": None,
    }
    torch.manual_seed(9)
    model = nn.Sequential()
    for name in layers:
        model.add_module(name, nn.Linear(128, 128))
    model.eval()
    mapping = QConfigMapping()
    for name, qconfig in layers.items():
        mapping.set_module_name(name, qconfig)
    made = qfx.quantize_fx(model, mapping, [(X,)])
    decided = {r.module_path: r for r in made.report if r.is_layer}
    assert [decided[name].decision for name in ("static", "dynamic", "plain")] == ["int8", "int8", "float"]
    for name, qconfig in QCONFIGS.items():
        bits = "weights stored as" if name in HALVES else f"weights in {qconfig.weight().bits} bits"
        assert bits in decided[f"layer_{name}".replace("-", "_")].reason
    assert len(stored_weights(made)) == len(QCONFIGS)
    with torch.no_grad():
        torch.testing.assert_close(made(X), interpret_integers(made, (X,)).output, rtol=0, atol=0)


def test_a_width_that_no_group_divides_stays_float_with_the_reason() -> None:
    model = nn.Sequential(nn.Linear(128, 96), nn.Linear(96, 33), nn.Linear(33, 2)).eval()
    made = quantized(qfx.weight_only_qconfig(4, 64), model)
    reasons = {r.module_path: r.reason for r in made.report}
    assert "one scale for 64 features" in reasons["0"]
    assert reasons["1"] == "its 96 features are no whole groups of 64, which share a scale"
    assert "33 features" in reasons["2"]
    by_rows = quantized(qfx.weight_only_qconfig(4, None), model)
    assert len(stored_weights(by_rows)) == 3
    torch.testing.assert_close(by_rows(X), interpret_integers(by_rows, (X,)).output, rtol=0, atol=0)


REFUSED = {
    "static activations": qfx.QConfig(qfx.HistogramObserver, qfx.PerGroupMinMaxObserver),
    "dynamic activations": qfx.QConfigDynamic(weight=qfx.PerGroupMinMaxObserver),
}


@pytest.mark.parametrize("name", REFUSED)
def test_groups_are_multiplied_with_float_activations_only(name: str) -> None:
    made = quantized(REFUSED[name])
    assert all("float activations" in r.reason for r in made.report.layers())
    torch.testing.assert_close(made(X), net()(X))


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(64), nn.Linear(64, 192), nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        return self.out(nn.functional.scaled_dot_product_attention(q, k, v))


@pytest.mark.parametrize("name", QCONFIGS)
def test_activations_stay_as_they_are(name: str) -> None:
    torch.manual_seed(10)
    qconfig = QCONFIGS[name]
    if getattr(qconfig.weight(), "group_size", None) == 128:
        pytest.skip("128 does not divide 64")
    made = quantized(qconfig, Attends().eval(), torch.randn(2, 7, 64))
    reasons = {r.op: r.reason for r in made.report}
    assert reasons["attention"] == "its dynamic qconfig keeps activations in float"
    assert not any("rotated" in reason for r in made.report for reason in r.reasons)


def test_a_weight_that_is_not_finite_is_named() -> None:
    model = net()
    with torch.no_grad():
        model.twice.weight[3, 4] = torch.nan
    with pytest.raises(qfx.ConversionError, match="twice is not finite"):
        quantized(qfx.int4_weight_only_qconfig, model)


def test_shapes_need_not_be_known() -> None:
    made = qfx.quantize_fx(net(), {"": qfx.int4_weight_only_qconfig})
    torch.testing.assert_close(made(X), quantized(qfx.int4_weight_only_qconfig)(X), rtol=0, atol=0)


@pytest.mark.parametrize(
    "arguments", [{"bits": 5}, {"group_size": 48}, {"group_size": True}, {"group_size": 0}, {"bits": 16}]
)
def test_other_bits_and_groups_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(qfx.QConfigError, match="bits" if "bits" in arguments else "group_size"):
        qfx.weight_only_qconfig(**arguments)


# ---------------------------------------------------------------- tables of rows


class Tied(nn.Module):
    """Rows of a table whose weight the head has too."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(33, 128, padding_idx=2), nn.Linear(128, 33, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        rows = self.table(ids)
        return rows, self.head(rows)


IDS = torch.arange(33).reshape(3, 11)


@pytest.mark.parametrize("name", QCONFIGS)
def test_tables_give_the_rows_that_their_codes_stand_for_on_every_level(name: str) -> None:
    torch.manual_seed(12)
    net = Tied().eval()
    made = quantized(QCONFIGS[name], net, IDS)
    content = saved(made)
    stored = store_weight(net.table.weight, QCONFIGS[name].weight())
    rows = decode_weight(stored.codes, stored.scale, stored.zero_point, shape=stored.packed)
    assert rows[2].eq(0).all()  # what is not trained stays 0
    expected = interpret_integers(made, (IDS,)).output
    torch.testing.assert_close(expected[0], rows[IDS], rtol=0, atol=0)
    for isa in isa_names():
        loaded = qfx.load(io.BytesIO(content), isa=isa)
        for given in (IDS, IDS.int()):
            torch.testing.assert_close(loaded(given), expected, rtol=0, atol=0)
    uses = [r.reason.rpartition(", ")[2] for r in made.report.layers()]
    assert uses == ["looked up as float32", "arithmetic in float32"]
    assert len(made.explain().parts) == 1


FORMATS = {"4 bits": (qfx.int4_weight_only_qconfig, 500 * 64 // 2 + 500 * 2 * 2)}
FORMATS |= {name: (qconfig, 500 * 64 * 2) for name, qconfig in HALVES.items()}


@pytest.mark.parametrize("name", FORMATS)
def test_a_table_takes_the_bytes_of_its_format(name: str) -> None:
    qconfig, size = FORMATS[name]
    made = quantized(qconfig, nn.Sequential(nn.Embedding(500, 64)), IDS)
    assert sum(t.nbytes for t in made.state_dict().values()) == size


class Tables(nn.Module):
    """Bags and rows of large tables, and a small layer."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.head = nn.Embedding(20_000, 64), nn.Linear(64, 3)
        self.bag, self.other = nn.EmbeddingBag(9_000, 64, mode="sum"), nn.EmbeddingBag(500, 64, mode="max")

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.rows(ids).sum(1) + self.bag(ids) + self.other(ids))


def stored_bytes(observer: Any, weights: int) -> int:
    """Of as many weights in rows of 64: codes, scales of 16 bits, and zero points."""
    if observer.dtype in (torch.float16, torch.bfloat16):
        return 2 * weights
    groups = weights // (observer.group_size or 64)
    zeros = 0 if observer.qscheme.symmetric else groups
    return (weights + zeros) * observer.bits // 8 + 2 * groups


@pytest.mark.parametrize("name", QCONFIGS)
def test_a_file_is_little_more_than_what_its_tables_store(name: str) -> None:
    if "128" in name:
        pytest.skip("groups of 128 do not divide 64 features")
    made = quantized(QCONFIGS[name], Tables().eval(), IDS)
    content = saved(made)
    assert len(content) <= 1.02 * (stored_bytes(QCONFIGS[name].weight(), 29_503 * 64) + 3 * 4 + 65536)
    torch.testing.assert_close(qfx.load(io.BytesIO(content))(IDS), made(IDS), rtol=0, atol=0)


def test_tables_stay_float_with_the_reason() -> None:
    class Tables(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.kinds, self.narrow = nn.Embedding(900, 64), nn.Embedding(2, 64), nn.Embedding(900, 40)

        def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
            return self.words(ids) + self.kinds(ids), self.narrow(ids)

    def reasons(qconfig: Any) -> dict[str, str]:
        made = quantized(qconfig, Tables().eval(), IDS % 2)
        return {r.module_path: r.reason for r in made.report}

    found = reasons(qfx.int4_weight_only_qconfig)
    assert "weights in 4 bits" in found["words"]
    assert "0.1% of the weights: 4 bits save little" in found["kinds"]
    assert found["narrow"] == "its 40 features are no whole groups of 32, which share a scale"
    assert "float activations" in reasons(REFUSED["dynamic activations"])["words"]


# ---------------------------------------------------------------- state and files


@pytest.mark.parametrize("name", QCONFIGS)
def test_files_and_state_dicts_give_the_model_back(name: str) -> None:
    model = quantized(QCONFIGS[name])
    expected = model(X)
    for graph in (True, False):
        assert qfx.load(io.BytesIO(saved(model, graph=graph)))(X).equal(expected)
    loaded = qfx.load(io.BytesIO(saved(model)))
    assert saved(loaded) == saved(model)
    torch.manual_seed(11)
    other = quantized(QCONFIGS[name], Net().eval())
    assert not other(X).equal(expected)
    other.load_state_dict(loaded.state_dict())
    assert other(X).equal(expected)
    assert other.float()(X).equal(expected)


def test_a_state_that_makes_no_sense_is_refused() -> None:
    model = quantized(qfx.weight_only_qconfig(8, 32, symmetric=False))
    state = model.state_dict()
    for entry, value in (("first.weight_scale", -1.0), ("first.weight_scale", torch.nan)):
        wrong = {**state, entry: torch.full_like(state[entry], value)}
        with pytest.raises(qfx.QuantizationError, match=entry):
            model.load_state_dict(wrong)
    with pytest.raises(qfx.QuantizationError, match=r"not in -128\.\.127"):
        model.load_state_dict({**state, "first.weight_zero_point": torch.full((256, 4), 200)})


CODES, BYTES = torch.zeros(4, 6, dtype=torch.int8), torch.zeros(12, dtype=torch.uint8)
SCALE, ZEROS = torch.ones(4, 2), torch.zeros(4, 2, dtype=torch.int8)
NO_WEIGHTS = {
    "floats": StoredWeight(torch.zeros(4, 6)),
    "codes alone": StoredWeight(CODES),
    "halves with zero points": StoredWeight(CODES.half(), None, ZEROS),
    "a vector": StoredWeight(CODES[0], SCALE),
    "nothing": StoredWeight(CODES[:0], SCALE[:0]),
    "scales of other rows": StoredWeight(CODES, SCALE[:3]),
    "groups that do not divide": StoredWeight(CODES, torch.ones(4, 4)),
    "a scale a row in a vector": StoredWeight(CODES, SCALE[:, 0]),
    "scales in float64": StoredWeight(CODES, SCALE.double()),
    "bytes for codes": StoredWeight(CODES.to(torch.uint8), SCALE),
    "zero points of another number": StoredWeight(CODES, SCALE, ZEROS[:, :1]),
    "zero points of bytes": StoredWeight(CODES, SCALE, ZEROS.to(torch.uint8)),
    "too few bytes": StoredWeight(BYTES[:11], SCALE, None, (4, 6)),
    "unpacked zero points": StoredWeight(BYTES, SCALE, ZEROS, (4, 6)),
}


@pytest.mark.parametrize("name", NO_WEIGHTS)
def test_tensors_that_are_no_weight_are_told(name: str) -> None:
    assert NO_WEIGHTS[name].problem()
    assert StoredWeight(CODES, SCALE, ZEROS).problem() is None
    assert StoredWeight(BYTES, SCALE.half(), BYTES[:4], (4, 6)).problem() is None
    assert StoredWeight(CODES.bfloat16()).problem() is None
