"""Tables of rows under a dynamic qconfig: those that would save little by being rounded stay float."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qfx
from qfx.models import QuantizedModel

WIDTH = 16
DYNAMIC = qfx.default_dynamic_qconfig


class Tables(nn.Module):
    """Words, and as many kinds as asked; no other weights but those of a head."""

    def __init__(self, words: int, kinds: int, table: type[nn.Module] = nn.Embedding) -> None:
        super().__init__()
        self.words, self.kinds = nn.Embedding(words, WIDTH), table(kinds, WIDTH)
        self.head = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, ids: Tensor, kinds: Tensor) -> Tensor:
        return self.head(self.words(ids) + self.kinds(kinds))


def quantized(model: nn.Module, qconfig_dict: dict[str, Any]) -> QuantizedModel:
    inputs = torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)
    if isinstance(getattr(model, "kinds", None), nn.EmbeddingBag):
        inputs = inputs[0], inputs[1][:, None]
    return qfx.quantize_fx(model, qconfig_dict, example_inputs=inputs)


def decisions(model: QuantizedModel) -> dict[str, tuple[str, str]]:
    """Kind and reason of each module's call."""
    return {record.module_path: (record.decision, record.reason) for record in model.report}


@pytest.mark.parametrize("table", [nn.Embedding, nn.EmbeddingBag])
@pytest.mark.parametrize(("kinds", "kept"), [(1, True), (15, True), (16, False), (400, False)])
def test_a_table_of_less_than_a_64th_of_the_weights_stays_float(
    table: type[nn.Module], kinds: int, *, kept: bool
) -> None:
    rows = 64 * 16 - WIDTH - kinds  # 16 rows of kinds are a 64th of the weights
    found = decisions(quantized(Tables(rows, kinds, table), {"": DYNAMIC}))
    assert found["words"][0] == found["head"][0] == "int8"
    assert found["kinds"][0] == ("float" if kept else "int8")
    assert ("of the weights" in found["kinds"][1]) == kept


@pytest.mark.parametrize("entry", [{"module_name": [("kinds", DYNAMIC)]}, {"object_type": [(nn.Embedding, DYNAMIC)]}])
def test_a_table_that_the_qconfig_names_is_rounded(entry: dict[str, Any]) -> None:
    found = decisions(quantized(Tables(2000, 2), {"": DYNAMIC, **entry}))
    assert found["kinds"][0] == "int8"


def test_a_mapping_says_the_same() -> None:
    model = Tables(2000, 2)
    found = decisions(quantized(model, qfx.QConfigMapping().set_global(DYNAMIC)))  # type: ignore[arg-type]
    assert found["kinds"][0] == "float"
    named = qfx.QConfigMapping().set_global(DYNAMIC).set_module_name("kinds", DYNAMIC)
    assert decisions(quantized(model, named))["kinds"][0] == "int8"  # type: ignore[arg-type]


def test_a_table_that_the_head_shares_counts_once() -> None:
    tied = Tables(1008, 16)
    tied.head = nn.Linear(WIDTH, 1008, bias=False)
    tied.head.weight = tied.words.weight
    assert decisions(quantized(tied, {"": DYNAMIC}))["kinds"][0] == "int8"


def test_rows_of_a_kept_table_are_those_of_the_model() -> None:
    model = Tables(2000, 2)
    ids, kinds = torch.arange(3), torch.tensor([0, 1, 1])
    with torch.no_grad():
        model.words.weight.zero_()
        found = quantized(model, {"": DYNAMIC, "module_name": [("head", None)]})(ids, kinds)
        assert torch.equal(found, model(ids, kinds))
