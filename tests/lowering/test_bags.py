"""Bags of embeddings in programs: sums, means and maxima of rows of tables of every form, as networks with many do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import qfx
import qfx.nn.quantized.dynamic as nnqd
from qfx.errors import InputError
from qfx.lowering.interpreter import interpret_integers
from qfx.models import QuantizedModel
from qfx.runtime import isa_names

QCONFIGS = {
    "static": qfx.get_default_qconfig(),
    "dynamic": qfx.default_dynamic_qconfig,
    "per tensor": qfx.per_tensor_dynamic_qconfig,
    "8 bits by groups": qfx.weight_only_qconfig(8, 32),
    "4 bits a row": qfx.weight_only_qconfig(4, None, symmetric=False),
    "float16": qfx.float16_dynamic_qconfig,
    "float": None,
}
FRONTENDS = ("symbolic", "export", "torchscript")


class Ranking(nn.Module):
    """As DLRM: a bag a categorical feature beside dense features, and layers over all of them side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList([
            nn.EmbeddingBag(40, 32, mode="sum", sparse=True), nn.EmbeddingBag(9, 32, padding_idx=0),
            nn.EmbeddingBag(300, 32, mode="max"), nn.EmbeddingBag(40, 32, mode="sum"),
        ])  # fmt: skip
        self.dense, self.top = nn.Linear(32, 32), nn.Linear(32 * 5, 3)

    def forward(self, dense: Tensor, rows: Tensor, ids: Tensor, offsets: Tensor, factors: Tensor) -> Tensor:
        first, second, third, last = self.tables
        bags = [first(rows), second(rows.clamp(max=8)), third(ids, offsets), last(ids, offsets, factors)]
        return self.top(torch.cat([torch.relu(self.dense(dense)), *bags], 1))


def inputs(batch: int, length: int, seed: int = 0, dtype: torch.dtype = torch.int64) -> tuple[Tensor, ...]:
    """Bags of unequal length, empty ones among them."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(40, (batch, length), generator=generator)
    lengths = torch.randint(6, (batch,), generator=generator)
    lengths[0] = 0
    ids = torch.randint(40, (int(lengths.sum()),), generator=generator)
    offsets = lengths.cumsum(0) - lengths
    factors = torch.randn(len(ids), generator=generator)
    dense = torch.randn(batch, 32, generator=generator)
    return dense, rows.to(dtype), ids.to(dtype), offsets.to(dtype), factors


def quantized(net: nn.Module, qconfig: str, *given: Tensor, frontend: str = "auto") -> QuantizedModel:
    about: Any = {"frontend": frontend, "calibration" if qconfig == "static" else "example_inputs": given}
    if qconfig == "static":
        about["calibration"] = [given]
    return qfx.quantize_fx(net.eval(), {"": QCONFIGS[qconfig]}, **about)


def one_program(model: QuantizedModel) -> bool:
    return [part.executable is not None for part in model.compiled.segments] == [True]


def assert_exact(model: QuantizedModel, *given: Tensor) -> None:
    want = interpret_integers(model.graph_module(), given).output
    for isa in isa_names():
        assert torch.equal(QuantizedModel(model.graph_module(), {}, isa)(*given), want)


@torch.no_grad()
@pytest.mark.parametrize("frontend", FRONTENDS)
@pytest.mark.parametrize("qconfig", QCONFIGS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_network_of_bags_is_one_program(qconfig: str, frontend: str) -> None:
    torch.manual_seed(0)
    net = Ranking().eval()
    model = quantized(net, qconfig, *inputs(6, 4), frontend=frontend)
    assert one_program(model) or qconfig == "float"  # torch computes float layers
    for batch, length in ((6, 4), (1, 9), (33, 1)):
        given = inputs(batch, length, seed=1)
        assert_exact(model, *given)
        if frontend != "export":  # which fixes dtypes
            assert torch.equal(model(*inputs(batch, length, 1, torch.int32)), model(*given))
        assert float(F.cosine_similarity(net(*given).flatten(), model(*given).flatten(), 0)) > 0.98


@torch.no_grad()
@pytest.mark.parametrize("padding", [None, 3, -1])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_float_bags_have_the_bits_of_torch(mode: str, padding: int | None) -> None:
    table = nn.EmbeddingBag(30, 19, mode=mode, padding_idx=padding)
    model = quantized(nn.Sequential(table), "float", torch.zeros(2, 3, dtype=torch.int64))
    assert one_program(model)
    ids = torch.randint(30, (50, 17), generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(ids), table(ids))


class Bags(nn.Module):
    def __init__(self, features: int, **settings: Any) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(30, features, **settings)

    def forward(self, ids: Tensor, offsets: Tensor) -> Tensor:
        return self.bag(ids, offsets)


@pytest.mark.parametrize("settings", [{}, {"include_last_offset": True}, {"padding_idx": 2, "mode": "max"}], ids=str)
@pytest.mark.parametrize("qconfig", ["dynamic", "per tensor", "8 bits by groups", "4 bits a row", "float16"])
def test_bags_are_those_of_the_quantized_module(qconfig: str, settings: dict[str, Any]) -> None:
    net, ids = Bags(32, **settings), torch.randint(30, (12,), generator=torch.Generator().manual_seed(0))
    offsets = torch.tensor([0, 2, 2, 7, 12])
    model = quantized(net, qconfig, ids, offsets)
    assert one_program(model)
    layer: Any = nn.EmbeddingBag(30, 32, _weight=net.bag.weight.detach(), **settings)
    layer.qconfig = QCONFIGS[qconfig]
    assert torch.equal(model(ids, offsets), nnqd.EmbeddingBag.from_float(layer)(ids, offsets))


@pytest.mark.parametrize("qconfig", QCONFIGS)
def test_no_bag_and_no_index_give_zeros(qconfig: str) -> None:
    model = quantized(Bags(32), qconfig, torch.arange(6), torch.tensor([0, 4]))
    nothing = torch.zeros(0, dtype=torch.int64)
    assert torch.equal(model(nothing, torch.tensor([0, 0])), torch.zeros(2, 32))
    assert model(nothing, nothing).shape == (0, 32)


@pytest.mark.parametrize("qconfig", QCONFIGS)
def test_what_has_no_place_is_an_error_in_words(qconfig: str) -> None:
    model = quantized(Bags(32), qconfig, torch.arange(6), torch.tensor([0, 4]))
    for ids, offsets in (([0, 30], [0]), ([-1], [0]), ([1, 2], [1, 2]), ([1, 2], [0, 3]), ([1, 2], [0, 2, 1])):
        with pytest.raises(InputError, match=r"outside of the table, which has 30 rows, or offsets do not rise"):
            model(torch.tensor(ids), torch.tensor(offsets))


@pytest.mark.parametrize("qconfig", QCONFIGS)
def test_a_saved_network_computes_the_same(qconfig: str, tmp_path: Path) -> None:
    model = quantized(Ranking(), qconfig, *inputs(6, 4))
    qfx.save(model, tmp_path / "model.qfx")
    given = inputs(3, 2, seed=2)
    assert torch.equal(qfx.load(tmp_path / "model.qfx")(*given), model(*given))


def test_bags_that_a_row_can_not_express_stay_outside() -> None:
    net = nn.Sequential(nn.EmbeddingBag(30, 8, max_norm=1.0), nn.Linear(8, 4))
    model = quantized(net, "static", torch.zeros(2, 3, dtype=torch.int64))
    assert [part.executable is not None for part in model.compiled.segments] == [False, True]
