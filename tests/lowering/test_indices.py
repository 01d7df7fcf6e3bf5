"""From token ids to outputs in one program: integer inputs, tables of rows, integers as floats, unit vectors."""

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
from qfx.ops import is_op
from qfx.runtime import isa_names

STATIC = qfx.get_default_qconfig()
QCONFIGS = {
    "static": STATIC,
    "dynamic": qfx.default_dynamic_qconfig,
    "per tensor": qfx.per_tensor_dynamic_qconfig,
    "per channel": qfx.per_channel_dynamic_qconfig,
    "8 bits a row": qfx.weight_only_qconfig(8, None),
    "4 bits a row": qfx.weight_only_qconfig(4, None, symmetric=False),
    "float16": qfx.float16_dynamic_qconfig,
    "float": None,
}
IN_TORCH = {"8 bits a row", "4 bits a row", "float16", "float"}
"""Qconfigs that leave products to torch."""


class Looked(nn.Module):
    """Ids to rows, as a module and as a function."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.kinds, self.fc = nn.Embedding(30, 16, padding_idx=3), nn.Embedding(2, 16), nn.Linear(16, 8)

    def forward(self, ids: Tensor) -> Tensor:
        return self.fc(self.words(ids) + F.embedding(ids, self.words.weight) + self.kinds.weight[1])


class Placed(nn.Module):
    """Rows at places that are a constant of the model."""

    def __init__(self) -> None:
        super().__init__()
        self.places, self.fc = nn.Embedding(12, 16), nn.Linear(16, 8)
        self.register_buffer("numbers", torch.arange(12).flip(0)[None])

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x + self.places(self.numbers))


class Encoder(nn.Module):
    """As sentence encoders: positions by length, a mask of int64, pooling over what is not padding, unit vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(30, 32), nn.Embedding(12, 32)
        self.norm, self.first, self.second = nn.LayerNorm(32), nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        seen = mask.to(torch.float32)
        x = self.norm(self.words(ids) + self.places.weight[: ids.shape[1]])
        bias = (1.0 - seen)[:, None, :] * -10000.0
        weights = torch.softmax(self.first(x) @ x.transpose(1, 2) + bias, -1)
        x = self.second(weights @ x) * seen[:, :, None]
        return F.normalize(x.sum(1) / seen[:, :, None].sum(1), dim=-1)


def ids_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(30, shape, generator=torch.Generator().manual_seed(seed))


def encoder_inputs(batch: int, length: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    lengths = torch.arange(batch) % length + 1
    return ids_of(batch, length, seed=seed), (torch.arange(length) < lengths[:, None]).long()


def quantized(net: nn.Module, qconfig: str, *batches: tuple[Tensor, ...]) -> QuantizedModel:
    given: Any = {"calibration": list(batches)} if qconfig == "static" else {"example_inputs": batches[0]}
    if qconfig == "static":
        return qfx.quantize_fx(net.eval(), {"": QCONFIGS[qconfig]}, given["calibration"])
    return qfx.quantize_fx(net.eval(), {"": QCONFIGS[qconfig]}, **given)


def in_programs(model: QuantizedModel) -> list[bool]:
    return [part.executable is not None for part in model.compiled.segments]


def assert_in_programs(model: QuantizedModel, qconfig: str) -> None:
    """Whether torch runs nothing; or, under a qconfig that leaves it products, nothing else."""
    parts = [part.segment for part in model.compiled.segments if part.executable is None]
    assert qconfig in IN_TORCH or not parts
    assert all(is_op(node, "linear", "attention") for part in parts for node in part.nodes)


def assert_exact(model: QuantizedModel, *inputs: Tensor) -> None:
    want = interpret_integers(model.graph_module(), inputs).output
    for isa in isa_names():
        assert torch.equal(QuantizedModel(model.graph_module(), {}, isa)(*inputs), want)


@pytest.mark.parametrize("qconfig", QCONFIGS)
@pytest.mark.parametrize("shape", [(4,), (2, 5), (1, 1), (2, 3, 2)])
def test_rows_are_looked_up_in_the_program(qconfig: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = quantized(Looked(), qconfig, (ids_of(*shape),))
    assert_in_programs(model, qconfig)
    assert_exact(model, ids_of(*shape, seed=1))
    assert_exact(model, ids_of(shape[0] + 2, *shape[1:], seed=2))


@pytest.mark.parametrize("qconfig", QCONFIGS)
def test_indices_may_be_constants(qconfig: str) -> None:
    torch.manual_seed(0)
    model = quantized(Placed(), qconfig, (torch.randn(2, 12, 16),))
    assert_in_programs(model, qconfig)
    assert_exact(model, torch.randn(3, 12, 16))


@torch.no_grad()
@pytest.mark.parametrize("qconfig", QCONFIGS)
def test_an_encoder_is_one_program_whatever_batch_and_length(qconfig: str) -> None:
    torch.manual_seed(0)
    net = Encoder()
    model = quantized(net, qconfig, encoder_inputs(4, 8), encoder_inputs(4, 8, seed=1))
    assert_in_programs(model, qconfig)
    for batch, length in ((4, 8), (1, 12), (3, 1)):
        assert_exact(model, *encoder_inputs(batch, length))
        ids, mask = encoder_inputs(batch, length)
        assert float(F.cosine_similarity(net(ids, mask), model(ids, mask)).min()) > 0.99


@torch.no_grad()
@pytest.mark.parametrize("frontend", ["symbolic", "export", "torchscript"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_unit_vectors_are_part_of_the_program(frontend: str) -> None:
    class Unit(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(16, 8)

        def forward(self, x: Tensor) -> Tensor:
            return F.normalize(self.fc(x), dim=-1)

    x = torch.randn(3, 16)
    model = qfx.quantize_fx(Unit().eval(), {"": QCONFIGS["dynamic"]}, example_inputs=(x,), frontend=frontend)
    assert in_programs(model) == [True]
    torch.testing.assert_close(model(x).square().sum(-1), torch.ones(3))


@pytest.mark.parametrize("qconfig", ["dynamic", "per tensor", "per channel"])
def test_rows_of_integers_are_those_of_the_quantized_module(qconfig: str) -> None:
    table = nn.Embedding(30, 16)
    model = quantized(nn.Sequential(table), qconfig, (ids_of(3, 4),))
    layer: Any = nn.Embedding(30, 16, _weight=table.weight.detach())
    layer.qconfig = QCONFIGS[qconfig]
    twin = nnqd.Embedding.from_float(layer)
    assert torch.equal(model(ids_of(5, 4)), twin(ids_of(5, 4)))
    assert [r.decision for r in model.report] == ["int8"]


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.int16, torch.uint8])
def test_integers_of_any_width_are_taken(dtype: torch.dtype) -> None:
    net = Encoder().eval()
    model = quantized(net, "dynamic", encoder_inputs(2, 6))
    ids, mask = encoder_inputs(3, 5)
    want = model(ids, mask)
    for _ in range(2):
        assert torch.equal(model(ids.to(dtype), mask.to(dtype)), want)
        assert torch.equal(model(ids.T.contiguous().T, mask.T.contiguous().T), want)


@pytest.mark.parametrize("name", ["ids", "mask"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.float64])
def test_what_are_no_integers_is_an_error_with_the_name(name: str, dtype: torch.dtype) -> None:
    model = quantized(Encoder(), "dynamic", encoder_inputs(2, 6))
    given = dict(zip(("ids", "mask"), encoder_inputs(2, 6), strict=True))
    given[name] = given[name].to(dtype)
    for _ in range(2):
        with pytest.raises(InputError, match=f"'{name}' has dtype {dtype}"):
            model(**given)


def test_a_mask_of_another_shape_is_an_error() -> None:
    model = quantized(Encoder(), "dynamic", encoder_inputs(2, 6))
    ids, mask = encoder_inputs(2, 6)
    for wrong in (mask[:, :5], mask[:, :, None], mask[0]):
        with pytest.raises(InputError):
            model(ids, wrong)


@pytest.mark.parametrize("qconfig", QCONFIGS)
def test_no_sequence_and_no_token_give_what_torch_gives(qconfig: str) -> None:
    net = Looked().eval()
    model = quantized(net, qconfig, (ids_of(2, 3),))
    for shape in ((0, 3), (2, 0), (0, 0)):
        assert model(ids_of(*shape)).shape == net(ids_of(*shape)).shape


@pytest.mark.parametrize("wrong", [30, -1])
@pytest.mark.parametrize("qconfig", QCONFIGS)
def test_an_index_outside_is_an_error_in_words(qconfig: str, wrong: int) -> None:
    model = quantized(Looked(), qconfig, (ids_of(2, 3),))
    with pytest.raises(InputError, match="outside of the table, which has 30 rows"):
        model(torch.tensor([[1, wrong, 2]]))


def test_longer_than_the_table_of_positions_is_an_error() -> None:
    model = quantized(Encoder(), "dynamic", encoder_inputs(2, 6))
    with pytest.raises(InputError):
        model(*encoder_inputs(2, 13))


@pytest.mark.parametrize("qconfig", QCONFIGS)
def test_a_saved_model_computes_the_same(qconfig: str, tmp_path: Path) -> None:
    model = quantized(Encoder(), qconfig, encoder_inputs(4, 8))
    qfx.save(model, tmp_path / "model.qfx")
    loaded = qfx.load(tmp_path / "model.qfx")
    assert torch.equal(loaded(*encoder_inputs(2, 5)), model(*encoder_inputs(2, 5)))
    assert torch.equal(loaded(*(x.int() for x in encoder_inputs(2, 5))), model(*encoder_inputs(2, 5)))


@pytest.mark.parametrize(
    "table", [nn.Embedding(30, 8, max_norm=1.0), nn.Embedding(30, 8, sparse=True)], ids=["max_norm", "sparse"]
)
def test_tables_that_a_row_can_not_express_stay_outside(table: nn.Embedding) -> None:
    model = quantized(nn.Sequential(table, nn.Linear(8, 4)), "static", (ids_of(2, 3),))
    assert in_programs(model) == [False, True]
